"""Promote and rollback: traffic moves from one slot to the other, and back by itself when the new one fails.

The intent is written before the proxy is told, and settled after the new slot was seen to answer through the
proxy's own port. A crash in between is settled by what the proxy does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import anyio

from mcp_server.domain.callers import holder_of
from mcp_server.domain.deployments import Deployment
from mcp_server.domain.errors import Conflict, Invalid, NotFound, QuaymasterError, Unavailable
from mcp_server.domain.happenings import Happening, What
from mcp_server.domain.locks import clashes_of
from mcp_server.domain.projects import Project
from mcp_server.domain.receipts import Receipt, passed, receipt_of
from mcp_server.domain.records import Moment
from mcp_server.domain.results import Result
from mcp_server.domain.routes import NOBODY_LISTENS, Probe
from mcp_server.domain.slots import SlotName, SlotPair, Switch, SwitchKind, filled, pair_key
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.databases import Workers
from mcp_server.ports.notifier import Notifier, Silence
from mcp_server.ports.store import Intent, Reading, Store, Transaction
from mcp_server.services.access import chosen_environment, project_of
from mcp_server.services.calls import Call, Calls
from mcp_server.services.lock_board import held_board
from mcp_server.services.lock_views import locked
from mcp_server.services.outfit import Outfit
from mcp_server.services.recovery import Recovery
from mcp_server.services.reservations import Reservations, require_no_switch
from mcp_server.services.rollouts import Rollouts
from mcp_server.services.settling import end_switch, slot_of
from mcp_server.services.slots import Berth, Seen, Slots, Step
from mcp_server.services.works import Tell, Work, Works

log = logging.getLogger(__name__)
WORK = Intent("promote", "quaymaster")
WAIT_SECONDS = 60
RETURN_SECONDS = 30.0
PROBES = 10
"""Sent after the switch; those before and while it happens come on top."""


class SwitchView(Result):
    """`status` is done when the new slot was seen to answer through the proxy."""

    message: str
    project: str
    environment: EnvironmentName
    status: str
    slot: SlotName
    from_slot: SlotName | None = None
    version: str | None = None
    deployment: str
    url: str | None = None
    cold: bool = False
    receipt: Receipt | None = None
    rollback_until: Moment | None = None
    next: str | None = None


class SwitchBegun(Result):
    """What is remembered of a call that began a switch: which one."""

    switch: str
    pair: str


Intending = Callable[..., Awaitable[SwitchBegun]]


@dataclass(frozen=True, slots=True)
class _Way:
    """A switch with what it moves."""

    project: Project
    pair: SlotPair
    switch: Switch
    deployment: Deployment

    @property
    def berth(self) -> Berth:
        return Berth(self.project.name, self.project.uid, self.pair.environment, self.switch.slot)


class Switching:
    def __init__(
        self,
        calls: Calls,
        store: Store,
        slots: Slots,
        reservations: Reservations,
        rollouts: Rollouts,
        recovery: Recovery,
        works: Works,
        workers: Workers,
        outfit: Outfit,
        *,
        step: Step,
    ) -> None:
        self._calls = calls
        self._store = store
        self._slots = slots
        self._reservations = reservations
        self._rollouts = rollouts
        self._recovery = recovery
        self._works = works
        self._workers = workers
        self._outfit = outfit
        self._step = step
        self.notifier: Notifier = Silence()

    # -- use cases ---------------------------------------------------------------------------------------

    async def promote(
        self,
        call: Call,
        project: str,
        environment: EnvironmentName | None = None,
        task_id: str | None = None,
        fence: int | None = None,
    ) -> SwitchView:
        """Traffic goes to the version that was deployed last; the one before waits in grace.

        Raises Locked when others hold files that the version changes, Conflict when there is nothing to
        promote, when the pair is busy, and when the new version did not answer (traffic is then where it was).
        """
        return await self._switch(
            call, project, environment, partial(self._intend_promote, task_id=task_id, fence=fence)
        )

    async def rollback(
        self, call: Call, project: str, environment: EnvironmentName | None = None, reason: str = ""
    ) -> SwitchView:
        """Traffic goes back to the version before, at once while it is in grace, else after starting it anew."""
        if not 1 <= len(reason.strip()) <= 1000:
            raise Invalid.field("reason", "1-1000 characters")
        return await self._switch(call, project, environment, partial(self._intend_rollback, reason=reason))

    async def promote_after(self, call: Call, deployment: Deployment, tell: Tell) -> None:
        """For teams that promote what they deploy."""
        own = Call(caller=call.caller, action="promote", params={"deployment": deployment.id}, tell=tell)
        await self._calls.perform(
            own, lambda: self.promote(own, deployment.project, deployment.environment, deployment.task_id)
        )

    async def _switch(
        self, call: Call, project: str, environment: EnvironmentName | None, intend: Intending
    ) -> SwitchView:
        async def look(tx: Reading) -> str:
            found = await project_of(tx, call.caller, project)
            return pair_key(found.name, await chosen_environment(tx, call.caller, environment))

        key = await self._calls.read(look)
        call.about("slots", key)
        await self._recovery.settle_abandoned(key)
        switch_id = call.new_id("sw")
        transaction = partial(intend, call=call, name=project, key=key, id=switch_id)
        begun = await self._calls.write(call, transaction, SwitchBegun)
        self._step("switch.intended")
        self._works.begin(begun.switch, partial(self._work, key=begun.pair, id=begun.switch))
        return await self._outcome(call, begun)

    # -- intents -----------------------------------------------------------------------------------------

    async def _intend_promote(
        self,
        tx: Transaction,
        *,
        call: Call,
        name: str,
        key: str,
        id: str,
        task_id: str | None,
        fence: int | None,
    ) -> SwitchBegun:
        project = await project_of(tx, call.caller, name)
        ahead = await tx.slots.get(key)
        waiting = None if ahead is None else await tx.deployments.get(ahead.slot(ahead.idle).deployment or "")
        task = task_id or (None if waiting is None else waiting.task_id)
        if waiting is not None:
            await self._fence(tx, call, project, waiting, task, fence)
        pair = await self._held_free(tx, key)
        slot = pair.idle
        if pair.slot(slot).state != "deployed" or waiting is None or pair.slot(slot).deployment != waiting.id:
            raise Conflict(_nothing_to_promote(pair), next="Deploy a version with deploy_project first.")
        return await self._intent(tx, pair, call, id, "promote", slot, waiting.id, task_id=task)

    async def _intend_rollback(
        self, tx: Transaction, *, call: Call, name: str, key: str, id: str, reason: str
    ) -> SwitchBegun:
        await project_of(tx, call.caller, name)
        pair = await self._held_free(tx, key)
        if pair.active is None or pair.previous is None:
            raise Conflict(
                "there is no version to roll back to",
                next="Deploy the version that you want with deploy_project, then promote it.",
            )
        now, slot = await tx.now(), pair.idle
        if pair.grace_expires_at is not None and pair.grace_expires_at <= now:
            raise Conflict(
                f"the time to roll back to {pair.slot(slot).version} ended at {pair.grace_expires_at:%Y-%m-%d %H:%M} UTC",
                next="Deploy that version again with deploy_project, then promote it.",
            )
        cold = pair.slot(slot).deployment != pair.previous
        return await self._intent(
            tx, pair, call, id, "rollback", slot, pair.previous, reason=reason, cold=cold
        )

    async def _held_free(self, tx: Transaction, key: str) -> SlotPair:
        pair = await tx.slots.hold(key)
        if pair is None:
            raise Conflict("nothing was deployed there yet", next="Call deploy_project first.")
        self._reservations.require_here(pair)
        running = await tx.deployments.running(pair.project, pair.environment)
        if running is not None:
            raise Conflict(
                f"{running.deployed_by} deploys version {running.version} there since {running.created_at:%H:%M:%S} UTC",
                next=f"Wait for it, or end it with cancel_deployment('{running.id}').",
                deployment=running.id,
                by=running.deployed_by,
                since=running.created_at.isoformat(),
            )
        require_no_switch(pair)
        return pair

    async def _fence(
        self,
        tx: Transaction,
        call: Call,
        project: Project,
        deployment: Deployment,
        task_id: str | None,
        fence: int | None,
    ) -> None:
        """Raises Locked while others edit what this version changes, Conflict when the fence is passed."""
        if fence is None and not deployment.changed_paths:
            return
        board = await held_board(tx, call.caller, project.name, holder_of(call.caller, task_id))
        others = [
            lock
            for lock in board.swept.live
            if lock.holder != board.holder and (task_id is None or lock.task_id != task_id)
        ]
        clashes = clashes_of(others, deployment.changed_paths, "reviewing", None, board.now)
        if clashes:
            raise await locked(tx, clashes)
        if fence is not None and not any(
            lock.fence == fence and (lock.holder == board.holder or lock.task_id == task_id)
            for lock in board.swept.live
        ):
            raise Conflict(
                f"no lock with fence {fence} is held any more: its lease ended, and others may have edited the files",
                next="Lock the files again, look at what changed, deploy again, then promote with the new fence.",
            )

    async def _intent(
        self,
        tx: Transaction,
        pair: SlotPair,
        call: Call,
        id: str,
        kind: SwitchKind,
        slot: SlotName,
        deployment: str,
        *,
        reason: str | None = None,
        task_id: str | None = None,
        cold: bool = False,
    ) -> SwitchBegun:
        switch = Switch(
            id=id,
            kind=kind,
            slot=slot,
            from_slot=pair.active,
            deployment=deployment,
            cold=cold,
            reason=reason,
            task_id=task_id,
            by=call.caller.user[:255],
            at=await tx.now(),
            worker=self._workers.me,
        )
        await tx.slots.save(pair.change(switch=switch))
        return SwitchBegun(switch=id, pair=pair.key)

    # -- the work ----------------------------------------------------------------------------------------

    async def _work(self, work: Work, *, key: str, id: str) -> None:
        way = await self._way(key, id)
        if way is None:
            return
        receipts: list[Receipt] = []
        try:
            error = await self._moved(way, work.tell, receipts)
        except QuaymasterError as failure:
            error = failure.message
        except Exception:
            log.exception("a switch failed", extra={"pair": key})
            error = "the server failed at this work; the operator finds why in the log"
        except BaseException:
            with anyio.move_on_after(RETURN_SECONDS, shield=True):
                await self._settle(way, "the server stopped before it was done", receipts)
            raise
        with anyio.CancelScope(shield=True):
            await self._settle(way, error, receipts)
            await self.notifier.tell(way.project.team_id, self._happening(way, error))

    def _happening(self, way: _Way, error: str | None) -> Happening:
        host = self._slots.host(way.berth)
        done: What = "promoted" if way.switch.kind == "promote" else "rolled back"
        return Happening(
            what="failed" if error else done,
            action=way.switch.kind,
            project=way.project.name,
            environment=way.pair.environment,
            version=way.deployment.version,
            by=way.switch.by,
            detail=error or way.switch.reason,
            url=None if error else self._slots.edge.url(host),
        )

    async def _way(self, key: str, id: str) -> _Way | None:
        async def look(tx: Reading) -> _Way | None:
            pair = await tx.slots.get(key)
            switch = None if pair is None else pair.switching
            if pair is None or switch is None or switch.id != id or switch.worker != self._workers.me:
                return None
            project = await tx.projects.get(pair.project)
            deployment = await tx.deployments.get(switch.deployment)
            if project is None or deployment is None:
                return None
            return _Way(project, pair, switch, deployment)

        return await self._store.read(look)

    async def _moved(self, way: _Way, tell: Tell, receipts: list[Receipt]) -> str | None:
        """None when the new slot answers; else why it does not."""
        release = way.deployment.release
        if release is None:
            raise Conflict(f"how deployment {way.deployment.id} is started is not known any more")
        port = await self._running(way, tell)
        self._step("switch.running")
        target = await self._slots.join_edge(way.berth, release, port)
        edge, route = self._slots.edge, way.berth.route
        hosts, secured = await self._recovery.routing.names_of(way.pair)
        await tell(f"moving traffic to {way.switch.slot}")
        if not edge.routes_traffic:
            return None
        before = _Probing(self, hosts[0], release.health_path or "/") if way.switch.from_slot else None
        async with anyio.create_task_group() as group:
            if before is not None:
                group.start_soon(before.run)
                await before.first.wait()
            begun = time.monotonic()
            self._step("switch.before_point")
            await edge.point(route, way.switch.slot, target)
            took = (time.monotonic() - begun) * 1000
            self._step("switch.pointed")
            for host in hosts:
                await edge.attach(host, route)
            for host in secured:
                await edge.allow_tls(host)
            group.cancel_scope.cancel()
        around = [] if before is None else before.probes
        after = await self._seen_after(hosts[0], release.health_path or "/")
        receipt = receipt_of(around, after, way.switch.slot, took, secured=edge.certifies)
        receipts.append(receipt)
        self._step("switch.probed")
        if passed(receipt, len(after)):
            return None
        reasons = "; ".join(receipt.errors) or "it was not seen to answer"
        return f"{way.switch.slot} did not answer through the proxy ({reasons})"

    async def _seen_after(self, host: str, path: str) -> tuple[Probe, ...]:
        """A proxy that somebody ended meanwhile is brought back first: it knows by its directory where to send."""
        edge = self._slots.edge
        after = await edge.probe(host, path, count=PROBES)
        if not after or any(probe.error != NOBODY_LISTENS for probe in after):
            return after
        with suppress(QuaymasterError):
            await edge.ensure()
        return await edge.probe(host, path, count=PROBES)

    async def _running(self, way: _Way, tell: Tell) -> int:
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

    async def _seen(self, way: _Way) -> tuple[Seen, int | None]:
        port = way.pair.slot(way.switch.slot).port
        return await self._slots.look(way.berth, way.deployment.release, port), port

    async def _started(self, way: _Way, tell: Tell) -> int:
        """The recorded content with the variables of then, started anew in the idle slot."""
        release = way.deployment.release
        if release is None:
            raise Conflict("how that version is started is not known any more")
        await tell("starting the version before anew")
        image = await self._slots.image(way.deployment, tell)
        await self._rollouts.vacate(way.berth, tell)
        variables = await self._outfit.of(way.project, way.pair.environment, release)
        port = await self._slots.start(way.berth, way.deployment, release, image, variables)
        await self._slots.until_healthy(way.berth, release, port, variables, tell)
        self._step("switch.cold.healthy")
        await self._store.run(partial(self._fill, way=way), WORK)
        self._step("switch.cold.filled")
        return port

    async def _fill(self, tx: Transaction, *, way: _Way) -> None:
        pair = await tx.slots.hold(way.pair.key)
        if pair is None or pair.switching is None or pair.switching.id != way.switch.id:
            raise Conflict("the switch was settled meanwhile")
        now = await tx.now()
        await tx.slots.save(filled(pair, way.switch.slot, slot_of(way.deployment, pair, now), now))

    async def _settle(self, way: _Way, error: str | None, receipts: list[Receipt]) -> None:
        """With an error traffic goes back first; then the outcome is written down."""
        receipt = receipts[-1] if receipts else None
        if error is not None:
            with suppress(QuaymasterError):
                await self._return(way)
            with suppress(QuaymasterError):
                await self._recovery.clear_cold(way.pair.key, way.switch)
        self._step("switch.before_settle")
        end = partial(end_switch, key=way.pair.key, switch_id=way.switch.id, error=error, receipt=receipt)
        await self._store.run(end, WORK)
        self._step("switch.settled")

    async def _return(self, way: _Way) -> None:
        """Traffic is where it was before."""
        edge, route = self._slots.edge, way.berth.route
        if await edge.active(route) != way.switch.slot:
            return
        pair = await self._store.read(lambda tx: tx.slots.get(way.pair.key))
        if pair is not None:
            await self._recovery.routing.point_back(pair, way.switch)

    # -- the outcome -------------------------------------------------------------------------------------

    async def _outcome(self, call: Call, begun: SwitchBegun) -> SwitchView:
        work = self._works.get(begun.switch)
        if work is not None:
            await work.follow(WAIT_SECONDS, call.tell)
        found = await self._calls.read(partial(self._look, call=call, key=begun.pair))
        pair, switch, deployment = found
        if switch.id != begun.switch:
            raise Conflict(
                "this switch was settled, and another one came after it",
                next="slot_status shows how it is now.",
            )
        if switch.stage == "returned":
            raise Conflict(
                f"{switch.kind} did not happen: {switch.error}; traffic is where it was",
                next="Read deployment_logs and slot_status, then decide.",
                receipt=None if deployment.receipt is None else deployment.receipt.model_dump(mode="json"),
            )
        return self._view(pair, switch, deployment)

    async def _look(self, tx: Reading, *, call: Call, key: str) -> tuple[SlotPair, Switch, Deployment]:
        pair = await tx.slots.get(key)
        if pair is None or pair.switch is None:
            raise NotFound("the project was deleted meanwhile")
        await project_of(tx, call.caller, pair.project)
        deployment = await tx.deployments.get(pair.switch.deployment)
        if deployment is None:
            raise NotFound("the deployment was deleted meanwhile")
        return pair, pair.switch, deployment

    def _view(self, pair: SlotPair, switch: Switch, deployment: Deployment) -> SwitchView:
        done = switch.stage == "done"
        url = self._slots.edge.url(self._slots.host(Berth(pair.project, "-", pair.environment, switch.slot)))
        verb = "has the traffic" if done else "is getting the traffic"
        return SwitchView(
            message=f"Version {deployment.version} in {switch.slot} {verb} of {pair.project} ({pair.environment}).",
            project=pair.project,
            environment=pair.environment,
            status="done" if done else "running",
            slot=switch.slot,
            from_slot=switch.from_slot,
            version=deployment.version,
            deployment=deployment.id,
            url=url,
            cold=switch.cold,
            receipt=deployment.receipt if done else None,
            rollback_until=pair.grace_expires_at if done else None,
            next=_next(deployment.receipt, url) if done else "slot_status shows when it is done",
        )


class _Probing:
    """Requests through the proxy, one after the other, while traffic moves."""

    def __init__(self, switching: Switching, host: str, path: str) -> None:
        self._edge = switching._slots.edge
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


def _next(receipt: Receipt | None, url: str | None) -> str | None:
    if receipt is None or receipt.certificate is not False or url is None or not url.startswith("https:"):
        return None
    return f"The proxy has no certificate for {url} yet: its log says why. Until then browsers are refused."


def _nothing_to_promote(pair: SlotPair) -> str:
    held = pair.slot(pair.idle)
    if held.state == "grace":
        return (
            f"there is nothing new to promote: {pair.idle} holds version {held.version}, "
            "which was replaced; rollback leads back to it"
        )
    return "there is nothing to promote"
