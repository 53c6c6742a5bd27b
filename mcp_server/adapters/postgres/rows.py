"""What all repositories share: a session that notes what changed, and the five basic operations over literal
SQL."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import asyncpg
from pydantic import ValidationError

from mcp_server.adapters.postgres.connections import Connection
from mcp_server.adapters.postgres.together import MOST, Write
from mcp_server.domain.audit import AuditRow
from mcp_server.domain.changes import Change
from mcp_server.domain.errors import Conflict, Corrupt, Invalid
from mcp_server.domain.pages import Page, decode_cursor, page_of
from mcp_server.domain.records import Record, Value

R = TypeVar("R", bound=Record)
Row: TypeAlias = asyncpg.Record
_HELD_AT = "held_at"


@dataclass(slots=True)
class Session:
    """One connection and what was changed over it, by noun and key. A session that only reads has no
    `changes`.

    `held` are revisions that cannot change before the transaction ends, of records and (as `absent`) of
    tombstones; what is written above them waits in `waiting` for the next statement.
    """

    connection: Connection
    changes: dict[tuple[str, str], Change] | None = None
    audit: list[AuditRow] = field(default_factory=list)
    epoch: int = 0
    time: datetime | None = None
    held: dict[tuple[str, str], int] = field(default_factory=dict)
    absent: dict[tuple[str, str], int] = field(default_factory=dict)
    waiting: list[Write] = field(default_factory=list)

    async def one(self, sql: str, *arguments: object) -> Row | None:
        await self.catch_up()
        return await self.connection.fetchrow(sql, *arguments)

    async def all(self, sql: str, *arguments: object) -> Sequence[Row]:
        await self.catch_up()
        return await self.connection.fetch(sql, *arguments)

    async def write(self, write: Write) -> Row | None:
        return await self.one(write.sql, *write.arguments)

    async def wait_with(self, write: Write) -> None:
        """Write it with the next statement. One statement changes no row twice."""
        known = {(each.noun, each.key) for each in self.waiting}
        if (write.noun, write.key) in known or len(known) >= MOST:
            await self.catch_up()
        self.waiting.append(write)

    async def catch_up(self) -> None:
        """Write what waits. Raises Conflict."""
        writes, self.waiting = self.waiting, []
        for write in writes:
            if await self.connection.fetchrow(write.sql, *write.arguments) is None:
                raise not_as_held()

    async def now(self) -> datetime:
        """As of the last hold, which brought it along: between two holds no time needs to pass."""
        if self.time is None or self.changes is None:
            self.time = await self.connection.fetchval("SELECT clock_timestamp()")
        assert self.time is not None  # noqa: S101  # PostgreSQL has a clock
        return self.time

    def must_write(self) -> None:
        if self.changes is None:
            raise RuntimeError("a reading cannot write; use Store.run")

    def note(self, noun: str, key: str, *, base: int, rev: int, record: Record | None) -> None:
        """Several changes of one record in one transaction are one change."""
        assert self.changes is not None  # noqa: S101  # must_write came first
        earlier = self.changes.get((noun, key))
        if earlier is not None:
            base = earlier.base
        self.changes[noun, key] = Change(noun, key, base, rev, record)


class Rows(Generic[R]):
    """The five basic operations. A noun says how it is selected, inserted, updated and deleted, and how a
    row reads."""

    kind: ClassVar[type[Record]]
    select: ClassVar[str]
    """Columns under the names of the record's fields, from one table, without WHERE."""
    where_key: ClassVar[str]
    """The condition that `$1` is the key, with what makes a row a record."""
    insert: ClassVar[str]
    """Inserts key `$1` as revision 1 above the tombstone's and returns it; no row when anything unique is taken or a
    parent gone."""
    update: ClassVar[str]
    """Replaces key `$1` at revision `$2` and returns the next; no row when the revision is another or anything unique
    is taken."""
    delete: ClassVar[str]
    """Deletes key `$1` at revision `$2`, leaves a tombstone and returns its revision; no row when the revision is
    another."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def get(self, key: str) -> R | None:
        row = await self._session.one(self.select + self.where_key, key)
        return None if row is None else self._record(row)

    async def hold(self, key: str) -> R | None:
        """Where there is no record, its absence is held: of two that hold the same key the second waits, and
        looks again.

        The lock is FOR NO KEY UPDATE: it excludes every other writer of the row, but not new children of it.
        The clock is read outside of the subquery, so after the row is locked.
        """
        self._session.time = None
        record = f"({self.select}{self.where_key} FOR NO KEY UPDATE)"
        locked = f"SELECT held.*, clock_timestamp() AS {_HELD_AT} FROM {record} AS held"  # noqa: S608  # literals of ours
        row = await self._session.one(locked, key)
        if row is None:
            await self._session.one(
                "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"{self._noun}/{key}"
            )
            row = await self._session.one(locked, key)
        if row is None:
            return None
        self._session.time = row[_HELD_AT]
        return self._record(row)

    async def add(self, record: R) -> R:
        self._session.must_write()
        row = await self._session.write(self._insertion(record))
        if row is None:
            raise await self._why_not_added(record)
        return self._noted(record, base=0, rev=row["rev"])

    async def save(self, record: R) -> R:
        self._session.must_write()
        row = await self._session.write(self._replacement(record))
        if row is None:
            raise await self._why_not_saved(record)
        return self._noted(record, base=record.rev, rev=row["rev"])

    async def remove(self, record: R) -> None:
        """Children that are still there go with it, each as a change of its own."""
        self._session.must_write()
        self._session.held.pop((self._noun, record.key), None)
        await self._remove_children(record)
        row = await self._session.one(self.delete, record.key, record.rev)
        if row is None:
            raise await self._why_not_saved(record)
        self._session.note(self._noun, record.key, base=record.rev, rev=row["rev"], record=None)

    async def everything(self) -> list[R]:
        """All records, in no order."""
        return self._records(await self._session.all(self.select + self._where_standing))

    # -- what a noun says

    _where_standing: ClassVar[str] = ""
    """Which rows are records, where not all are."""

    @staticmethod
    def _names(record: R) -> tuple[object, ...]:
        """What `insert` alone writes, behind the key: the columns that make it, which no update changes."""
        return ()

    @staticmethod
    @abstractmethod
    def _values(record: R) -> tuple[object, ...]:
        """The last arguments of `insert` and of `update`, in the order of both."""

    async def _remove_children(self, record: R) -> None:
        """Nothing refers to most nouns."""

    def _fields(self, row: Row) -> Mapping[str, Any]:
        """The record's fields from a row."""
        return dict(row)

    # -- steps

    @property
    def _noun(self) -> str:
        return self.kind.noun

    def _insertion(self, record: R) -> Write:
        arguments = (record.key, *self._names(record), *self._values(record))
        return Write(self._noun, record.key, self.insert, arguments)

    def _replacement(self, record: R) -> Write:
        return Write(self._noun, record.key, self.update, (record.key, record.rev, *self._values(record)))

    def _record(self, row: Row, *, without: Sequence[str] = (_HELD_AT,)) -> R:
        fields = {name: value for name, value in self._fields(row).items() if name not in without}
        try:
            return self.kind.model_validate(fields)  # type: ignore[return-value]
        except ValidationError as error:
            broken = ", ".join(
                sorted({str(problem["loc"][0]) for problem in error.errors() if problem["loc"]})
            )
            raise Corrupt(
                f"a row of {self._noun} is not a record (fields: {broken})",
                next="Correct the row in PostgreSQL; the log names it.",
            ) from error

    def _records(self, rows: Iterable[Row]) -> list[R]:
        return [self._record(row) for row in rows]

    def _page(self, rows: Sequence[Row], limit: int, *fields: str) -> Page[R]:
        """`rows` are up to `limit + 1`; `fields` name the position of the keyset."""
        items = self._records(rows)
        if len(items) <= limit or limit < 1:
            return page_of(items, limit, None)
        return page_of(items, limit, tuple(_text(getattr(items[limit - 1], name)) for name in fields))

    def _noted(self, record: R, *, base: int, rev: int) -> R:
        kept = record.change(rev=rev)
        self._session.note(self._noun, record.key, base=base, rev=rev, record=kept)
        return kept

    def _note_gone(self, gone: Sequence[Row]) -> None:
        for row in gone:
            self._session.note(row["noun"], row["key"], base=row["rev"] - 1, rev=row["rev"], record=None)

    async def _why_not_added(self, record: R) -> Conflict:
        if await self.get(record.key) is not None:
            return Conflict(f"'{record.key}' is taken in {self._noun}", noun=self._noun)
        return Conflict(
            f"'{record.key}' does not fit into {self._noun}: something unique is taken, or a parent is gone",
            noun=self._noun,
        )

    async def _why_not_saved(self, record: R) -> Conflict:
        stored = await self.get(record.key)
        if stored is None:
            return Conflict(f"'{record.key}' is gone from {self._noun}", noun=self._noun)
        if stored.rev != record.rev:
            return Conflict(f"'{record.key}' in {self._noun} was changed meanwhile", noun=self._noun)
        return Conflict(f"what must be unique of '{record.key}' is taken in {self._noun}", noun=self._noun)


