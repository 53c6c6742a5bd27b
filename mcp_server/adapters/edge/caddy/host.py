"""A Caddy on the host that the person runs with the configuration that `quaymaster edge config` prints."""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable, Callable, Sequence

import anyio.to_thread

from mcp_server.adapters.edge.caddy.config import CaddySettings, Permission, blind, identity
from mcp_server.adapters.edge.caddy.versions import permission_of
from mcp_server.adapters.edge.sockets import established, tables
from mcp_server.domain.errors import Conflict, Unavailable
from mcp_server.domain.routes import Target

LOOPBACK = "127.0.0.1"
START = "Run 'quaymaster edge config > edge.json' and start Caddy with 'caddy run --config edge.json'."

LET_IN = "Set QUAYMASTER_EDGE_DIR to a directory that Caddy's user may enter, and give Caddy the new configuration."


class HostCaddy:
    """Targets are the slots' published ports on loopback. Nothing is ever started here. `command` runs Caddy."""

    network = None

    def __init__(self, command: Sequence[str] = ("caddy",)) -> None:
        self._command = tuple(command)

    def target(self, workload: str, container_port: int, published_port: int) -> Target:
        return Target(host=LOOPBACK, port=published_port)

    async def ensure(self, settings: CaddySettings, observed: Callable[[], Awaitable[str | None]]) -> None:
        running = await observed()
        if running is None:
            raise Unavailable("No Caddy of this installation answers on the edge's port.", next=START)
        if running.partition(" ")[0] != settings.installation:
            raise Conflict(
                "The Caddy on the edge's port belongs to another installation of Quaymaster.",
                next="Give this installation other ports: QUAYMASTER_EDGE_HTTP_PORT and _HTTPS_PORT.",
            )
        if running == blind(settings):
            raise Unavailable(f"Caddy's user cannot read {settings.switch}.", next=LET_IN)
        if running != identity(settings):
            raise Unavailable("The Caddy on the edge's port runs an older configuration.", next=START)

    async def permission(self) -> Permission:
        """By the Caddy that a shell would find; without one, as present versions have it."""
        return permission_of(await anyio.to_thread.run_sync(self._version))

    def _version(self) -> str:
        try:
            done = subprocess.run(
                [*self._command, "version"], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout

    async def connections(self, target: Target) -> int:
        """Everything on this host that is connected there, so never fewer than Caddy's own."""
        found = await anyio.to_thread.run_sync(tables)
        return established(found, {target.host}, target.port)

    def unanswered(self, *, needed: bool) -> str | None:
        return "No Caddy of this installation answers on the edge's port: start it."
