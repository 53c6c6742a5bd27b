"""What the degraded mode needs of its two stores: a primary with a change log, and a registry that mirrors it.

The two meet in `adapters/failover`. Neither knows the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Literal, Protocol, TypeVar

from mcp_server.domain.audit import AuditRow
from mcp_server.domain.changes import Line
from mcp_server.domain.keys import ApiKey
from mcp_server.domain.records import Record
from mcp_server.ports.store import Intent, Reading, Transaction

T = TypeVar("T")
Mode = Literal["embedded", "primary", "degraded", "replaying"]


@dataclass(frozen=True, slots=True)
class Position:
    """How far a registry has followed a change log.

    Every transaction with an id below `horizon` (a 64-bit transaction id of that `cluster`) has been applied. `seq` and
    `line_id` name the newest applied row: the proof that a returning PostgreSQL still has what was mirrored.
    """

    installation: str
    cluster: str
    horizon: int
    seq: int
    line_id: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines in the order of the log, and the position after them. `lost`: the log does not reach back to the position."""

    lines: Sequence[Line]
    position: Position
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    """A deleted record: `rev` counts the deletion, and a record that is made again counts on from it."""

    noun: str
    key: str
    rev: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Whole:
    """All records, parents first, and what was deleted, both of one snapshot; the position that belongs to it."""

    records: Sequence[Record]
    gone: Sequence[Gone]
    position: Position


@dataclass(frozen=True, slots=True)
class Beside:
    """What a line's own statement saw of the log: the ids of the lines at or above the horizon of the position that was
    known. Who had that position, and has these lines and this one, is at `position`."""

    line_ids: frozenset[str]
    position: Position


@dataclass(frozen=True, slots=True)
class Logged(Generic[T]):
    """A transaction that was committed: its value, its line, and the log's `seq` of it (0 when nothing changed: then no
    row was written). `beside` is None when the line's place in the log is not known."""

    value: T
    line: Line
    seq: int
    beside: Beside | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a PostgreSQL is. `installation` is None on an empty one."""

    installation: str | None
    cluster: str
    schema_version: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Which homes share an installation. `alone`: only this home may grant what is exclusive without PostgreSQL.

    `copied`: the home of this id is known at another place, so that this one is a copy of it, or it was moved.
    """

    alone: bool
    holder: str | None
    asked_by: str | None = None
    homes: Sequence[str] = ()
    copied: bool = False


