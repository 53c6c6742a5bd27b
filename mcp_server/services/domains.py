"""Domains of projects: names in the operator's zones, and names that people bring.

A name is kept first, which makes it this project's; then DNS is told or asked; the edge answers it, and a
certificate may be asked for, when DNS was seen to lead here. What is cut short is gone on with by `verify`, and the
edge is put right by the recovery of its home. Promote and rollback touch no domain: all of them follow the route.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

import anyio

from mcp_server.domain.callers import Caller
from mcp_server.domain.domains import DomainName
from mcp_server.domain.errors import NotFound, QuaymasterError, QuotaExceeded, Unavailable
from mcp_server.domain.hosts import custom_host, public_host
from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.records import Moment, Value
from mcp_server.domain.results import PlanResult, Result
from mcp_server.domain.routes import route_name
from mcp_server.domain.slots import SlotPair, pair_key
from mcp_server.domain.teams import EnvironmentName
from mcp_server.domain.wording import counted
from mcp_server.ports.dns import Resolver, Zones
from mcp_server.ports.edge import Edge
from mcp_server.ports.store import Intent, Reading, Store, Transaction
from mcp_server.services.access import project_of, team_of
from mcp_server.services.calls import Call, Calls
from mcp_server.services.host_names import require_own_domain, taken_domain
from mcp_server.services.pages import page_size
from mcp_server.services.plans import draw_token, gate

log = logging.getLogger(__name__)
WORK = Intent("verify_domain", "quaymaster")
TIDY = Intent("tidy_domains", "quaymaster")
TIDY_SECONDS = 600.0
NO_ADDRESS = "the operator has not set QUAYMASTER_EDGE_ADDRESS, so nothing can be compared with DNS"

DomainStatus = Literal["pending", "active", "error"]
DomainType = Literal["subdomain", "custom"]


class DomainView(Result):
    """`answers`: the edge sends it to the project. `records`: what DNS must hold. `problem`: why it is not active."""

    domain: str
    project: str
    environment: EnvironmentName
    type: DomainType
    status: DomainStatus
    answers: bool = False
    url: str | None = None
    dns_verified_at: Moment | None = None
    records: tuple[str, ...] = ()
    problem: str | None = None
    next: str | None = None


class DomainItem(Value):
    domain: str
    environment: EnvironmentName
    type: DomainType
    status: DomainStatus
    answers: bool


class DomainList(Result):
    domains: tuple[DomainItem, ...]
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class DomainOptions:
    """`addresses`: where DNS must lead: addresses of the edge, or names that lead to it. `issuer` of certificates."""

    base_domain: str = "localhost"
    addresses: tuple[str, ...] = ()
    issuer: str | None = None
    quota: int = 200


class Domains:
    """`home`: the home whose edge this is."""

    def __init__(
        self,
        calls: Calls,
        store: Store,
        resolver: Resolver,
        zones: Zones,
        edge: Edge,
        *,
        home: str,
        options: DomainOptions,
    ) -> None:
        self._calls = calls
        self._store = store
        self._resolver = resolver
        self._zones = zones
        self._edge = edge
        self._home = home
        self._options = options

    # -- use cases ---------------------------------------------------------------------------------------

    async def add(
        self, call: Call, *, project: str, domain: str, environment: EnvironmentName = "production"
    ) -> DomainView:
        """Keep the name for this project and environment, then go on as `verify` does.

        Raises Conflict, naming free ones, when any project or domain of any team has the name, or its zone holds
        records that others made; QuotaExceeded; Invalid for a name that nobody may bring.
        """
        host = public_host(domain)
        zone = self._zones.zone_of(host)
        if zone is None:
            host = custom_host(domain, self._options.base_domain)
        call.about("domains", host)
        await self._calls.read(partial(self._require_free, call=call, project=project, host=host))
        if zone is not None and (held := await self._zones.taken(host)):
            why = f"has records in {zone} that were not made here ({', '.join(held[:3])})"
            raise await self._calls.read(partial(self._taken, host=host, why=why))
        kind: DomainType = "custom" if zone is None else "subdomain"
        keep = partial(self._keep, call=call, project=project, host=host, kind=kind, environment=environment)
        kept = await self._calls.write(call, keep, DomainView)
        return (await self._gone_on(call.caller, host)).change(notices=kept.notices)

    async def verify(self, call: Call, *, domain: str) -> DomainView:
        """Look where DNS leads now; what leads here is answered and may have a certificate from then on."""
        host = public_host(domain)
        call.about("domains", host)
        return await self._gone_on(call.caller, host)

    async def list(
        self, call: Call, *, project: str, limit: int = DEFAULT_LIMIT, cursor: str | None = None
    ) -> DomainList:
        """The domains of a project by name."""
        size = page_size(limit)

        async def look(tx: Reading) -> DomainList:
            found = await project_of(tx, call.caller, project)
            page = await tx.domains.of_project(found.name, limit=size, after=cursor)
            items = tuple(_item(one, self._answers(one, answered)) for one in page.items)
            return DomainList(domains=items, cursor=page.cursor)

        answered = await self._answered()
        return await self._calls.read(look)

    async def remove(self, call: Call, *, domain: str) -> PlanResult:
        """Give a name up: first the plan, then, with its token, exactly that."""
        host = public_host(domain)
        call.about("domains", host)
        token = draw_token()

        async def transaction(tx: Transaction) -> PlanResult:
            kept = await _mine(tx, call.caller, host, hold=True)
            ours = self._zones.zone_of(host) is not None and kept.type == "subdomain"
            effects = (
                f"{host} no longer answers for {kept.project} in {kept.environment}",
                "no certificate is asked for it any more",
                *((f"its records in {self._zones.zone_of(host)} are deleted",) if ours else ()),
                "anybody may take the name",
            )
            planned = await gate(tx, call, token, target={"domain": host}, holds=(kept,), effects=effects)
            if planned is not None:
                return planned
            await tx.domains.remove(kept)
            return PlanResult(status="done", message=f"{host} is removed.", effects=effects)

        done = await self._calls.write(call, transaction, PlanResult)
        if done.status != "done":
            return done
        return done.change(notices=(*done.notices, *await self.let_go([host])))

    async def let_go(self, hosts: Sequence[str]) -> tuple[str, ...]:
        """Edge and zones no longer know these names, whose records are gone; what is left over, in sentences.

        A name that somebody has taken meanwhile is left to them.
        """
        left: list[str] = []
        for host in hosts:
            if await self._store.read(partial(_kept, host=host)):
                continue
            try:
                await self._edge.deny_tls(host)
                await self._edge.detach(host)
            except QuaymasterError as error:
                left.append(f"The edge still knows {host}: {error.message}. It is put right by itself.")
            try:
                if self._zones.zone_of(host) is not None:
                    await self._zones.remove(host)
            except QuaymasterError as error:
                left.append(f"DNS still has {host}: {error.message}. It is tidied up later.")
        return tuple(left)

    async def tidy(self) -> tuple[str, ...]:
        """Delete DNS records of ours whose domain is gone, and say which. Only while the store is the whole truth."""
        made = await self._zones.made()

        async def orphans(tx: Transaction) -> tuple[str, ...]:
            return tuple([host for host in made if await tx.domains.get(host) is None])

        found = (await self._store.run(orphans, TIDY)).value if made else ()
        for host in found:
            await self._zones.remove(host)
        return found

    async def lead(self) -> None:
        """For ever, in the one process of the home that leads."""
        while True:
            await anyio.sleep(TIDY_SECONDS)
            try:
                await self.tidy()
            except QuaymasterError as error:
                log.info("DNS is tidied up later: %s", error.message)

    # -- keeping -----------------------------------------------------------------------------------------

    async def _require_free(self, tx: Reading, *, call: Call, project: str, host: str) -> DomainName | None:
        """The domain where it is this project's already. Raises Conflict when it is somebody else's."""
        found = await project_of(tx, call.caller, project)
        kept = await tx.domains.get(host)
        if kept is not None and kept.project != found.name:
            raise await self._taken(tx, host=host, why="is taken")
        await require_own_domain(tx, host, self._options.base_domain)
        return kept

    async def _taken(self, tx: Reading, *, host: str, why: str) -> QuaymasterError:
        return await taken_domain(tx, host, self._options.base_domain, why)

    async def _keep(
        self,
        tx: Transaction,
        *,
        call: Call,
        project: str,
        host: str,
        kind: DomainType,
        environment: EnvironmentName,
    ) -> DomainView:
        team = await team_of(tx, call.caller, hold=True)
        found = await project_of(tx, call.caller, project, hold=True)
        kept = await self._require_free(tx, call=call, project=project, host=host)
        if kept is not None:
            if kept.environment != environment:
                raise await self._taken(tx, host=host, why=f"leads to {kept.environment} already")
            return self._view(kept)
        await self._require_quota(tx, team.id)
        now = await tx.now()
        added = await tx.domains.add(
            DomainName(
                domain=host,
                project=found.name,
                environment=environment,
                type=kind,
                ssl_issuer=self._options.issuer,
                created_by=call.caller.user[:255],
                created_at=now,
                updated_at=now,
            )
        )
        await require_own_domain(tx, host, self._options.base_domain)
        return self._view(added)

    async def _require_quota(self, tx: Reading, team_id: str) -> None:
        count = await tx.domains.count_of_team(team_id)
        if count >= self._options.quota:
            raise QuotaExceeded(f"the team has {counted(count, 'domain')}, the most it may have")

    # -- going on ----------------------------------------------------------------------------------------

    async def _gone_on(self, caller: Caller, host: str) -> DomainView:
        kept, _ = await self._calls.read(partial(_with_pair, caller=caller, host=host))
        problem = await self._problem(kept)
        judged = partial(self._judged, caller=caller, host=host, leads_here=problem is None)
        kept = (await self._store.run(judged, WORK)).value
        left = await (self._open(kept, caller) if problem is None else self._close(kept))
        answers = self._answers(kept, await self._answered())
        return self._view(kept, answers, problem or left)

    async def _problem(self, kept: DomainName) -> str | None:
        """Why the name is not seen to lead here. Raises Unavailable when DNS says nothing about an active name."""
        if not self._options.addresses:
            return NO_ADDRESS
        try:
            if kept.type == "subdomain" and self._zones.zone_of(kept.domain) is not None:
                await self._zones.point(kept.domain, self._options.addresses)
            wanted = await self._wanted()
            found = await self._resolver.addresses(kept.domain)
        except QuaymasterError as error:
            if kept.status == "active" and isinstance(error, Unavailable):
                raise
            return f"{error.message}. {error.next}"
        if found and found <= wanted:
            return None
        leads = "nowhere" if not found else f"to {', '.join(sorted(found)[:5])}"
        return f"DNS leads {leads}, not to {', '.join(sorted(wanted)[:5])} alone"

    async def _wanted(self) -> frozenset[str]:
        """The addresses of the edge, its names looked up. Raises Unavailable when they lead nowhere."""
        found: set[str] = set()
        for place in self._options.addresses:
            found |= {place} if _is_address(place) else await self._resolver.addresses(place)
        if not found:
            raise Unavailable(
                "the edge's own name has no address in DNS",
                next="The operator must correct QUAYMASTER_EDGE_ADDRESS.",
            )
        return frozenset(found)

    async def _judged(self, tx: Transaction, *, caller: Caller, host: str, leads_here: bool) -> DomainName:
        """As it was seen. An active name that leads elsewhere now is in error; one that never led here waits."""
        held = await _mine(tx, caller, host, hold=True)
        now = await tx.now()
        if leads_here:
            after = held.change(
                status="active", dns_configured=True, dns_verified_at=held.dns_verified_at or now
            )
        else:
            status: DomainStatus = "pending" if held.status == "pending" else "error"
            after = held.change(status=status, dns_configured=False, caddy_configured=False)
        return held if after == held else await tx.domains.save(after.change(updated_at=now))

    async def _open(self, kept: DomainName, caller: Caller) -> str | None:
        """The edge answers the name, where it has anything to answer with; else why it does not yet."""
        _, pair = await self._calls.read(partial(_with_pair, caller=caller, host=kept.domain))
        if pair is None or pair.active is None:
            return f"nothing is promoted in {kept.environment} yet; it answers from the first promote on"
        if pair.home != self._home:
            return f"{kept.environment} runs on {pair.host_name}, whose server opens it by itself"
        try:
            await self._edge.attach(kept.domain, route_name(kept.project, kept.environment))
            await self._edge.allow_tls(kept.domain)
        except QuaymasterError as error:
            return f"{error.message}. It is put right by itself"
        await self._store.run(partial(_opened, host=kept.domain), WORK)
        return None

    async def _close(self, kept: DomainName) -> None:
        """No certificate for a name that leads elsewhere, and no answer either."""
        with suppress(QuaymasterError):
            await self._edge.deny_tls(kept.domain)
            await self._edge.detach(kept.domain)

    async def _answered(self) -> frozenset[str]:
        """The host names that the edge of this home is seen to send to an active slot."""
        return frozenset(host for route in await self._edge.routes() if route.active for host in route.hosts)

    def _answers(self, kept: DomainName, answered: frozenset[str]) -> bool:
        """Where the person routes, what is verified is taken for answered."""
        return kept.status == "active" if not self._edge.routes_traffic else kept.domain in answered

    def _view(self, kept: DomainName, answers: bool = False, problem: str | None = None) -> DomainView:
        waits = kept.status != "active"
        return DomainView(
            domain=kept.domain,
            project=kept.project,
            environment=kept.environment,
            type=kept.type,
            status=kept.status,
            answers=answers,
            url=self._edge.url(kept.domain) if answers else None,
            dns_verified_at=kept.dns_verified_at,
            records=self._records(kept.domain) if waits else (),
            problem=problem,
            next=_next(kept) if waits and self._options.addresses else None,
        )

    def _records(self, host: str) -> tuple[str, ...]:
        return tuple(f"{host} {_record_type(place)} {place}" for place in self._options.addresses)


async def _mine(tx: Reading, caller: Caller, host: str, *, hold: bool = False) -> DomainName:
    """The domain, if a project of the caller's team has it. Raises NotFound."""
    kept = await (tx.domains.hold(host) if hold else tx.domains.get(host))
    project = None if kept is None else await tx.projects.get(kept.project)
    if kept is None or project is None or project.team_id != caller.team_id:
        raise NotFound(f"no domain {host} in this team", next="list_domains shows the domains of a project.")
    return kept


