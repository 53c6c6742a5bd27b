"""Real proxies and small applications behind them, each a process of its own on loopback."""

import http.client
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from mcp_server.adapters.edge.caddy import config
from mcp_server.adapters.edge.caddy.config import CaddySettings

from .ports import ReservedPort, is_open
from .processes import CHECKOUT
from .waiting import wait_until

PROGRAMS = CHECKOUT / ".cache" / "edge"


class ProxyMissing(Exception):
    """A program is not here; the text says how to get it."""


def find_proxy(name: str) -> Path:
    """`caddy-2.6`, `caddy-2.11` or `nginx`, as `scripts/edge-programs` puts them."""
    path = PROGRAMS / name
    if not path.exists():
        raise ProxyMissing(f"{name} is not here; run scripts/edge-programs")
    return path


class _Process:
    """A program that listens on ports of 127.0.0.1; ended by `close`."""

    def __init__(self, command: list[str], ports: list[int], folder: Path, user: int | None = None) -> None:
        self._command = command
        self._user = user
        self._ports = ports
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self._folder)},
                cwd=self._folder,
                user=self._user,
                group=self._user,
                extra_groups=None if self._user is None else [],
            )
        wait_until(self._listens, seconds=20, what=f"{self._command[0]} to listen")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(15)

    def restart(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.stop(how)
        self.start()

    def close(self) -> None:
        self.stop()

    @property
    def output(self) -> str:
        return (self._folder / "output").read_text(errors="replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _listens(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"{self._command[0]} ended:\n{self.output}")
        return all(is_open(port) for port in self._ports)


class App(_Process):
    """`tests/services/edge_app.py` under a name, on a port of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._reserved = ReservedPort()
        self.port = self._reserved.number
        place = folder / f"app-{name}-{self.port}"
        place.mkdir()
        script = str(CHECKOUT / "tests" / "services" / "edge_app.py")
        super().__init__([sys.executable, "-S", script, name, str(self.port)], [self.port], place)

    def close(self) -> None:
        super().close()
        self._reserved.release()


class CaddyProcess(_Process):
    """Caddy with the configuration of these settings, as a person would run it; `user`: a uid that is also the
    group's."""

    def __init__(self, program: Path, settings: CaddySettings, folder: Path, user: int | None = None) -> None:
        place = folder / f"caddy-{settings.http_port}"
        place.mkdir()
        self.config = place / "edge.json"
        self.config.write_text(config.text(settings))
        ports = [settings.http_port] if settings.tls == "off" else [settings.http_port, settings.https_port]
        if user is not None:
            os.chown(place, user, user)
        super().__init__([str(program), "run", "--config", str(self.config)], ports, place, user)

    def validate(self) -> None:
        done = subprocess.run(
            [self._command[0], "validate", "--config", str(self.config)],
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": os.defpath, "HOME": str(self._folder)},
            check=False,
        )
        if done.returncode:
            raise AssertionError(done.stderr)


@dataclass(frozen=True)
class Reply:
    status: int
    body: str
    headers: dict[str, str]


def get(port: int, host: str, path: str = "/", **headers: str) -> Reply:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.putrequest("GET", path, skip_host=True)
        connection.putheader("Host", host)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        body = response.read().decode(errors="replace")
        return Reply(response.status, body, {name.lower(): value for name, value in response.getheaders()})
    finally:
        connection.close()


class NginxProcess(_Process):
    """nginx as a person runs it, with `included` in its http block. `command` is how to give it signals."""

    def __init__(self, program: Path, included: Path, ports: list[int], folder: Path) -> None:
        place = folder / "nginx"
        place.mkdir()
        main = place / "main.conf"
        temporary = " ".join(f"{kind}_temp_path {place}/{kind};" for kind in TEMPORARY)
        main.write_text(
            f"daemon off; worker_processes 2; pid {place}/pid; error_log {place}/error.log;\n"
            + ("user root;\n" if os.geteuid() == 0 else "")
            + "events { worker_connections 1024; }\n"
            + f"http {{ access_log off; keepalive_requests 1000000; {temporary}\n include {included}*; }}\n"
        )
        self.errors = place / "error.log"
        self.command = [str(program), "-p", str(place), "-c", str(main)]
        super().__init__(self.command, ports, place)


TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
