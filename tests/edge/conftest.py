"""A Caddy of either age on loopback, with an edge in front of two applications."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mcp_server.adapters.edge.caddy.config import CaddySettings, Tls
from mcp_server.adapters.edge.caddy.edge import CaddyEdge
from mcp_server.adapters.edge.caddy.host import HostCaddy
from mcp_server.adapters.edge.probes import Door
from mcp_server.adapters.edge.switch import SwitchDirectory
from mcp_server.domain.routes import Target
from tests.services.edge import App, CaddyProcess, ProxyMissing, find_proxy
from tests.services.missing import do_without
from tests.services.ports import ReservedPort

INSTALLATION = "6f1c0a52-0000-4000-8000-000000000001"


def proxy_program(name: str) -> Path:
    try:
        return find_proxy(name)
    except ProxyMissing as missing:
        do_without(str(missing))


@dataclass
class Stage:
    """An edge with its Caddy running, and two applications named blue and green."""

    root: Path
    settings: CaddySettings
    door: Door
    directory: SwitchDirectory
    edge: CaddyEdge
    caddy: CaddyProcess
    blue: App
    green: App

    def target(self, slot: str) -> Target:
        return Target(host="127.0.0.1", port=(self.blue if slot == "blue" else self.green).port)


@pytest.fixture(params=["caddy-2.6", "caddy-2.11"])
def caddy_program(request: pytest.FixtureRequest) -> Path:
    return proxy_program(request.param)


@pytest.fixture
def make_stage(caddy_program: Path, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """`make_stage(tls="off", installation=..., root=...)`."""
    with ExitStack() as stack:

        def make(tls: Tls = "off", installation: str = INSTALLATION, name: str = "edge") -> Stage:
            folder = tmp_path / name
            folder.mkdir()
            http, https = ReservedPort(), ReservedPort()
            stack.callback(http.release)
            stack.callback(https.release)
            directory = SwitchDirectory(folder / "root", installation)
            directory.claim()
            settings = CaddySettings(
                installation=installation,
                token=directory.token(),
                switch=str(folder / "root" / "switch"),
                storage=str(folder / "storage"),
                address="127.0.0.1",
                http_port=http.number,
                https_port=https.number,
                public_https_port=https.number,
                tls=tls,
                permission="ask" if caddy_program.name == "caddy-2.6" else "module",
            )
            door = Door("127.0.0.1", http.number, https.number, tls, directory.token())
            return Stage(
                root=folder / "root",
                settings=settings,
                door=door,
                directory=directory,
                edge=CaddyEdge(directory, settings, door, HostCaddy()),
                caddy=stack.enter_context(CaddyProcess(caddy_program, settings, folder)),
                blue=stack.enter_context(App("blue", folder)),
                green=stack.enter_context(App("green", folder)),
            )

        yield make


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    return make_stage()