async def _with_pair(tx: Reading, *, caller: Caller, host: str) -> tuple[DomainName, SlotPair | None]:
    kept = await _mine(tx, caller, host)
    return kept, await tx.slots.get(pair_key(kept.project, kept.environment))


async def _kept(tx: Reading, *, host: str) -> bool:
    return await tx.domains.get(host) is not None


async def _opened(tx: Transaction, *, host: str) -> None:
    held = await tx.domains.hold(host)
    if held is not None and held.status == "active" and not held.caddy_configured:
        await tx.domains.save(held.change(caddy_configured=True, updated_at=await tx.now()))


def _next(kept: DomainName) -> str:
    if kept.type == "subdomain":
        return "Call verify_domain in a minute."
    return "Make these records where the domain's DNS is kept, remove others of the name, then call verify_domain."


def _item(kept: DomainName, answers: bool) -> DomainItem:
    return DomainItem(
        domain=kept.domain,
        environment=kept.environment,
        type=kept.type,
        status=kept.status,
        answers=answers,
    )


def _is_address(place: str) -> bool:
    try:
        ipaddress.ip_address(place)
    except ValueError:
        return False
    return True


def _record_type(place: str) -> str:
    if not _is_address(place):
        return "CNAME"
    return "AAAA" if ":" in place else "A"
