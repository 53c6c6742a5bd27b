"""Slots as they are now, and cleaning one up."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from mcp_server.domain.deployments import Deployment
from mcp_server.domain.errors import Conflict, Failure, NotFound, QuaymasterError
from mcp_server.domain.projects import Project
from mcp_server.domain.records import Moment, Value
from mcp_server.domain.results import PlanResult, Result
from mcp_server.domain.routes import NOBODY_LISTENS, route_name
from mcp_server.domain.slots import SlotName, SlotPair, SlotState, pair_key, vacated
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.databases import Workers
from mcp_server.ports.store import Reading, Store, Transaction
from mcp_server.services.access import chosen_environment, project_of
from mcp_server.services.calls import Call, Calls
from mcp_server.services.deployments.berths import Berth
from mcp_server.services.deployments.outfit import Outfit
from mcp_server.services.deployments.recovery import Recovery
from mcp_server.services.deployments.reservations import Reservations, require_no_switch
from mcp_server.services.deployments.slots import Seen, Slots, Step
from mcp_server.services.plans import draw_token, gate

BOTH: tuple[SlotName, ...] = ("blue", "green")
NOWHERE = "nowhere.invalid"
"""A host name that leads to no project: what answers it is the proxy."""

SILENT = "the proxy does not answer, so visitors reach nothing; 'quaymaster edge check' says what is wrong"


class SlotView(Value):
    """`health` and `reason` are observed. `connections` are the proxy's open ones to a slot without traffic."""

    state: SlotState
    health: str
    reason: str | None = None
    version: str | None = None
    image: str | None = None
    image_id: str | None = None
    deployment: str | None = None
    environment_version: int | None = None
    port: int | None = None
    preview_url: str | None = None
    connections: int | None = None
    deployed_at: Moment | None = None
    deployed_by: str | None = None


class AtWork(Value):
    """Who is at work on the pair, and since when."""

    what: str
    id: str
    by: str | None
    since: Moment
    step: str | None = None


class PairView(Result):
    """`rollback` says how a rollback would be: at once, cold (started anew), or None when there is none."""

    project: str
    environment: EnvironmentName
    host: str | None = None
    url: str | None = None
    active: SlotName | None = None
    blue: SlotView
    green: SlotView
    rollback: str | None = None
    rollback_version: str | None = None
    rollback_until: Moment | None = None
    at_work: AtWork | None = None
    last_switch: str | None = None
    warnings: tuple[str, ...] = ()
    next: str | None = None


@dataclass(frozen=True, slots=True)
class _Records:
    project: Project
    pair: SlotPair
    deployments: dict[SlotName, Deployment]
    previous: Deployment | None
    running: Deployment | None
    variables: int
    now: Moment
    shut_present: Failure | None
    shut_previous: Failure | None

    @property
    def cold(self) -> bool:
        """Whether the version before must be started anew."""
        previous = self.previous
        return previous is not None and self.pair.slot(self.pair.idle).deployment != previous.id