class Outage(Exception):
    """The primary did not answer, or said that it is going away.

    `committing`: the connection broke during a commit; `line` is what was to be committed. `probed`: a fresh connection
    was tried, and failed too.
    """

    def __init__(
        self, reason: str, *, committing: bool = False, probed: bool = False, line: Line | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.committing = committing
        self.probed = probed
        self.line = line


class AlreadyApplied(Exception):
    """The change log has a row with this line id: its changes were committed by an earlier attempt."""


class Replaying(Transaction, Protocol):
    """A transaction in which a line from the registry is applied."""

    def repository(self, noun: str) -> object:
        """The repository of a noun, for code that treats all nouns alike (a `Repository` of that noun's record)."""
        ...


class Primary(Protocol):
    """PostgreSQL as the truth.

    Every method may raise Outage. Waiting too long for a free connection is Unavailable, not an outage; a wrong password or
    a missing database is Invalid (a configuration error), not an outage either.
    """

    async def run(
        self,
        fn: Callable[[Replaying], Awaitable[T]],
        intent: Intent,
        *,
        line_id: str,
        epoch: int,
        known: Position | None = None,
    ) -> Logged[T]:
        """Run `fn`; in the same commit insert the line with its changes into the change log.

        `known` is a position of the registry: what stands beside the line is counted from there. Runs `fn` again on a
        serialisation failure or a deadlock, at most three times. Raises AlreadyApplied when the log has `line_id`.
        """
        ...

    async def read(self, fn: Callable[[Reading], Awaitable[T]]) -> T: ...

    async def record(self, rows: Sequence[AuditRow], used: Mapping[str, datetime]) -> None: ...

    async def identify(self) -> Identity:
        """Asked on a fresh connection; answers or raises Outage within the connect time-out."""
        ...

    async def prepare(self) -> Identity:
        """Apply the migrations; draw the installation's id where there is none; mend the log of a restored cluster."""
        ...

    async def standing(
        self, names: Sequence[tuple[str, str]]
    ) -> Sequence[tuple[str, str, Record | None, int]]:
        """The records of these nouns and keys with their revisions: None for a deleted one, with its tombstone's (0
        when it never was)."""
        ...

    async def applied(self, line_id: str) -> Line | None:
        """The line as the change log has it."""
        ...

    async def since(self, position: Position) -> Batch:
        """Every visible line at or above the position's horizon, in log order; the new horizon is the oldest running one.

        Lines that were returned before may come again: whoever applies them looks at revisions.
        """
        ...

    async def everything(self) -> Whole:
        """What was deleted is left out where no line can speak of it any more (`domain.nouns.SHORT_LIVED`)."""
        ...

    async def has(self, position: Position) -> bool:
        """Whether this PostgreSQL provably has what was mirrored: the same installation, and the log row of the position
        is there (or was trimmed, which happens only to rows that every registry had)."""
        ...

    async def changed(self, seconds: float) -> None:
        """Return when another transaction has committed (a notification, best effort), or after `seconds`."""
        ...

    async def leads(self, what: str) -> bool:
        """Whether this process does `what` for the whole installation: asked again, it stays so until the process or its
        connection ends."""
        ...

    async def trim(self, home: str, position: Position) -> None:
        """Note how far `home` has followed, and delete log rows below the slowest home, or older than 7 days. Forget what
        was deleted of `SHORT_LIVED` nouns before `TOMBSTONE_KEPT_DAYS`."""
        ...

    async def claim(self, home: str, place: str, *, confirm: bool = False, force: bool = False) -> Claim:
        """Register `home` at its place and ask to be alone. `confirm`: this home gives up being alone because another
        asked. `force`: a person decides that the present holder, or the home of this id at another place, is gone.

        A copied home changes nothing, unless forced."""
        ...

    async def place_of(self, home: str) -> str | None:
        """Where this home was when it registered; None when it has not, or an earlier version of it did."""
        ...

    async def continue_as(self, installation_id: str, home: str) -> None:
        """Call this PostgreSQL what the home's installation is called: what the home made carries that name.

        Raises Conflict where another home works with it already, and Outage.
        """
        ...

    async def count_on(self, gone: Sequence[Gone]) -> None:
        """Let records of these names that are added from now on count on from these revisions at least."""
        ...

    async def raise_epoch(self, at_least: int) -> int:
        """Make the installation's epoch `at_least` this and return it; it never falls."""
        ...

    async def find_key(self, key_hash: str) -> ApiKey | None: ...

    def gauges(self) -> Mapping[str, float]:
        """pool_total, pool_idle, pool_waiting."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What the journal says of its home. `pending` lines are not yet in PostgreSQL; `audit_pending` says that audit files
    hold rows that it lacks. `alone` as PostgreSQL last confirmed it for this place (an embedded home is alone).

    `place` is this machine and directory: a copy of the files has another one."""

    home: str
    place: str
    mode: Mode
    epoch: int
    since: datetime
    reason: str | None
    position: Position | None
    pending: int
    audit_pending: bool
    alone: bool
    conflicts: int


class Mirror(Protocol):
    """The registry under a home. Methods that write hold its file lock, and have fsynced when they return.

    All raise Unavailable when the lock cannot be had in time or the disk refuses, and Corrupt when a file is damaged.
    """

    def working(self) -> AbstractAsyncContextManager[None]:
        """A shared hold on the mode: it cannot change meanwhile, in any process of this home."""
        ...

    def switching(self) -> AbstractAsyncContextManager[None]:
        """The exclusive hold on the mode: nobody is `working`. New workers wait."""
        ...

    def leading(self) -> AbstractAsyncContextManager[bool]:
        """Tries to be this home's leader for as long as it is held: False when another process leads."""
        ...

    async def refresh(self) -> Facts:
        """Read what other processes appended; cheap when nothing was."""
        ...

    async def run(
        self, fn: Callable[[Replaying], Awaitable[T]], intent: Intent, *, line_id: str, pending: bool
    ) -> tuple[T, Line | None]:
        """Run `fn` on the registry and append its line, marked `pending` with the base records it needs, audit rows inside.

        No line is written (None) when nothing changed and no audit row was added.
        """
        ...

    async def read(self, fn: Callable[[Reading], Awaitable[T]]) -> T:
        """Takes no lock: the state as of the last complete line."""
        ...

    async def record(self, rows: Sequence[AuditRow], used: Mapping[str, datetime], *, pending: bool) -> None:
        """Append to the daily audit file; `pending` rows are handed out by `audit_backlog` until they are acknowledged."""
        ...

    async def mirror(self, lines: Sequence[Line], position: Position | None) -> None:
        """Apply the changes that are newer than what is there, as one appended line; and note the position."""
        ...

    async def owe(self, owing: bool) -> None:
        """Say to all processes of this home whether this one has committed what is not in the registry; forgotten when
        it ends."""
        ...

    async def owed(self) -> bool:
        """Whether a process of this home says so."""
        ...

    async def adopt(self, records: Sequence[tuple[str, str, Record | None, int]]) -> None:
        """Set records (noun, key, record or None for deleted, rev) whatever revision is there: the primary's word is final."""
        ...

    async def resync(self, whole: Whole) -> None:
        """Replace all records, and what is known of deleted ones, by these, as a new snapshot. Refused (Conflict) while
        lines are pending."""
        ...

    async def set_mode(self, mode: Mode, *, epoch: int, reason: str | None) -> Facts: ...

    async def set_alone(self, alone: bool) -> None:
        """Write it down, where it is not what stands there for this place already."""
        ...

    async def pending(self, limit: int) -> Sequence[Line]:
        """The oldest pending lines, in order, with `before` records and audit rows."""
        ...

    async def dirty(self) -> Sequence[tuple[str, str]]:
        """(noun, key) of every record that lines changed since the home left the mode primary, settled or not."""
        ...

    async def settle(self, line_id: str) -> None:
        """The line is in PostgreSQL (or kept as a conflict there): it is no longer pending."""
        ...

    async def audit_backlog(self, limit: int) -> tuple[Sequence[AuditRow], object]:
        """Pending audit rows from the daily files, and a mark to acknowledge them with."""
        ...

    async def audit_settled(self, mark: object) -> None: ...
