"""The installation's own Caddy, in a container on the network that it shares with the slots."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretBytes

from mcp_server.adapters.edge.caddy.config import CaddySettings, Permission, blind, identity, text
from mcp_server.adapters.edge.caddy.edge import Observed
from mcp_server.adapters.edge.caddy.versions import permission_of
from mcp_server.adapters.edge.container import INSIDE, EdgeContainer, edge_name, label
from mcp_server.domain.errors import Unavailable
from mcp_server.domain.routes import Target
from mcp_server.domain.workloads import Attachment, File, Mount, Owner, PublishedPort, Ref, Workload
from mcp_server.ports.orchestrator import Orchestrator

STORAGE = "/data"
CONFIG = "/etc/quaymaster-edge.json"
ACME_ROOT = "/etc/quaymaster-acme-root.pem"
ADMIN = "unix//run/caddy-admin.sock"


class ContainerCaddy:
    """`public`: the ports are open on every address of the host. `acme_root`: the root certificate of a CA of the
    person's own, in PEM.
    """

    def __init__(
        self,
        orchestrator: Orchestrator,
        owner: Owner,
        image: str,
        root: Path,
        door_ports: tuple[int, int],
        *,
        public: bool,
        acme_root: bytes | None = None,
    ) -> None:
        self._container = EdgeContainer(orchestrator, owner, root)
        self._owner = owner
        self._image = image
        self._root = root
        self._ports = door_ports
        self._public = public
        self._acme_root = acme_root

    @property
    def ref(self) -> Ref:
        return self._container.ref

    @property
    def network(self) -> str:
        return self._container.name

    def target(self, workload: str, container_port: int, published_port: int) -> Target:
        return self._container.target(workload, container_port)

    async def ensure(self, settings: CaddySettings, observed: Observed) -> None:
        async def fitted() -> Workload:
            if settings.tls == "off":
                return self._workload(settings)
            return self._workload(settings.change(permission=await self.permission()))

        async def answers() -> bool:
            found = await observed()
            if found == blind(settings):
                raise Unavailable(
                    f"The edge's container cannot read {self._root}.",
                    next="Let everybody enter that directory, or leave QUAYMASTER_EDGE_DIR out.",
                )
            return found == identity(settings)

        await self._container.run(self._workload(settings), fitted, answers)

    async def permission(self) -> Permission:
        return permission_of(await self._container.said(self._image, ("caddy", "version")))

    async def connections(self, target: Target) -> int:
        return await self._container.connections(target)

    def unanswered(self, *, needed: bool) -> str | None:
        return self._container.unanswered(needed=needed)

    def _workload(self, settings: CaddySettings) -> Workload:
        return container(
            settings,
            self._owner,
            self._image,
            self._root,
            self._ports,
            public=self._public,
            acme_root=self._acme_root,
        )


def container(
    settings: CaddySettings,
    owner: Owner,
    image: str,
    root: Path,
    ports: tuple[int, int],
    *,
    public: bool,
    acme_root: bytes | None = None,
) -> Workload:
    """Everything that, when it differs, makes another container. `ports`: of the host, for HTTP and HTTPS."""
    opened = [PublishedPort(container=settings.http_port, host=ports[0], public=public)]
    if settings.tls != "off":
        opened.append(PublishedPort(container=settings.https_port, host=ports[1], public=public))
    name = edge_name(owner)
    files = [File(path=CONFIG, content=SecretBytes(text(settings).encode()))]
    if acme_root is not None:
        files.append(File(path=ACME_ROOT, content=SecretBytes(acme_root), mode=0o444))
    return Workload(
        name=name,
        owner=owner,
        kind="edge",
        image=image,
        command=("caddy", "run", "--config", CONFIG),
        files=tuple(files),
        networks=(Attachment(network=name),),
        ports=tuple(opened),
        mounts=(Mount(source=str(root), target=INSIDE, read_only=True), Mount(source=name, target=STORAGE)),
        tmpfs=("/run",),
        capabilities=("NET_BIND_SERVICE",),
        extra_labels=label(
            identity(settings),
            settings.token,
            image,
            root,
            ports,
            public,
            *([acme_root] if acme_root else []),
        ),
    )
