"""Which host names lead where: what the proxy's state should be, what it is, and putting it right.

The store says how it should be. While somebody is at work on a project's environment, its route stays as it is.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from mcp_server.domain.deployments import Deployment
from mcp_server.domain.domains import DomainName
from mcp_server.domain.errors import QuaymasterError
from mcp_server.domain.hosts import is_host
from mcp_server.domain.projects import Project
from mcp_server.domain.routes import NOBODY_LISTENS, Preview, Probe, Repair, Route, repairs
from mcp_server.domain.slots import SlotName, SlotPair, Switch
from mcp_server.ports.store import Intent, Reading, Store, Transaction
from mcp_server.services.deployments.berths import Berth
from mcp_server.services.deployments.slots import Slots
from mcp_server.services.pages import every

log = logging.getLogger(__name__)
BOTH: tuple[SlotName, ...] = ("blue", "green")
RECOVER = Intent("deploy_project", "quaymaster")


class Names(NamedTuple):
    """`hosts` follow the active slot, the environment's own first; `tls`: those that may have a certificate."""

    hosts: tuple[str, ...]
    tls: tuple[str, ...]


class Routing:
    def __init__(self, store: Store, slots: Slots) -> None:
        self._store = store
        self._slots = slots

    @property
    def _home(self) -> str:
        return self._slots.site.home

    # -- one pair ----------------------------------------------------------------------------------------

    async def names_of(self, pair: SlotPair) -> Names:
        """What is to be attached when this pair has an active slot, whether it has one now or not."""
        own = self._slots.host(Berth(pair.project, "-", pair.environment, "blue"))
        domains = await self._domains(pair)
        secured = (own, *(one.domain for one in domains if one.ssl_enabled))
        hosts = (own, *(one.domain for one in domains))
        return Names(hosts, secured if self._slots.edge.certifies else ())

    async def point_back(self, pair: SlotPair, switch: Switch) -> None:
        """Traffic that this switch has moved goes where the pair's record has it."""
        edge, route = self._slots.edge, f"{pair.project}.{pair.environment}"
        if await edge.active(route) != switch.slot:
            return
        back = await self._route(pair)
        if back is None or back.active is None or back.target is None:
            await edge.forget(route)
        else:
            await edge.point(route, back.active, back.target)

    # -- all of this home --------------------------------------------------------------------------------

    async def mend(self) -> int:
        """The proxy runs, and its state is as the store says; how much was put right."""
        if not self._slots.edge.routes_traffic:
            return 0
        pairs = await self._pairs()
        if any(pair.active is not None for pair in pairs):
            await self._bring_up()
        observed = await self._all_observed()
        mended = 0
        for name in sorted(observed.keys() | {_name(pair) for pair in pairs}):
            wanted = await self._wanted(name, await self._pair_of(name))
            if self._repairs(observed.get(name, Route(name=name)), wanted):
                mended += (await self._store.run(partial(self._mend, name=name), RECOVER)).value
        return mended

    async def differences(self) -> tuple[str, ...]:
        """What the proxy's state and its answers have otherwise than the store, a sentence each. Changes nothing."""
        if not self._slots.edge.routes_traffic:
            return ()
        observed = await self._all_observed()
        known = {_name(pair) for pair in await self._pairs()}
        found = []
        for name in sorted(observed.keys() | known):
            pair = await self._pair_of(name)
            if pair is None or not await self._store.read(partial(_busy, pair=pair)):
                wanted = await self._wanted(name, pair)
                route = observed.get(name, Route(name=name))
                found += [_in_words(one) for one in self._repairs(route, wanted)]
        return (*found, *[one async for one in self._wrong_answers(observed.values())])

    async def _bring_up(self) -> None:
        """Somebody may have removed the proxy. Where it cannot be had, the rest is looked after all the same."""
        try:
            await self._slots.edge.ensure()
        except QuaymasterError as error:
            log.warning("the proxy does not run: %s", error.message)

    async def _wrong_answers(self, routes: Iterable[Route]) -> AsyncIterator[str]:
        """By asking the proxy for every host name, as far as it answers at all."""
        for route in routes:
            aims = [(host, route.active) for host in route.hosts if route.active is not None]
            for host, slot in (*aims, *((preview.host, preview.slot) for preview in route.previews)):
                (probe,) = await self._slots.edge.probe(host)
                if probe.error == NOBODY_LISTENS:
                    return
                if (wrong := _wrong(probe, slot)) is not None:
                    yield f"{host} should go to {slot}, but {wrong}."

    def _repairs(self, found: Route, wanted: Route) -> tuple[Repair, ...]:
        """A proxy without TLS may keep permissions from when it had it; they mean nothing."""
        if self._slots.edge.certifies:
            return repairs((found,), (wanted,))
        return repairs((found.change(tls=()),), (wanted.change(tls=()),))

    async def _mend(self, tx: Transaction, *, name: str) -> int:
        """While the pair is held nobody can begin to move its traffic. What is done here takes milliseconds."""
        project, _, environment = name.rpartition(".")
        pair = await tx.slots.hold(f"{project}/{environment}")
        if pair is not None and await _busy(tx, pair=pair):
            return 0
        found = (await self._all_observed()).get(name, Route(name=name))
        wanted = await self._wanted(name, pair)
        done = self._repairs(found, wanted)
        for repair in done:
            log.info("the edge is put right", extra={"repair": str(repair)})
        await self._bring_about(found, wanted)
        return len(done)

    async def _bring_about(self, found: Route, wanted: Route) -> None:
        edge, name = self._slots.edge, wanted.name
        if wanted.active is not None and wanted.target is not None:
            if (found.active, found.target) != (wanted.active, wanted.target):
                await edge.point(name, wanted.active, wanted.target)
        elif found.active is not None or not (wanted.hosts or wanted.previews):
            await edge.forget(name)
        for host in wanted.hosts:
            await edge.attach(host, name)
        for preview in wanted.previews:
            await edge.preview(name, preview)
        kept = {*wanted.hosts, *(preview.host for preview in wanted.previews)}
        for host in (*found.hosts, *(preview.host for preview in found.previews)):
            if host not in kept:
                await edge.detach(host)
        for host in wanted.tls:
            await edge.allow_tls(host)
        for host in set(found.tls) & kept - set(wanted.tls):
            await edge.deny_tls(host)

    async def _all_observed(self) -> dict[str, Route]:
        return {route.name: route for route in await self._slots.edge.routes()}

    async def _pair_of(self, name: str) -> SlotPair | None:
        project, _, environment = name.rpartition(".")
        return await self._store.read(lambda tx: tx.slots.get(f"{project}/{environment}"))

    async def _wanted(self, name: str, pair: SlotPair | None) -> Route:
        """How the route should be. Domains may lead to what was never deployed: they answer 404."""
        project, _, environment = name.rpartition(".")
        if await self._project(project) is None or (pair is not None and pair.home not in (None, self._home)):
            return Route(name=name)
        if pair is None:
            bare = {"project": project, "environment": environment, "updated_at": datetime.now(UTC)}
            pair = SlotPair.model_validate(bare)
        return await self._route(pair) or Route(name=name)

    async def _route(self, pair: SlotPair) -> Route | None:
        """How the proxy should send this pair's host names; None when it should not know it."""
        project = await self._project(pair.project)
        if project is None:
            return None
        aims = {}
        previews = []
        for name in BOTH:
            berth, slot = Berth(pair.project, project.uid, pair.environment, name), pair.slot(name)
            deployment = await self._deployment(slot.deployment)
            if slot.port is None or deployment is None or deployment.release is None:
                continue
            aims[name] = self._slots.target(berth, deployment.release.container_port, slot.port)
            with suppress(QuaymasterError):
                host = self._slots.preview_host(berth)
                previews.append(Preview(host=host, slot=name, target=aims[name]))
        active = pair.active if pair.active in aims else None
        names = await self.names_of(pair)
        own = names.hosts[0]
        hosts = names.hosts if active else tuple(host for host in names.hosts if host != own)
        shown = tuple(preview.host for preview in previews) if self._slots.edge.certifies else ()
        return Route(
            name=_name(pair),
            active=active,
            target=None if active is None else aims[active],
            hosts=hosts,
            previews=tuple(previews),
            tls=(*(host for host in names.tls if host in hosts), *shown),
        )

    async def _domains(self, pair: SlotPair) -> list[DomainName]:
        found = await self._store.read(lambda tx: every(partial(tx.domains.of_project, pair.project)))
        return [
            one
            for one in found
            if one.environment == pair.environment and one.status == "active" and is_host(one.domain)
        ]

    async def _pairs(self) -> Sequence[SlotPair]:
        return await self._store.read(lambda tx: tx.slots.of_home(self._home))

    async def _project(self, name: str) -> Project | None:
        return await self._store.read(lambda tx: tx.projects.get(name))

    async def _deployment(self, id: str | None) -> Deployment | None:
        return await self._store.read(lambda tx: tx.deployments.get(id or ""))


async def _busy(tx: Reading, *, pair: SlotPair) -> bool:
    return (
        pair.switching is not None or await tx.deployments.running(pair.project, pair.environment) is not None
    )


def _name(pair: SlotPair) -> str:
    return f"{pair.project}.{pair.environment}"


def _in_words(difference: Repair) -> str:
    """`made` is how it should be."""
    name = difference.name
    if difference.kind == "route":
        return f"The route {name} leads to {difference.found}, and should lead to {difference.made}."
    what = {"host": "host name", "preview": "preview", "tls": "permission for a certificate of"}
    wrong = "should not be there" if difference.made == "removed" else f"is {difference.found}"
    return f"The {what[difference.kind]} {name} {wrong}."


def _wrong(probe: Probe, slot: SlotName) -> str | None:
    if probe.error is not None:
        return probe.error
    if probe.slot not in (None, slot):
        return f"{probe.slot} answers"
    if probe.slot is None and probe.status == 404:
        return "the proxy knows no such project: can its user read the edge's directory?"
    if probe.status is not None and probe.status >= 500:
        return f"the answer is {probe.status}"
    return None if probe.slot == slot else "the answer names no slot"
