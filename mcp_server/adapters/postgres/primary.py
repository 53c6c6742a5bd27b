"""PostgreSQL as the primary store: transactions with a change log, over a bounded pool."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

import asyncpg

from mcp_server.adapters import faults
from mcp_server.adapters.postgres import changelog, installation
from mcp_server.adapters.postgres.audit import insert_rows
from mcp_server.adapters.postgres.connections import (
    Connection,
    Connections,
    ConnectionSettings,
    drop,
    gone,
    undo,
)
from mcp_server.adapters.postgres.errors import may_succeed_again, translated
from mcp_server.adapters.postgres.keys import note_use
from mcp_server.adapters.postgres.migrations import Migrations
from mcp_server.adapters.postgres.reading import PostgresReading
from mcp_server.adapters.postgres.rows import Session
from mcp_server.adapters.postgres.turns import Turns
from mcp_server.adapters.postgres.wakeups import WakeUps
from mcp_server.domain.audit import AuditRow
from mcp_server.domain.changes import Line
from mcp_server.domain.errors import QuaymasterError, Unavailable
from mcp_server.domain.keys import ApiKey
from mcp_server.domain.records import Record
from mcp_server.ports.mirror import (
    AlreadyApplied,
    Batch,
    Claim,
    Gone,
    Identity,
    Logged,
    Outage,
    Position,
    Replaying,
    Whole,
)
from mcp_server.ports.store import Intent, Reading

T = TypeVar("T")
TRIES = 3
WRITERS = 4
"""Transactions of one process at a time. More would hold rows for longer: each of their steps waits for its turn in
the event loop. Who waits here holds neither a row nor a connection."""
_BREATH = 0.01
_BULK = 60.0
"""Seconds for statements over many rows, on connections of their own."""


class PostgresPrimary:
    """A `ports.mirror.Primary`. Nothing is connected before the first call; `prepare` comes before the first
    transaction."""

    def __init__(self, settings: ConnectionSettings | str) -> None:
        """A text is the address alone, with everything else as it is by default."""
        self._connections = Connections(
            ConnectionSettings(settings) if isinstance(settings, str) else settings
        )
        self.migrations = Migrations(self._connections)
        self._wakeups = WakeUps(self._connections)
        self._turns = Turns(self._connections)
        self._writers = asyncio.Semaphore(WRITERS)

    # -- transactions

    async def run(
        self,
        fn: Callable[[Replaying], Awaitable[T]],
        intent: Intent,
        *,
        line_id: str,
        epoch: int,
        known: Position | None = None,
    ) -> Logged[T]:
        for tries_left in range(TRIES - 1, -1, -1):
            async with self._writers, self._connections.use() as connection:
                try:
                    logged = await _transact(connection, fn, intent, line_id, epoch, known)
                except asyncpg.PostgresError as error:
                    if not (tries_left and may_succeed_again(error)):
                        raise
                    await asyncio.sleep(_BREATH * (TRIES - tries_left))
                    continue
            if logged.seq:
                self._connections.seen(logged.seq)
                self._wakeups.announce()
            return logged
        raise AssertionError("the last try returns or raises")

    async def read(self, fn: Callable[[Reading], Awaitable[T]]) -> T:
        async with self._connections.use() as connection:
            return await fn(PostgresReading(Session(connection)))

    async def record(self, rows: Sequence[AuditRow], used: Mapping[str, datetime]) -> None:
        async with self._connections.use() as connection:
            await insert_rows(connection, rows)
            if used:
                await note_use(connection, used)

    async def find_key(self, key_hash: str) -> ApiKey | None:
        return await self.read(lambda tx: tx.keys.by_hash(key_hash))

    # -- who this is

    async def identify(self) -> Identity:
        wait = self._connections.settings.connect_timeout
        try:
            async with asyncio.timeout(wait), self._connections.fresh("identify") as connection:
                return await installation.identify(connection)
        except TimeoutError as error:
            raise Outage("PostgreSQL does not answer", probed=True) from error

    async def prepare(self) -> Identity:
        applied = await self.migrations.up()
        async with self._connections.fresh("prepare") as connection:
            await installation.recognise(connection)
            identity = await installation.identify(connection)
        if identity.installation is not None:
            self._connections.expect(identity.installation)
        if applied:
            await self._connections.renew()
        return identity

    async def continue_as(self, installation_id: str, home: str) -> None:
        async with self._connections.use() as connection:
            await installation.rename(connection, installation_id, home)
        self._connections.expect(installation_id)

    async def count_on(self, gone: Sequence[Gone]) -> None:
        async with self._connections.use() as connection:
            await installation.count_on(connection, gone)

    async def raise_epoch(self, at_least: int) -> int:
        async with self._connections.use() as connection:
            return await installation.raise_epoch(connection, at_least)

    async def claim(self, home: str, place: str, *, confirm: bool = False, force: bool = False) -> Claim:
        async with self._connections.use() as connection:
            return await installation.claim(connection, home, place, confirm=confirm, force=force)

    async def place_of(self, home: str) -> str | None:
        async with self._connections.use() as connection:
            return await installation.place_of(connection, home)

    # -- the change log

    async def standing(
        self, names: Sequence[tuple[str, str]]
    ) -> Sequence[tuple[str, str, Record | None, int]]:
        async with self._connections.use() as connection:
            reading = PostgresReading(Session(connection))
            return [(noun, key, *await reading.standing(noun, key)) for noun, key in names]

    async def applied(self, line_id: str) -> Line | None:
        async with self._connections.use() as connection:
            return await changelog.find(connection, line_id)

    async def since(self, position: Position) -> Batch:
        try:
            async with self._connections.use() as connection:
                batch = await changelog.since(connection, position)
        except Unavailable as busy:
            if not isinstance(busy.__cause__, asyncpg.QueryCanceledError):
                raise
            async with self._connections.fresh("far behind", patience=_BULK) as connection:
                batch = await changelog.since(connection, position)
        if batch.lines:
            self._connections.seen(batch.position.seq)
        return batch

    async def everything(self) -> Whole:
        async with self._connections.fresh("everything", patience=_BULK) as connection:
            return await changelog.everything(connection)

    async def has(self, position: Position) -> bool:
        async with self._connections.fresh("recognise") as connection:
            return await changelog.has(connection, position)

    async def trim(self, home: str, position: Position) -> None:
        async with self._connections.use() as connection:
            await changelog.trim(connection, home, position)

    async def changed(self, seconds: float) -> None:
        await self._wakeups.heard(seconds)

    async def leads(self, what: str) -> bool:
        return await self._turns.leads(what)

    # -- life

    def gauges(self) -> Mapping[str, float]:
        return self._connections.gauges()

    async def close(self) -> None:
        await self._wakeups.close()
        await self._turns.close()
        await self._connections.close()


async def _transact(
    connection: Connection,
    fn: Callable[[Replaying], Awaitable[T]],
    intent: Intent,
    line_id: str,
    epoch: int,
    known: Position | None,
) -> Logged[T]:
    """Any error of the driver comes out as it is, except one during COMMIT that leaves the outcome
    unknown."""
    await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
    faults.at("postgres.begun")
    session = Session(connection, changes={}, epoch=epoch)
    try:
        value = await fn(PostgresReading(session))
        faults.at("postgres.before_log")
        line, seq, beside = await changelog.append(session, intent, line_id, known)
        faults.at("postgres.before_commit")
    except Exception as error:
        await undo(connection, error)
        if await _was_applied(connection, error, line_id):
            raise AlreadyApplied(line_id) from error
        raise
    await _commit(connection, line)
    faults.at("postgres.committed")
    return Logged(value, line, seq, beside)


async def _was_applied(connection: Connection, error: Exception, line_id: str) -> bool:
    """A second application of a line fails at the log, or earlier at records that the first one changed."""
    if isinstance(error, asyncpg.UniqueViolationError) and error.constraint_name == changelog.LINE_ID:
        return True
    if gone(connection) or not isinstance(error, QuaymasterError | asyncpg.IntegrityConstraintViolationError):
        return False
    return bool(
        await connection.fetchval("SELECT EXISTS (SELECT 1 FROM change_log WHERE line_id = $1)", line_id)
    )


async def _commit(connection: Connection, line: Line) -> None:
    try:
        await connection.execute("COMMIT")
    except TimeoutError as error:
        drop(connection)
        raise Outage("PostgreSQL did not answer a commit", committing=True, line=line) from error
    except Exception as error:
        told = translated(error)
        if isinstance(told, Outage):
            raise Outage(told.reason, committing=True, line=line) from error
        raise
