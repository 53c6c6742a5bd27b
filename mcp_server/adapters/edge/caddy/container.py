"""The installation's own Caddy, in a container on the network that it shares with the slots."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import anyio
from pydantic import SecretBytes

from mcp_server.adapters.edge.caddy.config import CaddySettings, identity, text
from mcp_server.adapters.edge.caddy.edge import Observed
from mcp_server.adapters.edge.sockets import TABLES, established
from mcp_server.adapters.edge.turns import turn
from mcp_server.domain.errors import Conflict, QuaymasterError, Unavailable
from mcp_server.domain.hosts import MAX_LABEL
from mcp_server.domain.routes import Target
from mcp_server.domain.workloads import (
    Attachment,
    File,
    Mount,
    Network,
    Owner,
    PublishedPort,
    Ref,
    Volume,
    Workload,
)
from mcp_server.domain.workloads import Observed as Container
from mcp_server.ports.orchestrator import Orchestrator

INSIDE = "/edge"
"""Where the container sees the edge's directory; its configuration names INSIDE/switch."""

STORAGE = "/data"
CONFIG = "/etc/quaymaster-edge.json"
ADMIN = "unix//run/caddy-admin.sock"
RUNNING = "quaymaster.edge"
ANSWERS_WITHIN = 20.0
TURN_SECONDS = 120.0
"""The longest wait for another server of this home that makes the container; it may have to pull the image."""


class ContainerCaddy:
    """Targets are workloads' names on `network`.

    The directory itself is mounted, never one file, so that what is renamed in it is seen; an engine on
    another machine has no such directory. `public`: the ports are open on every address of the host.
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
    ) -> None:
        self._orchestrator = orchestrator
        self._owner = owner
        self._image = image
        self._root = root
        self._ports = door_ports
        self._public = public

    @property
    def name(self) -> str:
        return edge_name(self._owner)

    @property
    def ref(self) -> Ref:
        return Ref(name=self.name, owner=self._owner)

    @property
    def network(self) -> str:
        return self.name

    def target(self, workload: str, container_port: int, published_port: int) -> Target:
        return Target(host=alias(workload), port=container_port)

    async def ensure(self, settings: CaddySettings, observed: Observed) -> None:
        wanted = container(settings, self._owner, self._image, self._root, self._ports, public=self._public)
        if not await self._is_up(wanted):
            async with turn(self._root / "turn", TURN_SECONDS):
                await self._bring_up(wanted)
        await self._answers(wanted, lambda answer: answer == identity(settings), observed)

    async def _is_up(self, wanted: Workload) -> bool:
        found = await self._orchestrator.inspect(self.name)
        if found is not None and found.owner != self._owner:
            raise Conflict(f"The container {self.name} is not this installation's; nothing was changed.")
        return found is not None and found.running and _runs(found, wanted)

    async def _bring_up(self, wanted: Workload) -> None:
        """Looked at once more: whoever had the turn before may have done it."""
        if await self._is_up(wanted):
            return
        found = await self._orchestrator.inspect(self.name)
        if found is None or not _runs(found, wanted):
            await self._replace(wanted)
        else:
            await self._orchestrator.start(wanted.ref)

    async def connections(self, target: Target) -> int:
        """In the container's own network; 0 when the target or the proxy is not there."""
        workload = await self._orchestrator.inspect(await self._workload(target.host))
        address = workload.addresses.get(self.network) if workload else None
        proxy = await self._orchestrator.inspect(self.name)
        if address is None or proxy is None or not proxy.running:
            return 0
        done = await self._orchestrator.exec(self.ref, ("cat", *TABLES), timeout=10)
        return established(done.stdout.decode(errors="replace"), {address}, target.port)

    async def _replace(self, wanted: Workload) -> None:
        """A proxy that runs another configuration goes first: both would want the same ports."""
        await self._orchestrator.ensure_image(wanted.image)
        await self._orchestrator.ensure_network(Network(name=self.network, owner=self._owner, kind="edge"))
        await self._orchestrator.ensure_volume(Volume(name=self.name, owner=self._owner, kind="edge"))
        await self._orchestrator.remove(wanted.ref)
        await self._orchestrator.create(wanted)
        await self._orchestrator.start(wanted.ref)

    async def _answers(
        self, wanted: Workload, right: Callable[[str | None], bool], observed: Observed
    ) -> None:
        with anyio.move_on_after(ANSWERS_WITHIN):
            while not right(await observed()):  # noqa: ASYNC110 - it comes up in its own time
                await anyio.sleep(0.05)
            return
        raise Unavailable(
            "The edge's container does not answer on its port.",
            next=f"Look at its log: {await self._words(wanted)}",
        )

    async def _words(self, wanted: Workload) -> str:
        try:
            return (await self._orchestrator.logs(wanted.ref, tail=5, max_bytes=2000)).text
        except QuaymasterError:
            return "(none can be read)"

    async def _workload(self, host: str) -> str:
        """The workload behind a target's name: itself, unless DNS would not take it."""
        if not host.startswith(SHORTENED):
            return host
        owned = await self._orchestrator.list({"quaymaster.installation": self._owner.installation})
        return next((one.name for one in owned if alias(one.name) == host), host)


def _runs(found: Container, wanted: Workload) -> bool:
    return found.labels.get(RUNNING) == wanted.extra_labels[RUNNING]


SHORTENED = "slot-"


def edge_name(owner: Owner) -> str:
    """Of container, network and volume: another home's or installation's are called otherwise."""
    return "quaymaster-edge-" + sha256(f"{owner.installation} {owner.home}".encode()).hexdigest()[:10]


def alias(workload: str) -> str:
    """The name under which a workload joins the edge's network: its own as far as DNS takes it."""
    if len(workload) <= MAX_LABEL and not workload.startswith(SHORTENED):
        return workload
    return SHORTENED + sha256(workload.encode()).hexdigest()[:32]


def container(
    settings: CaddySettings, owner: Owner, image: str, root: Path, ports: tuple[int, int], *, public: bool
) -> Workload:
    """Everything that, when it differs, makes another container. `ports`: of the host, for HTTP and HTTPS."""
    opened = [PublishedPort(container=settings.http_port, host=ports[0], public=public)]
    if settings.tls != "off":
        opened.append(PublishedPort(container=settings.https_port, host=ports[1], public=public))
    shape = f"{identity(settings)} {settings.token} {image} {root} {ports} {public}"
    name = edge_name(owner)
    return Workload(
        name=name,
        owner=owner,
        kind="edge",
        image=image,
        command=("caddy", "run", "--config", CONFIG),
        files=(File(path=CONFIG, content=SecretBytes(text(settings).encode())),),
        networks=(Attachment(network=name),),
        ports=tuple(opened),
        mounts=(Mount(source=str(root), target=INSIDE, read_only=True), Mount(source=name, target=STORAGE)),
        tmpfs=("/run",),
        capabilities=("NET_BIND_SERVICE",),
        extra_labels={RUNNING: sha256(shape.encode()).hexdigest()[:16]},
    )
