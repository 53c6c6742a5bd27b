"""The store over PostgreSQL and the registry: which one serves a call, and how it changes.

The mode belongs to the home and is a line in its journal. A call on PostgreSQL runs under a shared hold of the mode; changing
it takes the exclusive one, so that no commit can slip past the change.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar, cast

import anyio

from mcp_server.adapters import faults
from mcp_server.adapters.failover.adoption import require_known
from mcp_server.adapters.failover.follower import Follower
from mcp_server.adapters.failover.membership import Membership
from mcp_server.adapters.failover.recovery import Foreign, Recovery, answers
from mcp_server.domain.audit import AuditRow
from mcp_server.domain.changes import Line
from mcp_server.domain.degraded import refused
from mcp_server.domain.errors import Conflict, Degraded, OutcomeUnknown, QuaymasterError, Unavailable
from mcp_server.domain.keys import ApiKey
from mcp_server.domain.records import Record
from mcp_server.ports.mirror import AlreadyApplied, Facts, Logged, Mirror, Outage, Primary
from mcp_server.ports.repositories import Repository
from mcp_server.ports.store import Committed, Intent, Reading, StoreStatus, Transaction

T = TypeVar("T")
TRIES = 4
FOLLOW_SECONDS = 1.0
CLAIM_SECONDS = 5.0
TRIM_SECONDS = 60.0
PROBE_FIRST, PROBE_LAST = 0.25, 5.0

log = logging.getLogger(__name__)


class Attempt(Generic[T]):
    """One call over all its tries, on either store. One line id, so that it is applied once.

    `unknown` is set while the newest commit that was tried may have happened. Only the newest can have: its insert into
    the log would have met the line of an earlier one.
    """

    def __init__(self, fn: Callable[[Transaction], Awaitable[T]], intent: Intent) -> None:
        self.intent = intent
        self.line_id = uuid.uuid4().hex
        self.unknown: Line | None = None
        self._fn = fn
        self._returned: list[T] = []
        self._unknown_value: list[T] = []

    async def __call__(self, tx: Transaction) -> T:
        self._returned = [await self._fn(tx)]
        return self._returned[0]

    def lost_answer(self, line: Line | None) -> None:
        self.unknown, self._unknown_value = line, self._returned

    @property
    def value(self) -> T:
        """What was returned before the commit whose answer was lost."""
        return self._unknown_value[0]


class FailoverStore:
    """A `ports.store.Store`. `open` before the first call; `run_background` beside the calls."""

    def __init__(self, primary: Primary, mirror: Mirror) -> None:
        self._primary = primary
        self._mirror = mirror
        self._follower = Follower(primary, mirror)
        self._recovery = Recovery(primary, mirror, self._follower)
        self._membership: Membership | None = None
        self._foreign: str | None = None
        self._leading = False

    # -- opening

    async def open(self) -> None:
        """Connect, migrate, mirror. With PostgreSQL away an existing mirror is served degraded.

        Raises Unavailable when PostgreSQL is away and there is no mirror yet, and Invalid when this home holds embedded data
        that PostgreSQL does not have, or is a copy of one that PostgreSQL knows.
        """
        facts = await self._mirror.refresh()
        self._membership = Membership(self._primary, self._mirror, facts)
        try:
            if facts.mode == "embedded":
                await self._adopt_primary(facts)
            elif facts.mode == "primary":
                await self._rejoin(facts)
        except Outage as outage:
            if facts.mode == "embedded":
                raise Unavailable(
                    f"{outage.reason}, and this home has no mirror of it yet",
                    next="Check QUAYMASTER_DATABASE_URL and that PostgreSQL runs, then start again.",
                ) from outage
            await self._leave_primary(outage)

    async def _adopt_primary(self, facts: Facts) -> None:
        identity = await self._primary.prepare()
        await self._members.refuse_a_copy()
        await require_known(self._primary, self._mirror)
        async with self._mirror.switching():
            if (await self._mirror.refresh()).mode != "embedded":
                return
            await self._follower.start_over()
            await self._mirror.set_alone(False)
            await self._mirror.set_mode("primary", epoch=max(identity.epoch, facts.epoch + 1), reason=None)

    async def _rejoin(self, facts: Facts) -> None:
        identity = await self._primary.prepare()
        try:
            await self._recovery.recognise(facts.position, identity)
        except Foreign as error:
            self._foreign = error.message
            await self._leave_primary(Outage(error.message, probed=True))
            return
        await self._members.refuse_a_copy()
        await self._follower.catch_up()

    # -- calls

    async def run(self, fn: Callable[[Transaction], Awaitable[T]], intent: Intent) -> Committed[T]:
        attempt = Attempt(fn, intent)
        for tries_left in range(TRIES, -1, -1):
            try:
                async with self._mirror.working():
                    facts = await self._mirror.refresh()
                    if facts.mode == "primary":
                        return await self._run_primary(attempt, facts)
                    return await self._run_registry(attempt, facts)
            except Outage as outage:
                await self._after_outage(outage, give_up=tries_left == 1)
            except Unavailable as error:
                if attempt.unknown is None:
                    raise
                raise OutcomeUnknown(
                    f"PostgreSQL broke off while '{intent.action}' was being committed"
                ) from error
        raise Unavailable("PostgreSQL keeps dropping its connections")

    async def _run_primary(self, attempt: Attempt[T], facts: Facts) -> Committed[T]:
        await self._members.require(attempt.intent.action)
        try:
            logged = await self._primary.run(
                attempt,
                attempt.intent,
                line_id=attempt.line_id,
                epoch=facts.epoch,
                known=facts.position,
            )
        except Outage as outage:
            if not outage.committing:
                raise
            attempt.lost_answer(outage.line)
            if not await answers(self._primary):
                raise Outage(outage.reason, probed=True) from outage
            standing = await self._primary.applied(attempt.line_id)
            if standing is None:
                raise
            logged = Logged(attempt.value, standing, 0)
        except AlreadyApplied:
            standing = await self._primary.applied(attempt.line_id)
            if standing is None:
                raise Outage("PostgreSQL lost a line that it had", probed=True) from None
            logged = Logged(attempt.value, standing, 0)
        return Committed(logged.value, await self._mirrored(logged) if logged.line.changes else ())

    async def _mirrored(self, logged: Logged[Any]) -> tuple[str, ...]:
        try:
            with anyio.CancelScope(shield=True):
                await self._follower.include(logged)
        except QuaymasterError as error:
            log.error("the registry is behind PostgreSQL: %s", error.message)
            return ("mirror_behind: the change is in PostgreSQL, but not yet in this home's registry",)
        return ()

    async def _run_registry(self, attempt: Attempt[T], facts: Facts) -> Committed[T]:
        if facts.mode == "embedded":
            raise Unavailable("this home has just been imported, and PostgreSQL is not yet adopted")
        if attempt.unknown is not None and await self._stands(attempt.unknown):
            return Committed(attempt.value, (degraded_notice(facts),))
        action = attempt.intent.action
        if refused(action, alone=facts.alone):
            if attempt.unknown is not None:
                raise OutcomeUnknown(f"PostgreSQL went away while '{action}' was being committed")
            raise Degraded(f"'{action}' must wait: PostgreSQL is away since {facts.since:%H:%M:%S} UTC")
        await self._repay()
        value, _ = await self._mirror.run(attempt, attempt.intent, line_id=attempt.line_id, pending=True)
        return Committed(value, (degraded_notice(facts),))

    async def _stands(self, line: Line) -> bool:
        """Whether the registry has followed a line, whose answer was lost, before PostgreSQL went away."""
        if self._follower.knows(line.id):
            return True

        async def look(tx: Reading) -> bool:
            kept = [change for change in line.changes if change.record is not None]
            alike = False
            for change in kept or line.changes:
                standing = await cast("Repository[Record]", getattr(tx, change.noun)).get(change.key)
                # Another's write from the same base can look the same in one record, but not in all of them.
                if change.record is not None and (standing is None or standing.rev < change.rev):
                    return False
                alike = alike or standing == change.record
            return alike

        return await self._mirror.read(look)

    async def _repay(self) -> None:
        """Raise Degraded when what was acknowledged on PostgreSQL is not in the registry: writing would fork the state."""
        if not self._follower.behind:
            if await self._mirror.owed():
                raise Degraded(
                    "another server of this home has changes that the registry lacks since before PostgreSQL went away",
                    next="Make room on the disk of QUAYMASTER_HOME, or end a server that is stopped; then try again.",
                )
            return
        try:
            await self._follower.repay()
        except QuaymasterError as error:
            raise Degraded(
                f"the registry had fallen behind PostgreSQL when it went away: {error.message}",
                next="Make room on the disk of QUAYMASTER_HOME; then it catches up by itself.",
            ) from error

    async def read(self, fn: Callable[[Reading], Awaitable[T]]) -> T:
        for _ in range(TRIES):
            facts = await self._mirror.refresh()
            if facts.mode != "primary":
                return await self._mirror.read(fn)
            try:
                return await self._primary.read(fn)
            except Outage as outage:
                await self._after_outage(outage)
        return await self._mirror.read(fn)

    async def record(self, rows: Sequence[AuditRow], used: Mapping[str, datetime]) -> None:
        facts = await self._mirror.refresh()
        if facts.mode == "primary":
            try:
                await self._primary.record(rows, used)
                return
            except Outage as outage:
                await self._after_outage(outage)
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

    async def leads(self, what: str) -> bool:
        """Without PostgreSQL: whether this process leads its home."""
        if (await self._mirror.refresh()).mode == "primary":
            try:
                return await self._primary.leads(what)
            except Outage as outage:
                await self._after_outage(outage)
        return self._leading

    async def status(self) -> StoreStatus:
        try:
            with anyio.fail_after(1):
                facts = await self._mirror.refresh()
                behind = self._follower.behind or await self._mirror.owed()
        except (QuaymasterError, TimeoutError) as error:
            return StoreStatus(
                mode="degraded", healthy=False, reason=str(error) or "the registry does not answer"
            )
        return StoreStatus(
            mode=facts.mode,
            healthy=facts.mode == "primary" and not behind,
            since=facts.since,
            pending=facts.pending,
            conflicts=facts.conflicts,
            reason=facts.reason,
            alone=facts.alone,
            gauges=self._primary.gauges(),
            details={"mirror_behind": behind},
        )

    # -- outage

    async def _after_outage(self, outage: Outage, *, give_up: bool = False) -> None:
        """Leave the mode primary when PostgreSQL is really away; return when the call may be tried again.

        `give_up`: it answers a fresh connection, and yet no call comes through (read-only, say): that is away, too.
        """
        if give_up or not await self._recovery.still_here(again=outage.probed):
            await self._leave_primary(outage)

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
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._repay_for_ever)
            while True:
                async with self._mirror.leading() as leads:
                    self._leading = leads
                    if leads:
                        await self._lead()
                await anyio.sleep(FOLLOW_SECONDS)

    async def _repay_for_ever(self) -> None:
        """In every process: nobody else knows what it owes while PostgreSQL is away."""
        while True:
            await anyio.sleep(FOLLOW_SECONDS)
            if self._follower.behind:
                try:
                    await self._follower.repay()
                except QuaymasterError as error:
                    log.warning("the registry is still behind: %s", error.message)

    async def _lead(self) -> None:
        """Whatever goes wrong is tried again, at the latest after `PROBE_LAST`: nobody else does this for the home."""
        pause = PROBE_FIRST
        watch = _Watch(self._primary, self._members)
        while True:
            try:
                facts = await self._mirror.refresh()
                if facts.mode == "primary":
                    pause = PROBE_FIRST
                    await self._follow(facts, watch)
                    continue
                if await self._come_back(facts):
                    continue
            except Outage as outage:
                await self._put_up_with(outage)
            except QuaymasterError as error:
                log.warning("the home's background work failed: %s", error.message)
            except Exception:
                log.exception("the home's background work failed")
            await anyio.sleep(pause)
            pause = min(PROBE_LAST, pause * 2)

    async def _follow(self, facts: Facts, watch: _Watch) -> None:
        await self._follower.catch_up()
        if facts.audit_pending:
            await self._recovery.audit()
        await watch.look(facts)
        await self._primary.changed(FOLLOW_SECONDS)

    async def _come_back(self, facts: Facts) -> bool:
        if not await answers(self._primary):
            if facts.mode == "replaying":
                await self._say_degraded("PostgreSQL went away again while its lines were replayed")
            return False
        if facts.mode == "embedded":
            await self._adopt_primary(facts)
            return True
        try:
            facts = await self._recovery.recover()
        except Foreign as error:
            if self._foreign != error.message:
                log.error("%s. %s", error.message, error.next)
            self._foreign = error.message
            await self._say_degraded(f"{error.message}. {error.next}")
            return False
        self._foreign = None
        self._members.forget()
        log.info("PostgreSQL is back; the home is %s again", facts.mode)
        return facts.mode == "primary"

    async def _put_up_with(self, outage: Outage) -> None:
        try:
            await self._after_outage(outage)
        except QuaymasterError as error:
            log.warning("the home cannot change its mode: %s", error.message)

    async def _say_degraded(self, reason: str) -> None:
        """For whoever asks any process of this home."""
        facts = await self._mirror.refresh()
        if (facts.mode, facts.reason) != ("degraded", reason[:300]):
            async with self._mirror.switching():
                facts = await self._mirror.refresh()
                if facts.mode in ("degraded", "replaying"):
                    await self._mirror.set_mode("degraded", epoch=facts.epoch, reason=reason[:300])

    @property
    def _members(self) -> Membership:
        if self._membership is None:
            raise Conflict("the store was not opened")
        return self._membership

    async def close(self) -> None:
        await self._primary.close()


class _Watch:
    """What the leader does from time to time: claims, and trimming of the log."""

    def __init__(self, primary: Primary, members: Membership) -> None:
        self._primary = primary
        self._members = members
        self._claimed = self._trimmed = -TRIM_SECONDS
        self._copied = False

    async def look(self, facts: Facts) -> None:
        now = anyio.current_time()
        if now - self._claimed >= CLAIM_SECONDS:
            self._copied = (await self._members.renew()).copied
            self._claimed = now
        if now - self._trimmed >= TRIM_SECONDS and facts.position is not None and not self._copied:
            await self._primary.trim(facts.home, facts.position)
            self._trimmed = now


def degraded_notice(facts: Facts) -> str:
    """What a caller hears beside its result while PostgreSQL is away."""
    return (
        f"degraded since {facts.since:%Y-%m-%d %H:%M:%S} UTC: PostgreSQL is away, "
        f"{facts.pending + 1} changes wait in the registry"
    )
