"""The proxy's own container, on the network that it shares with the slots: whichever proxy runs in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from pathlib import Path

import anyio

from mcp_server.adapters.edge.sockets import TABLES, established
from mcp_server.adapters.edge.turns import turn
from mcp_server.domain.errors import Conflict, QuaymasterError, Unavailable
from mcp_server.domain.hosts import MAX_LABEL
from mcp_server.domain.routes import Target
from mcp_server.domain.workloads import Attachment, Executed, Network, Observed, Owner, Ref, Volume, Workload
from mcp_server.ports.orchestrator import Orchestrator

INSIDE = "/edge"
"""Where the container sees the edge's directory."""

RUNNING = "quaymaster.edge"
"""The label that says what the container was made from."""

ANSWERS_WITHIN = 20.0
TURN_SECONDS = 120.0
"""The longest wait for another server of this home that makes the container; it may have to pull the image."""

SHORTENED = "slot-"


class EdgeContainer:
    """Targets are workloads' names on `network`.

    The directory itself is mounted, never one file, so that what is renamed in it is seen; an engine on
    another machine has no such directory.
    """

    def __init__(self, orchestrator: Orchestrator, owner: Owner, root: Path) -> None:
        self._orchestrator = orchestrator
        self._owner = owner
        self._root = root

    @property
    def name(self) -> str:
        """Of the container, and of its network and volume."""
        return edge_name(self._owner)

    @property
    def ref(self) -> Ref:
        return Ref(name=self.name, owner=self._owner)

    @property
    def _network(self) -> Network:
        return Network(name=self.name, owner=self._owner, kind="edge")

    def target(self, workload: str, container_port: int) -> Target:
        return Target(host=alias(workload), port=container_port)

    async def run(
        self,
        wanted: Workload,
        fitted: Callable[[], Awaitable[Workload]],
        answers: Callable[[], Awaitable[bool]],
    ) -> None:
        """It is up and answers. One that bears the label of `wanted` is left alone; else `fitted` is made, which
        may look at the image, which is there by then.
        """
        if not await self._is_up(wanted):
            async with turn(self._root / "turn", TURN_SECONDS):
                await self._bring_up(wanted, fitted)
        await self._until(answers)

    async def said(self, image: str, command: Sequence[str]) -> str:
        """What a program of the image prints, run in a container of its own that is gone afterwards."""
        once = Workload(
            name=f"{self.name}-asked",
            owner=self._owner,
            kind="edge",
            image=image,
            command=tuple(command),
            networks=(Attachment(network=self.name),),
            restart="no",
        )
        await self._orchestrator.ensure_image(image)
        await self._orchestrator.ensure_network(self._network)
        await self._orchestrator.remove(once.ref)
        await self._orchestrator.create(once)
        try:
            await self._orchestrator.start(once.ref)
            await self._orchestrator.wait_exit(once.ref, timeout=ANSWERS_WITHIN)
            return (await self._orchestrator.logs(once.ref, tail=5, max_bytes=2000)).text
        finally:
            with anyio.CancelScope(shield=True):
                await self._orchestrator.remove(once.ref)

    async def runs(self) -> bool:
        found = await self._orchestrator.inspect(self.name)
        return found is not None and found.running and found.owner == self._owner

    async def exec(self, *command: str) -> Executed:
        return await self._orchestrator.exec(self.ref, command, timeout=30)

    async def connections(self, target: Target) -> int:
        """In the container's own network; 0 when the target or the proxy is not there."""
        workload = await self._orchestrator.inspect(await self._workload(target.host))
        address = workload.addresses.get(self.name) if workload else None
        proxy = await self._orchestrator.inspect(self.name)
        if address is None or proxy is None or not proxy.running:
            return 0
        done = await self._orchestrator.exec(self.ref, ("cat", *TABLES), timeout=10)
        return established(done.stdout.decode(errors="replace"), {address}, target.port)

    def unanswered(self, *, needed: bool) -> str | None:
        """What to say of a container that does not answer; it is made with the first deployment."""
        if not needed:
            return None
        return (
            f"The edge's container {self.name} does not answer on its port: a running Quaymaster starts it within a "
            f"minute; where it does not, 'docker logs {self.name}' says why."
        )

    async def _is_up(self, wanted: Workload) -> bool:
        found = await self._orchestrator.inspect(self.name)
        if found is not None and found.owner != self._owner:
            raise Conflict(f"The container {self.name} is not this installation's; nothing was changed.")
        return found is not None and found.running and not _broken(found) and _runs(found, wanted)

    async def _bring_up(self, wanted: Workload, fitted: Callable[[], Awaitable[Workload]]) -> None:
        """Looked at once more: whoever had the turn before may have done it."""
        if await self._is_up(wanted):
            return
        found = await self._orchestrator.inspect(self.name)
        if found is None or not _runs(found, wanted):
            await self._replace(wanted, fitted)
            return
        if _broken(found):
            # The engine waits longer after each try: what kept it from running may be gone by now.
            await self._orchestrator.stop(wanted.ref)
        await self._orchestrator.start(wanted.ref)

    async def _replace(self, wanted: Workload, fitted: Callable[[], Awaitable[Workload]]) -> None:
        """A proxy that runs another configuration goes first: both would want the same ports."""
        await self._orchestrator.ensure_image(wanted.image)
        await self._orchestrator.ensure_network(self._network)
        await self._orchestrator.ensure_volume(Volume(name=self.name, owner=self._owner, kind="edge"))
        made = await fitted()
        await self._orchestrator.remove(made.ref)
        await self._orchestrator.create(made)
        await self._orchestrator.start(made.ref)

    async def _until(self, answers: Callable[[], Awaitable[bool]]) -> None:
        with anyio.move_on_after(ANSWERS_WITHIN):
            while not await answers():  # noqa: ASYNC110 - it comes up in its own time
                await anyio.sleep(0.05)
            return
        raise Unavailable(
            "The edge's container does not answer on its port.",
            next=f"Look at its log: {await self._words()}",
        )

    async def _words(self) -> str:
        try:
            return (await self._orchestrator.logs(self.ref, tail=5, max_bytes=2000)).text
        except QuaymasterError:
            return "(none can be read)"

    async def _workload(self, host: str) -> str:
        """The workload behind a target's name: itself, unless DNS would not take it."""
        if not host.startswith(SHORTENED):
            return host
        owned = await self._orchestrator.list({"quaymaster.installation": self._owner.installation})
        return next((one.name for one in owned if alias(one.name) == host), host)


def _broken(found: Observed) -> bool:
    """It ended, and the engine is about to try it again."""
    return found.state == "restarting"


def _runs(found: Observed, wanted: Workload) -> bool:
    return found.labels.get(RUNNING) == wanted.extra_labels[RUNNING]


def label(*shape: object) -> dict[str, str]:
    """What names this shape on a container, without telling it."""
    text = " ".join(str(part) for part in shape)
    return {RUNNING: sha256(text.encode()).hexdigest()[:16]}


def edge_name(owner: Owner) -> str:
    """Another home's or installation's is called otherwise."""
    return "quaymaster-edge-" + sha256(f"{owner.installation} {owner.home}".encode()).hexdigest()[:10]


def alias(workload: str) -> str:
    """The name under which a workload joins the edge's network: its own as far as DNS takes it."""
    if len(workload) <= MAX_LABEL and not workload.startswith(SHORTENED):
        return workload
    return SHORTENED + sha256(workload.encode()).hexdigest()[:32]