class SlotBoard:
    def __init__(
        self,
        calls: Calls,
        store: Store,
        slots: Slots,
        reservations: Reservations,
        recovery: Recovery,
        workers: Workers,
        outfit: Outfit,
        *,
        step: Step,
    ) -> None:
        self._calls = calls
        self._store = store
        self._slots = slots
        self._reservations = reservations
        self._recovery = recovery
        self._workers = workers
        self._outfit = outfit
        self._step = step

    async def status(self, call: Call, project: str, environment: EnvironmentName | None = None) -> PairView:
        """Both slots as they are observed now, and what may be done."""
        found = await self._calls.read(
            partial(self._records, call=call, project=project, environment=environment)
        )
        call.about("slots", found.pair.key)
        here = found.pair.home in (None, self._slots.site.home)
        seen = {name: await self._seen(found, name, here=here) for name in BOTH}
        route = await self._route(found.pair) if here else found.pair.active
        views = {name: await self._slot(found, name, seen[name], here=here) for name in BOTH}
        return PairView(
            project=found.project.name,
            environment=found.pair.environment,
            host=found.pair.host_name,
            url=self._url(found.pair),
            active=found.pair.active,
            blue=views["blue"],
            green=views["green"],
            **_way_back(found),
            at_work=self._at_work(found),
            last_switch=_last(found.pair),
            warnings=(
                *await self._silence(found, here=here),
                *_warnings(found, seen, route, routed=self._slots.edge.routes_traffic),
            ),
            next=_next(found),
        )

    async def cleanup(
        self,
        call: Call,
        project: str,
        environment: EnvironmentName | None = None,
        slot: SlotName | None = None,
    ) -> PlanResult:
        """Remove the container of a slot without traffic (the idle one unless named), planned first."""
        token = draw_token()
        known = await self._calls.read(
            partial(self._records, call=call, project=project, environment=environment)
        )
        self._reservations.require_here(known.pair)
        call.about("slots", known.pair.key)
        await self._recovery.settle_abandoned(known.pair.key)
        left: list[tuple[Berth, str | None]] = []

        async def clean(tx: Transaction) -> PlanResult:
            left.clear()
            found = await project_of(tx, call.caller, project)
            pair = await tx.slots.hold(pair_key(found.name, known.pair.environment))
            if pair is None:
                raise NotFound("nothing was deployed there yet")
            name = slot or pair.idle
            await _require_idle(tx, pair, name)
            held, berth = pair.slot(name), Berth(found.name, found.uid, pair.environment, name)
            effects = _effects(pair, name)
            target = {"pair": pair.key, "slot": name, "deployment": held.deployment}
            planned = await gate(tx, call, token, target=target, holds=(pair,), effects=effects)
            if planned is not None:
                return planned
            emptied = await tx.slots.save(vacated(pair, name, await tx.now()))
            await self._slots.ports.free_of(tx, berth, emptied)
            left.append((berth, held.deployment))
            return PlanResult(status="done", message=f"{name} is empty.", effects=effects)

        result = await self._calls.write(call, clean, PlanResult)
        # A repeated call is told the same and has emptied nothing: by now something else may run there.
        for berth, deployment in left:
            self._step("cleanup.emptied")
            await self._slots.take_away(berth, deployment)
            self._step("cleanup.removed")
        return result

    # -- looking -----------------------------------------------------------------------------------------

    async def _records(
        self, tx: Reading, *, call: Call, project: str, environment: EnvironmentName | None
    ) -> _Records:
        found = await project_of(tx, call.caller, project)
        name = await chosen_environment(tx, call.caller, environment)
        now = await tx.now()
        pair = await tx.slots.get(pair_key(found.name, name)) or SlotPair(
            project=found.name, environment=name, updated_at=now
        )
        held = {slot: await tx.deployments.get(pair.slot(slot).deployment or "") for slot in BOTH}
        variables = await tx.environments.get(pair.key)
        version = 0 if variables is None else variables.version
        previous = await tx.deployments.get(pair.previous or "")
        return _Records(
            project=found,
            pair=pair,
            deployments={slot: one for slot, one in held.items() if one is not None},
            previous=previous,
            running=await tx.deployments.running(found.name, name),
            variables=version,
            now=now,
            shut_present=await self._outfit.shut_version(tx, found, name, version),
            shut_previous=await self._outfit.shut(tx, found, previous),
        )

    async def _seen(self, found: _Records, name: SlotName, *, here: bool) -> Seen | None:
        """None when there is nothing to look at, or no way to."""
        slot, deployment = found.pair.slot(name), found.deployments.get(name)
        if slot.state == "empty" or not here:
            return None
        berth = Berth(found.project.name, found.project.uid, found.pair.environment, name)
        try:
            return await self._slots.look(berth, deployment.release if deployment else None, slot.port)
        except QuaymasterError as error:
            return Seen("starting", f"unknown: {error.message}")

    async def _route(self, pair: SlotPair) -> SlotName | None:
        try:
            return await self._slots.edge.active(route_name(pair.project, pair.environment))
        except QuaymasterError:
            return pair.active

    async def _silence(self, found: _Records, *, here: bool) -> tuple[str, ...]:
        """That the proxy itself does not answer. The application is not asked for it."""
        edge = self._slots.edge
        if not here or found.pair.active is None or not edge.routes_traffic:
            return ()
        (probe,) = await edge.probe(NOWHERE)
        return (SILENT,) if probe.error == NOBODY_LISTENS else ()

    async def _slot(self, found: _Records, name: SlotName, seen: Seen | None, *, here: bool) -> SlotView:
        slot, deployment = found.pair.slot(name), found.deployments.get(name)
        release = deployment.release if deployment else None
        berth = Berth(found.project.name, found.project.uid, found.pair.environment, name)
        filled = slot.state != "empty"
        connections = None
        if here and filled and slot.state != "active" and slot.port is not None and release is not None:
            try:
                connections = await self._slots.open_connections(berth, release, slot.port)
            except QuaymasterError:
                connections = None
        return SlotView(
            state=slot.state,
            health=seen.health if seen else "unknown" if filled else "empty",
            reason=seen.reason if seen else None,
            version=slot.version,
            image=slot.image,
            image_id=release.image_id if release else None,
            deployment=slot.deployment,
            environment_version=release.environment_version if release else None,
            port=slot.port,
            preview_url=self._slots.preview_url(berth) if filled else None,
            connections=connections,
            deployed_at=slot.deployed_at,
            deployed_by=slot.deployed_by,
        )

    def _url(self, pair: SlotPair) -> str | None:
        if pair.active is None:
            return None
        return self._slots.edge.url(self._slots.host(Berth(pair.project, "-", pair.environment, "blue")))

    def _at_work(self, found: _Records) -> AtWork | None:
        running, switch = found.running, found.pair.switching
        if running is not None:
            step = running.steps[-1].name if running.steps else None
            return AtWork(
                what="deploy", id=running.id, by=running.deployed_by, since=running.created_at, step=step
            )
        if switch is not None:
            return AtWork(what=switch.kind, id=switch.id, by=switch.by, since=switch.at)
        return None


