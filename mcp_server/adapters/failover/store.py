"""The store over PostgreSQL and the registry: which one serves a call, and how it changes.

The mode belongs to the home and is a line in its journal. A call on PostgreSQL runs under a shared hold of the mode; changing
it takes the exclusive one, so that no commit can slip past the change.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import anyio

from mcp_server.adapters import faults
from mcp_server.adapters.failover.follower import Follower
from mcp_server.adapters.failover.membership import Membership
from mcp_server.adapters.failover.recovery import Foreign, Recovery, answers
from mcp_server.domain.audit import AuditRow
from mcp_server.domain.changes import Line
from mcp_server.domain.degraded import refused
from mcp_server.domain.errors import Conflict, Degraded, Invalid, OutcomeUnknown, QuaymasterError, Unavailable
from mcp_server.domain.keys import ApiKey
from mcp_server.ports.mirror import AlreadyApplied, Facts, Mirror, Outage, Primary
from mcp_server.ports.store import Committed, Intent, Reading, StoreStatus, Transaction

T = TypeVar("T")
TRIES = 4
FOLLOW_SECONDS = 1.0
CLAIM_SECONDS = 5.0
TRIM_SECONDS = 60.0
PROBE_FIRST, PROBE_LAST = 0.25, 5.0

log = logging.getLogger(__name__)


class FailoverStore:
    """A `ports.store.Store`. `open` before the first call; `run_background` beside the calls."""

    def __init__(self, primary: Primary, mirror: Mirror) -> None:
        self._primary = primary
        self._mirror = mirror
        self._follower = Follower(primary, mirror)
        self._recovery = Recovery(primary, mirror, self._follower)
        self._membership: Membership | None = None
        self._foreign: str | None = None
        self._behind = False

    # -- opening

    async def open(self) -> None:
        """Connect, migrate, mirror. With PostgreSQL away an existing mirror is served degraded.

        Raises Unavailable when PostgreSQL is away and there is no mirror yet, and Invalid when this home holds embedded data
        that PostgreSQL does not have.
        """
        facts = await self._mirror.refresh()
        self._membership = Membership(self._primary, self._mirror, facts.home)
        try:
            if facts.mode == "embedded":
                await self._adopt_primary(facts)
            elif facts.mode == "primary":
                await self._rejoin(facts)
        except Outage as outage:
            if facts.mode == "embedded":
                raise Unavailable(
                    f"PostgreSQL cannot be reached ({outage.reason}) and this home has no mirror of it yet",
                    next="Check QUAYMASTER_DATABASE_URL and that PostgreSQL runs, then start again.",
                ) from outage
            await self._leave_primary(outage)

    async def _adopt_primary(self, facts: Facts) -> None:
        identity = await self._primary.prepare()
        if await self._mirror.read(_has_teams) and not await self._primary.read(_has_teams):
            raise Invalid(
                "this home holds data of its own, and PostgreSQL is empty",
                next="Run 'quaymaster registry import' to bring the data over, or set QUAYMASTER_HOME to a new directory.",
            )
        async with self._mirror.switching():
            if (await self._mirror.refresh()).mode != "embedded":
                return
            await self._follower.start_over()
            await self._mirror.set_alone(False)
            await self._mirror.set_mode("primary", epoch=max(identity.epoch, facts.epoch + 1), reason=None)
        await self._members.renew()

    async def _rejoin(self, facts: Facts) -> None:
        identity = await self._primary.prepare()
        try:
            await self._recovery.recognise(facts.position, identity)
        except Foreign as error:
            self._foreign = error.message
            await self._leave_primary(Outage(error.message, probed=True))
            return
        await self._follower.catch_up()
        await self._members.renew()

    # -- calls

    async def run(self, fn: Callable[[Transaction], Awaitable[T]], intent: Intent) -> Committed[T]:
        line_id = uuid.uuid4().hex
        values: list[T] = []
        for _ in range(TRIES):
            try:
                async with self._mirror.working():
                    facts = await self._mirror.refresh()
                    if facts.mode == "primary":
                        return await self._run_primary(fn, intent, line_id, facts, values)
                    return await self._run_registry(fn, intent, line_id, facts)
            except Outage as outage:
                await self._after_outage(outage, intent, facts)
        raise Unavailable("PostgreSQL keeps dropping its connections")

    async def _run_primary(
        self,
        fn: Callable[[Transaction], Awaitable[T]],
        intent: Intent,
        line_id: str,
        facts: Facts,
        values: list[T],
    ) -> Committed[T]:
        """`values` keeps what each try returned before its commit: a commit whose answer was lost returned the first."""
        await self._members.require(intent.action)

        async def remembered(tx: Transaction) -> T:
            values.append(await fn(tx))
            return values[-1]

        try:
            value, line, _ = await self._primary.run(remembered, intent, line_id=line_id, epoch=facts.epoch)
        except (Outage, AlreadyApplied) as error:
            standing = await self._standing(error, line_id)
            if standing is None:
                raise
            value, line = values[0], standing
        if not line.changes:
            return Committed(value)
        return Committed(value, await self._mirrored(line))

    async def _standing(self, error: Outage | AlreadyApplied, line_id: str) -> Line | None:
        """The line as it was committed although its answer was lost; None where that is not so or cannot be known."""
        if isinstance(error, Outage) and not (error.committing and await answers(self._primary)):
            return None
        return await self._primary.applied(line_id)

    async def _mirrored(self, line: Line) -> tuple[str, ...]:
        try:
            with anyio.CancelScope(shield=True):
                await self._follower.include(line)
        except QuaymasterError as error:
            log.error("the registry is behind PostgreSQL: %s", error.message)
            self._behind = True
            return ("mirror_behind: the change is in PostgreSQL, but not yet in this home's registry",)
        self._behind = False
        return ()

    async def _run_registry(
        self, fn: Callable[[Transaction], Awaitable[T]], intent: Intent, line_id: str, facts: Facts
    ) -> Committed[T]:
        if refused(intent.action, alone=facts.alone):
            raise Degraded(f"'{intent.action}' must wait: PostgreSQL is away since {facts.since:%H:%M:%S} UTC")
        if self._behind:
            raise Degraded("the registry had fallen behind PostgreSQL when it went away; writing would fork the state")
        value, _ = await self._mirror.run(fn, intent, line_id=line_id, pending=True)
        return Committed(value, (degraded_notice(facts),))

    async def read(self, fn: Callable[[Reading], Awaitable[T]]) -> T:
        for _ in range(TRIES):
            facts = await self._mirror.refresh()
            if facts.mode != "primary":
                return await self._mirror.read(fn)
            try:
                return await self._primary.read(fn)
            except Outage as outage:
                await self._after_outage(outage, None, facts)
        raise Unavailable("PostgreSQL keeps dropping its connections")

    async def record(self, rows: Sequence[AuditRow], used: Mapping[str, datetime]) -> None:
        facts = await self._mirror.refresh()
        if facts.mode == "primary":
            try:
                await self._primary.record(rows, used)
                return
            except Outage as outage:
                await self._after_outage(outage, None, facts)
        await self._mirror.record(rows, used, pending=True)

    async def find_key(self, key_hash: str) -> ApiKey | None:
        """A key that the projection lacks, from PostgreSQL; None also while it is away."""
        try:
            if (await self._mirror.refresh()).mode != "primary":
                return None
            found = await self._primary.find_key(key_hash)
        except Outage:
            return None
        return found

    async def status(self) -> StoreStatus:
        try:
            with anyio.fail_after(1):
                facts = await self._mirror.refresh()
        except (QuaymasterError, TimeoutError) as error:
            return StoreStatus(mode="degraded", healthy=False, reason=str(error) or "the registry does not answer")
        return StoreStatus(
            mode=facts.mode,
            healthy=facts.mode == "primary" and not self._behind,
            since=facts.since,
            pending=facts.pending,
            conflicts=facts.conflicts,
            reason=self._foreign or facts.reason,
            alone=facts.alone,
            gauges=self._primary.gauges(),
            details={"mirror_behind": self._behind},
        )

    # -- outage

    async def _after_outage(self, outage: Outage, intent: Intent | None, facts: Facts) -> None:
        """Leave the mode primary when PostgreSQL is really away; return when the call may be tried again."""
        if not outage.probed and await answers(self._primary):
            return
        if facts.mode == "primary":
            await self._leave_primary(outage)
        if outage.committing and intent is not None and refused(intent.action, alone=facts.alone):
            raise OutcomeUnknown(f"PostgreSQL went away while '{intent.action}' was being committed") from outage

    async def _leave_primary(self, outage: Outage) -> None:
        async with self._mirror.switching():
            facts = await self._mirror.refresh()
            if facts.mode == "primary":
                faults.at("failover.degrade.before")
                await self._mirror.set_mode("degraded", epoch=facts.epoch + 1, reason=outage.reason[:300])
                faults.at("failover.degrade.after")
                log.warning("PostgreSQL is away, the registry takes over: %s", outage.reason)
        self._members.forget()

    # -- beside the calls

    async def run_background(self) -> None:
        """Follow the change log, or bring the home back to PostgreSQL, while this process leads its home."""
        while True:
            async with self._mirror.leading() as leads:
                if leads:
                    await self._lead()
            await anyio.sleep(FOLLOW_SECONDS)

    async def _lead(self) -> None:
        pause = PROBE_FIRST
        claimed = trimmed = -TRIM_SECONDS
        while True:
            try:
                facts = await self._mirror.refresh()
                if facts.mode == "primary":
                    pause = PROBE_FIRST
                    await self._follower.catch_up()
                    self._behind = False
                    if facts.audit_pending:
                        await self._recovery.audit()
                    now = anyio.current_time()
                    if now - claimed >= CLAIM_SECONDS:
                        await self._members.renew()
                        claimed = now
                    if now - trimmed >= TRIM_SECONDS and facts.position is not None:
                        await self._primary.trim(facts.home, facts.position)
                        trimmed = now
                    await self._primary.changed(FOLLOW_SECONDS)
                    continue
                if await self._come_back():
                    continue
            except Outage as outage:
                await self._after_outage(outage, None, facts)
            except QuaymasterError as error:
                log.warning("the home's background work failed: %s", error.message)
            await anyio.sleep(pause)
            pause = min(PROBE_LAST, pause * 2)

    async def _come_back(self) -> bool:
        if not await answers(self._primary):
            return False
        try:
            facts = await self._recovery.recover()
        except Foreign as error:
            if self._foreign != error.message:
                log.error("%s. %s", error.message, error.next)
            self._foreign = error.message
            return False
        self._foreign = None
        self._members.forget()
        log.info("PostgreSQL is back; the home is %s again", facts.mode)
        return facts.mode == "primary"

    @property
    def _members(self) -> Membership:
        if self._membership is None:
            raise Conflict("the store was not opened")
        return self._membership

    async def close(self) -> None:
        await self._primary.close()


def degraded_notice(facts: Facts) -> str:
    """What a caller hears beside its result while PostgreSQL is away."""
    return (
        f"degraded since {facts.since:%Y-%m-%d %H:%M:%S} UTC: PostgreSQL is away, "
        f"{facts.pending + 1} changes wait in the registry"
    )


async def _has_teams(tx: Reading) -> bool:
    return bool((await tx.teams.list(limit=1)).items)
