"""Traffic moves from one slot to the other, and back by itself when the new one fails.

The work belongs to the server: a caller that goes away ends nothing. Probes go through the proxy's own port before,
while and after it moves; the receipt is what they met.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from functools import partial

import anyio

from mcp_server.domain.errors import Conflict, Failure, QuaymasterError, Unavailable
from mcp_server.domain.receipts import Receipt, passed, receipt_of
from mcp_server.domain.routes import NOBODY_LISTENS, Probe, Target
from mcp_server.domain.slots import filled
from mcp_server.ports.databases import Workers
from mcp_server.ports.edge import Edge
from mcp_server.ports.store import Store, Transaction
from mcp_server.services.deployments.outfit import Outfit
from mcp_server.services.deployments.rollouts import Rollouts
from mcp_server.services.deployments.routing import Names, Routing
from mcp_server.services.deployments.settling import FAILED, STOPPED, slot_of
from mcp_server.services.deployments.slots import Seen, Slots, Step
from mcp_server.services.deployments.switch_ends import WORK, SwitchEnds
from mcp_server.services.deployments.ways import Way, way_of
from mcp_server.services.works import Tell, Work, Works

log = logging.getLogger(__name__)
RETURN_SECONDS = 30.0
PROBES = 10
"""Sent after the switch; those before and while it happens come on top."""


class Moves:
    def __init__(
        self,
        store: Store,
        slots: Slots,
        routing: Routing,
        rollouts: Rollouts,
        ends: SwitchEnds,
        works: Works,
        workers: Workers,
        outfit: Outfit,
        *,
        step: Step,
    ) -> None:
        self._store = store
        self._slots = slots
        self._routing = routing
        self._rollouts = rollouts
        self._ends = ends
        self._works = works
        self._workers = workers
        self._outfit = outfit
        self._step = step

    def begin(self, key: str, id: str) -> None:
        """Once per switch, by the process that wrote its intent."""
        self._works.begin(id, partial(self._work, key=key, id=id))

    async def _work(self, work: Work, *, key: str, id: str) -> None:
        try:
            way = await self._store.read(partial(way_of, key=key, id=id, worker=self._workers.me))
        except BaseException:
            self._ends.leave(id)
            raise
        if way is None:
            return
        receipts: list[Receipt] = []
        try:
            failure = await self._moved(way, work.tell, receipts)
        except QuaymasterError as error:
            failure = Failure.of(error)
        except Exception:
            log.exception("a switch failed", extra={"pair": key})
            failure = FAILED
        except BaseException:
            with anyio.move_on_after(RETURN_SECONDS, shield=True):
                await self._ends.settle(way, STOPPED, receipts)
            raise
        with anyio.CancelScope(shield=True):
            await self._ends.settle(way, failure, receipts)
            await self._ends.tell(way, failure)

    async def _moved(self, way: Way, tell: Tell, receipts: list[Receipt]) -> Failure | None:
        """None when the new slot answers; else why it does not."""
        release = way.deployment.release
        if release is None:
            raise Conflict(f"how deployment {way.deployment.id} is started is not known any more")
        port = await self._running(way, tell)
        self._step("switch.running")
        target = await self._slots.join_edge(way.berth, release, port)
        edge = self._slots.edge
        names = await self._routing.names_of(way.pair)
        await tell(f"moving traffic to {way.switch.slot}")
        if not edge.routes_traffic:
            return None
        before = _Probing(edge, names.hosts[0], release.health_path or "/") if way.switch.from_slot else None
        refused: QuaymasterError | None = None
        async with anyio.create_task_group() as group:
            if before is not None:
                group.start_soon(before.run)
                await before.first.wait()
            try:
                took = await self._pointed(way, target, names)
            except QuaymasterError as error:
                refused = error  # raised here it would come out in a group
            group.cancel_scope.cancel()
        if refused is not None:
            raise refused
        around = [] if before is None else before.probes
        after = await self._seen_after(names.hosts[0], release.health_path or "/")
        receipt = receipt_of(around, after, way.switch.slot, took, secured=edge.certifies)
        receipts.append(receipt)
        self._step("switch.probed")
        if passed(receipt, len(after)):
            return None
        reasons = "; ".join(receipt.errors) or "it was not seen to answer"
        return Failure(f"{way.switch.slot} did not answer through the proxy ({reasons})")

    async def _pointed(self, way: Way, target: Target, names: Names) -> float:
        """The proxy sends all host names to the slot; the milliseconds until it sent the first there."""
        edge, route = self._slots.edge, way.berth.route
        begun = time.monotonic()
        self._step("switch.before_point")
        await edge.point(route, way.switch.slot, target)
        took = (time.monotonic() - begun) * 1000
        self._step("switch.pointed")
        for host in names.hosts:
            await edge.attach(host, route)
        for host in names.tls:
            await edge.allow_tls(host)
        return took

    async def _seen_after(self, host: str, path: str) -> tuple[Probe, ...]:
        """A proxy that somebody ended meanwhile is brought back first: it knows by its directory where to send."""
        edge = self._slots.edge
        after = await edge.probe(host, path, count=PROBES)
        if not after or any(probe.error != NOBODY_LISTENS for probe in after):
            return after
        with suppress(QuaymasterError):
            await edge.ensure()
        return await edge.probe(host, path, count=PROBES)

    async def _running(self, way: Way, tell: Tell) -> int:
        """The port of the healthy container that gets the traffic; a cold one is started first.

        Raises Unavailable or Conflict when it cannot have the traffic.
        """
        seen, port = await self._seen(way)
        gone = seen.health in ("missing", "stopped") or seen.deployment != way.deployment.id
        if way.switch.kind == "rollback" and (way.switch.cold or gone):
            return await self._started(way, tell)
        if port is None or gone:
            raise Conflict(
                f"the container of {way.switch.slot} is not there any more ({seen.reason or seen.health})",
                next="Deploy that version again.",
            )
        if seen.health != "healthy":
            raise Unavailable(f"{way.switch.slot} is not healthy: {seen.reason or seen.health}")
        return port

    async def _seen(self, way: Way) -> tuple[Seen, int | None]:
        port = way.pair.slot(way.switch.slot).port
        return await self._slots.look(way.berth, way.deployment.release, port), port

    async def _started(self, way: Way, tell: Tell) -> int:
        """The recorded content with the variables of then, started anew in the idle slot."""
        release = way.deployment.release
        if release is None:
            raise Conflict("how that version is started is not known any more")
        await tell("starting the version before anew")
        image = await self._slots.image(way.deployment, tell)
        # What is in the slot is not given up for variables that do not open.
        await self._outfit.of(way.project, way.pair.environment, release)
        await self._rollouts.vacate(way.berth, tell)
        variables = await self._outfit.of(way.project, way.pair.environment, release)
        port = await self._slots.start(way.berth, way.deployment, release, image, variables)
        await self._slots.until_healthy(way.berth, release, port, variables, tell)
        self._step("switch.cold.healthy")
        await self._store.run(partial(self._fill, way=way), WORK)
        self._step("switch.cold.filled")
        return port

    async def _fill(self, tx: Transaction, *, way: Way) -> None:
        pair = await tx.slots.hold(way.pair.key)
        if pair is None or pair.switching is None or pair.switching.id != way.switch.id:
            raise Conflict("the switch was settled meanwhile")
        now = await tx.now()
        await tx.slots.save(filled(pair, way.switch.slot, slot_of(way.deployment, pair, now), now))


class _Probing:
    """Requests through the proxy, one after the other, while traffic moves."""

    def __init__(self, edge: Edge, host: str, path: str) -> None:
        self._edge = edge
        self._host = host
        self._path = path
        self.probes: list[Probe] = []
        self.first = anyio.Event()

    async def run(self) -> None:
        try:
            while True:
                self.probes += await self._edge.probe(self._host, self._path)
                self.first.set()
        finally:
            self.first.set()