def _way_back(found: _Records) -> dict[str, object]:
    pair, previous = found.pair, found.previous
    if pair.active is None or previous is None:
        return {}
    until = pair.grace_expires_at
    if until is not None and until <= found.now:
        return {}
    if found.cold and found.shut_previous is not None:
        return {}
    return {
        "rollback": "cold" if found.cold else "at once",
        "rollback_version": previous.version,
        "rollback_until": until,
    }


def _warnings(
    found: _Records, seen: dict[SlotName, Seen | None], route: SlotName | None, *, routed: bool
) -> list[str]:
    """What is not as the records say, and what will change by itself."""
    pair, told = found.pair, []
    for name in BOTH:
        look, slot, deployment = seen[name], pair.slot(name), found.deployments.get(name)
        if look is None or deployment is None:
            continue
        if look.health not in ("healthy", "starting"):
            told.append(f"{name} ({slot.state}) is {look.health}: {look.reason}")
        if look.restarts and deployment.release is not None:
            told.append(
                f"{name} ended by itself and was started again {look.restarts} times, with "
                f"{deployment.release.memory} MB of memory as its limit; deployment_logs shows its last lines"
            )
        if look.deployment not in (None, slot.deployment):
            told.append(f"{name} runs deployment {look.deployment}, not {slot.deployment}")
        release = deployment.release
        if release and look.image_id and release.image_id and look.image_id != release.image_id:
            told.append(f"{name} runs another image content than was deployed")
        if release and release.environment_version < found.variables:
            told.append(
                f"{name} runs version {release.environment_version} of the variables, "
                f"the present one is {found.variables}"
            )
    told += _shut(found)
    if routed and route != pair.active and pair.switching is None:
        told.append(
            f"the proxy sends traffic to {route or 'nowhere'}, the record says {pair.active or 'nowhere'}"
        )
    if pair.grace_expires_at is not None and pair.slot(pair.idle).state == "grace":
        told.append(
            f"{pair.idle} is removed at {pair.grace_expires_at:%Y-%m-%d %H:%M} UTC; until then rollback is at once"
        )
    return told


def _shut(found: _Records) -> list[str]:
    """What cannot be started because its variables do not open."""
    told = []
    if found.shut_present is not None:
        told.append(f"nothing can be deployed: {found.shut_present.message} {found.shut_present.next}")
    if found.cold and found.shut_previous is not None and found.previous is not None:
        why = found.shut_previous
        told.append(
            f"version {found.previous.version} cannot be started for a rollback: {why.message} {why.next}"
        )
    return told


def _last(pair: SlotPair) -> str | None:
    switch = pair.switch
    if switch is None or switch.stage == "intended":
        return None
    if switch.stage == "returned":
        error = (switch.error or "").rstrip(".")
        why = f"{error}. {switch.next}" if switch.next else error
        return f"a {switch.kind} to {switch.slot} by {switch.by} did not happen: {why}"
    return f"{switch.kind} to {switch.slot} by {switch.by} at {switch.ended_at:%Y-%m-%d %H:%M:%S} UTC"


def _next(found: _Records) -> str | None:
    pair = found.pair
    if found.running is not None:
        return f"get_deployment('{found.running.id}', wait_seconds=45)"
    if pair.slot(pair.idle).state == "deployed" and pair.switching is None:
        return f"promote gives version {pair.slot(pair.idle).version} the traffic"
    if pair.active is None:
        return "deploy_project starts a first version"
    return None


async def _require_idle(tx: Transaction, pair: SlotPair, name: SlotName) -> None:
    slot = pair.slot(name)
    if slot.state == "active":
        raise Conflict(f"{name} has the traffic", next="Promote another version first.")
    if slot.state == "empty":
        raise Conflict(f"{name} is empty already")
    require_no_switch(pair)
    running = await tx.deployments.running(pair.project, pair.environment)
    if running is not None:
        raise Conflict(
            f"{running.deployed_by} deploys there since {running.created_at:%H:%M:%S} UTC",
            deployment=running.id,
        )


def _effects(pair: SlotPair, name: SlotName) -> tuple[str, ...]:
    slot = pair.slot(name)
    gone = f"the container of version {slot.version} in {name} ({slot.state}) is removed"
    if slot.state == "grace":
        return gone, "a rollback starts that version anew from its image, which takes longer"
    return gone, "that version must be deployed again before it can be promoted"