def as_json(value: Value | None) -> dict[str, Any] | None:
    """For a JSONB column."""
    return None if value is None else value.model_dump(mode="json")


def not_as_held() -> Conflict:
    """A row that was held is another one: somebody changed it by hand, without waiting."""
    return Conflict("a record was changed while it was held")


def texts_after(after: str | None, parts: int) -> tuple[str | None, ...]:
    """The position in a cursor, one None for each part without one. Raises Invalid."""
    return decode_cursor(after, parts) or (None,) * parts


def moment_after(after: str | None) -> tuple[datetime | None, str | None]:
    """The position in a cursor of a time and an id. Raises Invalid."""
    position = decode_cursor(after, 2)
    if position is None:
        return None, None
    try:
        moment = datetime.fromisoformat(position[0])
        moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _no_cursor() from error
    if moment.tzinfo is None:
        raise _no_cursor()
    return moment, position[1]


def number_after(after: str | None) -> int | None:
    """The position in a cursor of a number. Raises Invalid."""
    position = decode_cursor(after, 1)
    if position is None:
        return None
    try:
        number = int(position[0])
    except ValueError as error:
        raise _no_cursor() from error
    if abs(number) >= 1 << 31:
        raise _no_cursor()
    return number


def _no_cursor() -> Invalid:
    return Invalid.field("cursor", "must be a cursor that an earlier page of this list returned")


def _text(value: object) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)
