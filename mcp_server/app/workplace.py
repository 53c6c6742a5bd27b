"""What a process works with on this machine: the engine, the proxy, its fellow workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from mcp_server.adapters.docker.orchestrator import DockerOrchestrator
from mcp_server.adapters.host.machine import ThisMachine
from mcp_server.adapters.host.workers import HomeWorkers
from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.config import Settings
from mcp_server.domain.databases import Site
from mcp_server.domain.errors import Invalid
from mcp_server.ports.edge import Edge

if TYPE_CHECKING:
    from mcp_server.adapters.edge.probes import Door
    from mcp_server.adapters.edge.switch import SwitchDirectory

CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Workplace:
    """What this process works with on this machine."""

    site: Site
    machine: ThisMachine
    workers: HomeWorkers
    engine: DockerOrchestrator
    edge: Edge


@asynccontextmanager
async def workplace(settings: Settings, mirror: RegistryMirror) -> AsyncIterator[Workplace]:
    """The engine is connected to at the first question. Embedded, the home is an installation of its own."""
    facts = await mirror.refresh()
    machine = ThisMachine()
    site = Site(
        installation=facts.position.installation if facts.position else facts.home,
        home=facts.home,
        host=machine.id,
        host_name=machine.name,
    )
    engine = DockerOrchestrator(settings.docker_host)
    workers = HomeWorkers.open(settings.home)
    try:
        edge = await anyio.to_thread.run_sync(edge_of, settings, site, engine)
        yield Workplace(site, machine, workers, engine, edge)
    finally:
        workers.close()
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_SECONDS):
            await engine.close()


def edge_of(settings: Settings, site: Site, engine: DockerOrchestrator) -> Edge:
    """The proxy as the settings name it; nothing is started. Raises Conflict for another installation's
    directory."""
    from mcp_server.adapters.edge.off import NoEdge

    if settings.edge == "off":
        return NoEdge()
    from mcp_server.adapters.edge.probes import Door
    from mcp_server.adapters.edge.switch import SwitchDirectory

    directory = SwitchDirectory(
        settings.edge_dir or settings.home / "edge", site.installation, home=site.home
    )
    token = directory.token()
    ports = (settings.edge_http_port, settings.edge_https_port)
    door = Door("127.0.0.1", *ports, settings.edge_tls, token)
    if settings.edge == "nginx":
        return _nginx_of(settings, site, engine, directory, door)
    from mcp_server.adapters.edge.caddy.config import CaddySettings
    from mcp_server.adapters.edge.caddy.container import ACME_ROOT, ADMIN, STORAGE, ContainerCaddy
    from mcp_server.adapters.edge.caddy.edge import CaddyEdge
    from mcp_server.adapters.edge.caddy.host import HostCaddy
    from mcp_server.adapters.edge.container import INSIDE

    if settings.edge_mode == "host":
        own = CaddySettings(
            installation=site.installation,
            token=token,
            switch=str(directory.root / "switch"),
            http_port=ports[0],
            https_port=ports[1],
            public_https_port=ports[1],
            tls=settings.edge_tls,
            email=settings.edge_email,
            directory=settings.edge_acme_url,
            directory_root=str(settings.edge_acme_root) if settings.edge_acme_root else None,
        )
        return CaddyEdge(directory, own, door, HostCaddy())
    managed = CaddySettings(
        installation=site.installation,
        token=token,
        switch=f"{INSIDE}/switch",
        storage=STORAGE,
        admin=ADMIN,
        public_https_port=ports[1],
        tls=settings.edge_tls,
        email=settings.edge_email,
        directory=settings.edge_acme_url,
        directory_root=ACME_ROOT if settings.edge_acme_root else None,
    )
    acme_root = _read_root(settings.edge_acme_root) if settings.edge_acme_root else None
    public = settings.base_domain != "localhost"
    image = settings.edge_image or "caddy:2"
    caddy = ContainerCaddy(
        engine, site.owner(), image, directory.root, ports, public=public, acme_root=acme_root
    )
    return CaddyEdge(directory, managed, door, caddy)


def _nginx_of(
    settings: Settings, site: Site, engine: DockerOrchestrator, directory: SwitchDirectory, door: Door
) -> Edge:
    from mcp_server.adapters.edge.container import INSIDE
    from mcp_server.adapters.edge.nginx import container
    from mcp_server.adapters.edge.nginx.config import NginxSettings
    from mcp_server.adapters.edge.nginx.edge import NginxEdge
    from mcp_server.adapters.edge.nginx.host import HostNginx

    own = NginxSettings(
        installation=site.installation,
        token=door.token,
        http_port=door.http_port,
        https_port=door.https_port,
        public_https_port=door.https_port,
    )
    if settings.edge_mode == "host":
        return NginxEdge(directory, own, door, HostNginx())
    managed = own.change(
        http_port=container.HTTP_PORT, https_port=container.HTTPS_PORT, resolver=container.RESOLVER
    )
    nginx = container.ContainerNginx(
        engine,
        site.owner(),
        settings.edge_image or "nginx:1",
        directory.root,
        (door.http_port, door.https_port),
        secure=settings.edge_tls != "off",
        public=settings.base_domain != "localhost",
    )
    return NginxEdge(directory, managed, door, nginx, INSIDE)


def _read_root(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Invalid(f"QUAYMASTER_EDGE_ACME_ROOT cannot be read: {error.strerror}") from error
