"""What a crash left is settled: deployments and switches of dead processes, containers and routes that disagree.

Only what belongs to this home is looked at, and nothing whose worker lives. What is observed wins: traffic stays
where the proxy sends it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from mcp_server.domain.deployments import Deployment
from mcp_server.domain.errors import QuaymasterError
from mcp_server.domain.our_workloads import project_network_name
from mcp_server.domain.projects import Project
from mcp_server.domain.records import Value
from mcp_server.domain.slots import Slot, SlotName, SlotPair, Switch, expired
from mcp_server.domain.workloads import SHARED, Observed, Ref
from mcp_server.ports.databases import Workers
from mcp_server.ports.orchestrator import Orchestrator
from mcp_server.ports.store import Reading, Store, Transaction
from mcp_server.services.deployments.attempts import Attempts
from mcp_server.services.deployments.berths import Berth
from mcp_server.services.deployments.revival import Revival
from mcp_server.services.deployments.routing import RECOVER, Routing
from mcp_server.services.deployments.settling import BROKEN_OFF, empty_slot, end_deployment, end_switch
from mcp_server.services.deployments.slot_ports import TIDY
from mcp_server.services.deployments.slots import DEPLOYMENT, Slots, Step

log = logging.getLogger(__name__)
BOTH: tuple[SlotName, ...] = ("blue", "green")


class Recovered(Value):
    """What was put right; all 0 when nothing was wrong."""

    deployments: int = 0
    switches: int = 0
    containers: int = 0
    slots: int = 0
    graces: int = 0
    revived: int = 0
    routes: int = 0

    @property
    def nothing(self) -> bool:
        return not any(value for _, value in self)


class Recovery:
    def __init__(
        self,
        store: Store,
        engine: Orchestrator,
        slots: Slots,
        workers: Workers,
        revival: Revival,
        step: Step,
    ) -> None:
        self._store = store
        self._engine = engine
        self._slots = slots
        self._workers = workers
        self._revival = revival
        self._step = step
        self.routing = Routing(store, slots)
        self._taken_over: set[str] = set()

    def take_over(self, id: str) -> None:
        """This process's own work at a deployment or switch has ended, and could not be settled (a full disk): the
        process lives, so that nobody else would do it. A later look does.
        """
        self._taken_over.add(id)

    def _broken_off(self, id: str, worker: str | None) -> bool:
        return id in self._taken_over or not self._workers.alive(worker)

    @property
    def _home(self) -> str:
        return self._slots.site.home

    async def run_once(self) -> Recovered:
        """At the start, and now and then. All of it is tried: one project's trouble is not another's. Raises what engine,
        proxy and store refused first.
        """
        attempts = Attempts()
        running = await self._store.read(lambda tx: tx.deployments.running_of_home(self._home))
        deployments = await attempts.each(running, self._settle_deployment)
        switches = await attempts.each(await self._pairs(), self._settle_switch)
        graces = await attempts.each(await self._pairs(), self._end_grace)
        slots = revived = containers = routes = 0
        with attempts.one():
            slots, revived, containers = await self._match_containers(attempts)
        with attempts.one():
            await self._match_ports()
        with attempts.one():
            await self._remove_networks()
        with attempts.one():
            routes = await self.routing.mend()
        attempts.end()
        return Recovered(
            deployments=deployments,
            switches=switches,
            graces=graces,
            slots=slots,
            revived=revived,
            containers=containers,
            routes=routes,
        )

    async def settle_abandoned(self, key: str) -> None:
        """What a dead process of this home left unsettled in one project and environment."""

        async def look(tx: Reading) -> tuple[SlotPair | None, Deployment | None]:
            pair = await tx.slots.get(key)
            return pair, None if pair is None else await tx.deployments.running(
                pair.project, pair.environment
            )

        pair, running = await self._store.read(look)
        if running is not None and running.home == self._home:
            await self._settle_deployment(running)
        if pair is not None and pair.home == self._home:
            await self._settle_switch(pair)

    # -- deployments -------------------------------------------------------------------------------------

    async def _settle_deployment(self, deployment: Deployment) -> bool:
        if not self._broken_off(deployment.id, deployment.worker):
            return False
        await self.clear_away(deployment, by=deployment.id)
        self._step("recover.deployment.cleared")
        end = partial(
            end_deployment, deployment_id=deployment.id, worker=deployment.worker, failure=BROKEN_OFF
        )
        await self._store.run(end, RECOVER)
        self._taken_over.discard(deployment.id)
        log.info("settled a deployment that was broken off", extra={"deployment": deployment.id})
        return True

    async def clear_away(self, deployment: Deployment, *, by: str) -> None:
        """The container that was started for this deployment is gone, and its port free. What the engine refuses now
        is done by a later look. `by` is the deployment or switch that has the place.
        """
        release = deployment.release
        if release is None:
            return
        berth = Berth(deployment.project, release.project_uid, deployment.environment, deployment.slot)
        try:
            await self._slots.take_away(berth, deployment.id)
            await self._store.run(partial(self._free_if_empty, berth=berth, by=by), TIDY)
        except QuaymasterError as error:
            log.warning("what %s started is still there: %s", deployment.id, error.message)

    async def _free_if_empty(self, tx: Transaction, *, berth: Berth, by: str | None = None) -> None:
        """Unless somebody other than `by` is at work there by now: a port is taken before its slot is filled."""
        pair = await tx.slots.hold(berth.pair)
        if pair is None or pair.slot(berth.slot).state != "empty":
            return
        running = await tx.deployments.running(berth.project, berth.environment)
        if {one.id for one in (running, pair.switching) if one is not None} <= {by}:
            await self._slots.ports.free_of(tx, berth, pair)

    # -- switches ----------------------------------------------------------------------------------------

    async def _settle_switch(self, pair: SlotPair) -> bool:
        """By what the proxy does: traffic on the new slot means done, anything else that nothing happened."""
        switch = pair.switching
        if switch is None or not self._broken_off(switch.id, switch.worker):
            return False
        active = await self._slots.edge.active(f"{pair.project}.{pair.environment}")
        moved = active == switch.slot and await self._answers(pair, switch)
        if not moved:
            await self.routing.point_back(pair, switch)
            await self.clear_cold(pair.key, switch)
        self._step("recover.switch.observed")
        failure = None if moved else BROKEN_OFF
        await self._store.run(
            partial(end_switch, key=pair.key, switch_id=switch.id, failure=failure), RECOVER
        )
        self._taken_over.discard(switch.id)
        log.info("settled a switch that was broken off", extra={"pair": pair.key, "moved": moved})
        return True

    async def clear_cold(self, key: str, switch: Switch) -> None:
        """What a rollback that fails has begun to start anew goes again, unless it fills its slot by now.

        Before the switch is settled, since nobody else has the place until then.
        """
        deployment = await self._deployment(switch.deployment)
        pair = await self._store.read(lambda tx: tx.slots.get(key))
        ours = pair is not None and pair.switching is not None and pair.switching.id == switch.id
        if pair is None or deployment is None or not ours or switch.kind != "rollback":
            return
        if pair.slot(switch.slot).state == "empty":
            await self.clear_away(deployment.change(slot=switch.slot), by=switch.id)

    async def _answers(self, pair: SlotPair, switch: Switch) -> bool:
        """Whether the slot that has the traffic runs what it should, in a state from which it may have it."""
        deployment, project = await self._deployment(switch.deployment), await self._project(pair.project)
        slot = pair.slot(switch.slot)
        if deployment is None or project is None or slot.deployment != deployment.id:
            return False
        berth = Berth(pair.project, project.uid, pair.environment, switch.slot)
        seen = await self._slots.look(berth, deployment.release, slot.port)
        return seen.health == "healthy" and seen.deployment == deployment.id

    # -- grace -------------------------------------------------------------------------------------------

    async def _end_grace(self, pair: SlotPair) -> bool:
        """The time of grace is over: written down first, then the container goes."""
        ended = (await self._store.run(partial(self._expire, key=pair.key), TIDY)).value
        project = await self._project(pair.project)
        if ended is None or project is None:
            return False
        self._step("grace.expired")
        berth = Berth(pair.project, project.uid, pair.environment, ended)
        await self._slots.take_away(berth, pair.slot(ended).deployment)
        return True

    async def _expire(self, tx: Transaction, *, key: str) -> SlotName | None:
        found = await tx.slots.get(key)
        if found is None or found.grace_expires_at is None:
            return None
        pair = await tx.slots.hold(key)
        if pair is None or pair.grace_expires_at is None or pair.grace_expires_at > await tx.now():
            return None
        name = next((one for one in BOTH if pair.slot(one).state == "grace"), None)
        busy = await tx.deployments.running(pair.project, pair.environment)
        project = await tx.projects.get(pair.project)
        if name is None or busy is not None or pair.switching is not None or project is None:
            return None
        berth = Berth(pair.project, project.uid, pair.environment, name)
        await self._slots.ports.free(tx, berth, pair.slot(name).port)
        await tx.slots.save(expired(pair, name, await tx.now()))
        return name

    # -- containers --------------------------------------------------------------------------------------

    async def _match_containers(self, attempts: Attempts) -> tuple[int, int, int]:
        """Idle slots whose container is gone are empty; what has the traffic is started again; containers that
        belong to no slot go. How many of each.
        """
        seen = {
            one.name: one for one in await self._engine.list(self._slots.site.labels()) if one.kind == "slot"
        }
        emptied = revived = 0
        for pair in await self._pairs():
            with attempts.one():
                project = await self._project(pair.project)
                if project is None or await self._busy(pair):
                    continue
                for name in BOTH:
                    berth = Berth(pair.project, project.uid, pair.environment, name)
                    slot, found = pair.slot(name), seen.pop(berth.name, None)
                    if found is not None and found.labels.get(DEPLOYMENT) != slot.deployment:
                        seen[berth.name] = found
                    elif found is None and slot.state in ("deployed", "grace"):
                        emptied += await self._write_off(berth, slot)
                    elif slot.state == "active":
                        revived += await self._revival.mend(berth, found)
                    elif found is None and slot.state == "empty" and slot.port is not None:
                        await self._store.run(partial(self._free_if_empty, berth=berth), TIDY)
        return emptied, revived, await attempts.each(seen.values(), self._remove_orphan)

    async def _write_off(self, berth: Berth, slot: Slot) -> bool:
        """Looked at once more, now that nobody is at work there."""
        if await self._engine.inspect(berth.name) is not None:
            return False
        emptied = partial(empty_slot, key=berth.pair, name=berth.slot, deployment=slot.deployment)
        await self._store.run(emptied, TIDY)
        await self._store.run(partial(self._free_if_empty, berth=berth), TIDY)
        return True

    async def _remove_orphan(self, one: Observed) -> bool:
        labels = one.labels
        project, owner = labels.get("quaymaster.name", ""), one.owner
        environment, name = labels.get("quaymaster.environment"), labels.get("quaymaster.slot")
        if owner is None or name not in BOTH or environment not in ("production", "staging", "preview"):
            return False
        berth = Berth(project, owner.project, environment, name)  # type: ignore[arg-type]
        if berth.name != one.name or not await self._orphan(berth, one):
            return False
        await self._slots.take_away(berth, labels.get(DEPLOYMENT))
        await self._store.run(partial(self._free_if_empty, berth=berth), TIDY)
        return True

    async def _orphan(self, berth: Berth, seen: Observed) -> bool:
        """By the record as it is now: no slot holds it, and nobody is at work there."""
        pair = await self._store.read(lambda tx: tx.slots.get(berth.pair))
        if pair is None:
            return True
        return not await self._busy(pair) and pair.slot(berth.slot).deployment != seen.labels.get(DEPLOYMENT)

    async def _busy(self, pair: SlotPair) -> bool:
        async def look(tx: Reading) -> bool:
            now = await tx.slots.get(pair.key)
            running = await tx.deployments.running(pair.project, pair.environment)
            return running is not None or (now is not None and now.switching is not None)

        return await self._store.read(look)

    # -- ports and networks ------------------------------------------------------------------------------

    async def _match_ports(self) -> None:
        """Ports of this home that no slot has any more, because its project is gone, are free again."""
        given = await self._store.read(lambda tx: tx.ports.of_host(self._slots.site.host))
        kept = _ports(await self._pairs())
        for one in given:
            if one.purpose == "slot" and one.holder.startswith(f"{self._home}/") and one.port not in kept:
                await self._store.run(partial(self._free, key=one.key, holder=one.holder), TIDY)

    async def _free(self, tx: Transaction, *, key: str, holder: str) -> None:
        """Looked at once more: a slot that begins to be filled has its port and the entry in one transaction."""
        allocation = await tx.ports.hold(key)
        if allocation is None or allocation.holder != holder:
            return
        if allocation.port not in _ports(await tx.slots.of_home(self._home)):
            await tx.ports.remove(allocation)

    async def _remove_networks(self) -> None:
        """Networks of projects that are gone, once nothing is attached to them."""
        databases = await self._store.read(lambda tx: tx.databases.of_home(self._home))
        known = {one.project_uid for one in databases} | {
            project.uid for pair in await self._pairs() if (project := await self._project(pair.project))
        }
        for network in await self._engine.networks(self._slots.site.labels()):
            owner = network.owner
            if owner is None or owner.project in known or owner.project == SHARED:
                continue
            name = network.name.removeprefix(project_network_name(""))
            project = await self._project(name)
            if project_network_name(name) == network.name and (
                project is None or project.uid != owner.project
            ):
                with suppress(QuaymasterError):
                    await self._engine.remove_network(Ref(name=network.name, owner=owner))

    async def _pairs(self) -> Sequence[SlotPair]:
        return await self._store.read(lambda tx: tx.slots.of_home(self._home))

    async def _project(self, name: str) -> Project | None:
        return await self._store.read(lambda tx: tx.projects.get(name))

    async def _deployment(self, id: str | None) -> Deployment | None:
        return await self._store.read(lambda tx: tx.deployments.get(id or ""))


def _ports(pairs: Sequence[SlotPair]) -> set[int | None]:
    return {pair.slot(name).port for pair in pairs for name in BOTH}
