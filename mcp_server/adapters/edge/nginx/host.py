"""An nginx on the host that the person runs and that includes the generated file."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from mcp_server.adapters.edge.nginx import master
from mcp_server.adapters.edge.sockets import established, tables
from mcp_server.domain.errors import Unavailable
from mcp_server.domain.routes import Target

LOOPBACK = "127.0.0.1"


class HostNginx:
    """Targets are the slots' published ports on loopback. `command` runs nginx with the person's
    configuration.
    """

    network = None

    def __init__(self, command: Sequence[str] = ("nginx",)) -> None:
        self._command = tuple(command)

    def target(self, workload: str, container_port: int, published_port: int) -> Target:
        return Target(host=LOOPBACK, port=published_port)

    def up(self, answers: Callable[[], bool]) -> None:
        """The person starts it."""

    def test(self) -> str | None:
        done = self._run("-t")
        return None if done.returncode == 0 else done.stderr.strip()[-500:]

    def reload(self) -> None:
        """Only the master of this nginx is signalled, whoever has its number by now."""
        try:
            defaults = master.built(self._run("-V").stderr)
            file = master.pid_file(self._run("-T", "-q").stdout, self._command, defaults)
            master.reload(file, self._command, defaults)
        except master.Stranger as stranger:
            raise Unavailable(f"nginx does not run: {stranger}.", next="Start nginx.") from stranger
        except PermissionError:
            self._let_it_reload()

    def _let_it_reload(self) -> None:
        """The program may have rights that this process has not."""
        done = self._run("-s", "reload")
        if done.returncode:
            raise Unavailable(
                f"nginx could not be told to reload: {done.stderr.strip()[-200:]}",
                next="Let Quaymaster's user send nginx signals.",
            )

    def unanswered(self, file: Path, *, needed: bool) -> str | None:
        return (
            f"No nginx of this installation answers on the edge's port: start it, and let it include {file}."
        )

    def connections(self, target: Target) -> int:
        """Everything on this host that is connected there, so never fewer than nginx's own."""
        return established(tables(), {target.host}, target.port)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [*self._command, *arguments], capture_output=True, text=True, timeout=30, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(
                "nginx cannot be run on this host.", next="Install nginx, or choose another edge."
            ) from error
