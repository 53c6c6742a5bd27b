"""A home of its own on the real engine, with its own Caddy, and applications of two versions."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.domain.workloads import Owner, Ref
from tests.edge.conftest import proxy_program
from tests.services.edge import Reply, get
from tests.services.edge_images import newer_caddy
from tests.services.engine import DockerEngine
from tests.services.ports import ReservedBlock, ReservedPort
from tests.tools.desk import Desk, opened

ENVIRONMENTS = ("production", "staging", "preview")
PORTS = 10


@dataclass
class Harbour:
    """`settings` are those of every server of this home; `project` is a name, and `ports` are ports of slots by
    environment, that no other test uses.
    """

    folder: Path
    owner: Owner
    engine: DockerEngine
    port: int
    settings: dict[str, str]
    image: Callable[[str], str]
    ports: dict[str, range]
    project: str = field(default_factory=lambda: f"t{secrets.token_hex(5)}")

    @asynccontextmanager
    async def server(self, **settings: str) -> AsyncIterator[Desk]:
        """A server of this home in this process."""
        async with opened(self.folder, self.engine.address, **{**self.settings, **settings}) as desk:
            yield desk

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def environ(self) -> dict[str, str]:
        """The settings as a process of its own takes them."""
        return {f"QUAYMASTER_{name.upper()}": text for name, text in self.settings.items()}

    def host(self, environment: str = "staging") -> str:
        suffix = "" if environment == "production" else f"-{environment}"
        return f"{self.project}{suffix}.localhost"

    def ask(self, path: str = "/", environment: str = "staging") -> Reply:
        """What a visitor gets through the proxy."""
        return get(self.port, self.host(environment), path)

    def version(self, environment: str = "staging") -> str:
        return self.ask(environment=environment).body.partition(" ")[0]

    def containers(self) -> dict[str, dict[str, Any]]:
        """The slots' containers by name."""
        found = self.engine.containers(self.owner.installation)
        return {
            one["Names"][0].lstrip("/"): one for one in found if one["Labels"]["quaymaster.kind"] == "slot"
        }

    def deploy(self, image: str = "demo", **fields: Any) -> dict[str, Any]:
        return {
            "project": self.project,
            "image": self.image(image),
            "container_port": 8080,
            "health_timeout": 30,
            **fields,
        }


@pytest.fixture
async def harbour(
    tmp_path: Path, engine: DockerEngine, owner: Owner, image: Callable[[str], str]
) -> AsyncIterator[Harbour]:
    async with a_harbour(tmp_path, engine, owner.installation, image) as made:
        yield made


@asynccontextmanager
async def a_harbour(
    folder: Path, engine: DockerEngine, installation: str, image: Callable[[str], str]
) -> AsyncIterator[Harbour]:
    """What it leaves on the engine carries the label of the installation."""
    mirror = await RegistryMirror.open(folder / "home", home=installation)
    mirror.close()
    owner = Owner(installation=installation, home=installation, project="p1")
    with reserved() as port, own_ports() as ports:
        settings = {
            **{f"ports_{name}": f"{those[0]}-{those[-1]}" for name, those in ports.items()},
            "edge_image": image("caddy"),
            "edge_http_port": str(port),
            "warm_pool": "0",
            "drain_seconds": "5",
        }
        yield Harbour(folder, owner, engine, port, settings, image, ports)


@pytest.fixture(params=["caddy-2.6", "caddy-2.11"])
def caddy_image(request: pytest.FixtureRequest, harbour: Harbour, image: Callable[[str], str]) -> str:
    proxy_program(request.param)
    return image("caddy") if request.param == "caddy-2.6" else newer_caddy(harbour.engine)


async def authority(desk: Desk, folder: Path) -> ssl.SSLContext:
    """Trusts the proxy's own authority, and nobody else."""
    hosting = desk.house.hosting
    assert hosting.edge.network is not None
    proxy = Ref(name=hosting.edge.network, owner=hosting.site.owner())
    done = await hosting.engine.exec(proxy, ("cat", "/data/pki/authorities/local/root.crt"))
    (folder / "root.crt").write_bytes(done.stdout)
    return ssl.create_default_context(cafile=str(folder / "root.crt"))


@pytest.fixture
def name() -> str:
    return f"t{secrets.token_hex(5)}"


@contextmanager
def reserved() -> Iterator[int]:
    claim = ReservedPort()
    try:
        yield claim.number
    finally:
        claim.release()


@contextmanager
def own_ports() -> Iterator[dict[str, range]]:
    """By environment. Tests that run beside this one publish theirs elsewhere."""
    claim = ReservedBlock(len(ENVIRONMENTS) * PORTS)
    try:
        yield {
            name: claim.ports[place * PORTS : (place + 1) * PORTS] for place, name in enumerate(ENVIRONMENTS)
        }
    finally:
        claim.release()
