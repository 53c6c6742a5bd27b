"""What an application runs its SQL with."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from mcp_server.databases.drivers import Row
from mcp_server.databases.errors import DatabaseUnavailable
from mcp_server.databases.links import Health, Link

T = TypeVar("T")
TRIES = 4
PAUSE = 0.1


class Transaction:
    """One connection between BEGIN and COMMIT. Nothing in it is ever repeated."""

    def __init__(self, link: Link, raw: Any) -> None:
        self._link = link
        self.raw = raw

    async def fetch(self, sql: str, /, *args: Any) -> list[Row]:
        return await self._link.ask(self._link.driver.fetch(self.raw, sql, args))

    async def fetch_one(self, sql: str, /, *args: Any) -> Row | None:
        return next(iter(await self.fetch(sql, *args)), None)

    async def execute(self, sql: str, /, *args: Any) -> int:
        """The number of rows that were touched; -1 where the database does not say."""
        return await self._link.ask(self._link.driver.execute(self.raw, sql, args))


class Client:
    """One database. Placeholders are those of its engine: `$1` for PostgreSQL, `?` for SQLite.

    Everything raises DatabaseUnavailable when the database is away, at once while its breaker is open;
    ConnectionLost when it went away in the middle. Errors of the statement itself are the driver's own.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def name(self) -> str:
        return self._link.name

    def health(self) -> Health:
        return self._link.health()

    async def fetch(self, sql: str, /, *args: Any, idempotent: bool = False) -> list[Row]:
        """All rows. `idempotent`: running it twice is harmless, so it is run again when the connection is lost."""

        async def work() -> list[Row]:
            async with self._link.connection() as raw:
                return await self._link.ask(self._link.driver.fetch(raw, sql, args))

        return await self._repeated(work) if idempotent else await work()

    async def read(self, sql: str, /, *args: Any) -> list[Row]:
        """`fetch` for a query that only reads: run again when the connection is lost."""
        return await self.fetch(sql, *args, idempotent=True)

    async def fetch_one(self, sql: str, /, *args: Any, idempotent: bool = False) -> Row | None:
        return next(iter(await self.fetch(sql, *args, idempotent=idempotent)), None)

    async def execute(self, sql: str, /, *args: Any, idempotent: bool = False) -> int:
        """The number of rows that were touched; -1 where the database does not say."""

        async def work() -> int:
            async with self._link.connection() as raw:
                return await self._link.ask(self._link.driver.execute(raw, sql, args))

        return await self._repeated(work) if idempotent else await work()

    @contextlib.asynccontextmanager
    async def transaction(self, *, readonly: bool = False) -> AsyncIterator[Transaction]:
        """Commits at the end, rolls back on any exception. ConnectionLost at the commit leaves the outcome open."""
        async with self._link.connection() as raw:
            driver, ask = self._link.driver, self._link.ask
            await ask(driver.begin(raw, readonly=readonly))
            yield Transaction(self._link, raw)  # after an exception the pool rolls back, or closes
            await ask(driver.commit(raw))

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """The driver's own connection (asyncpg's or aiosqlite's) for what this class does not offer."""
        async with self._link.connection() as raw:
            yield raw

    async def _repeated(self, work: Callable[[], Awaitable[T]]) -> T:
        """A database that was away before the first try is not waited for; one that goes away meanwhile is."""
        await self._link.ready()
        until = time.monotonic() + self._link.limits.retry_seconds
        for left in reversed(range(TRIES)):
            try:
                return await work()
            except DatabaseUnavailable as error:
                pause = max(error.retry_after, PAUSE)
                if not left or time.monotonic() + pause > until:
                    raise
                await asyncio.sleep(pause)
        raise AssertionError("unreachable")
