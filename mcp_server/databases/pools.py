"""A bounded set of connections of one database that can be given up as a whole and begun anew."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from typing import Generic

from mcp_server.databases.drivers import Driver, Raw
from mcp_server.databases.errors import DatabaseBusy, DatabaseUnavailable

CLEAN_UP_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """`connections` per database; all others in seconds. `retry_seconds` bounds how long work that may be
    repeated waits for a database that went away under it."""

    connections: int = 10
    connect_seconds: float = 5.0
    check_seconds: float = 2.0
    wait_seconds: float = 10.0
    statement_seconds: float = 30.0
    idle_seconds: float = 300.0
    retry_seconds: float = 5.0


@dataclass(slots=True)
class _Idle(Generic[Raw]):
    raw: Raw
    since: float


class Pool(Generic[Raw]):
    """Belongs to the event loop it is made in."""

    def __init__(self, name: str, driver: Driver[Raw], limits: Limits) -> None:
        self._name = name
        self._driver = driver
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.connections)
        self._idle: list[_Idle[Raw]] = []
        self._generation = 0

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Raw]:
        """One connection for the caller alone. Raises DatabaseBusy, or the driver's error when none can be opened.

        After an error that leaves its state unknown (a loss, a time-out, a cancellation) it is closed.
        """
        await self._take_slot()
        try:
            generation = self._generation
            raw = await self._idle_or_new()
            try:
                yield raw
            except BaseException as error:
                if _leaves_it_usable(error):
                    await self._give_back(raw, generation)
                else:
                    await self._close(raw)
                raise
            await self._give_back(raw, generation)
        finally:
            self._slots.release()

    async def probe(self) -> None:
        """Asks an idle connection, and if it does not answer a new one: an old connection may have died alone.
        Needs no slot, so that a busy pool is not taken for a dead database. Raises the driver's error.
        """
        if self._idle:
            old = self._idle.pop().raw
            try:
                await self._ask(old)
            except Exception:
                await self.renew()
                await self._close(old)
            else:
                await self._keep(old)
                return
        new = await self._driver.connect(self._limits.check_seconds)
        try:
            await self._ask(new)
        except BaseException:
            await self._close(new)
            raise
        await self._keep(new)

    async def renew(self) -> None:
        """Close what is idle now, and what is in use when it comes back."""
        self._generation += 1
        idle, self._idle = self._idle, []
        for each in idle:
            await self._close(each.raw)

    async def _take_slot(self) -> None:
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise DatabaseBusy(self._name, self._limits.wait_seconds) from None

    async def _idle_or_new(self) -> Raw:
        while self._idle:
            found = self._idle.pop()
            young = time.monotonic() - found.since < self._limits.idle_seconds
            if young and self._driver.is_usable(found.raw):
                return found.raw
            await self._close(found.raw)
        return await self._driver.connect(self._limits.connect_seconds)

    async def _give_back(self, raw: Raw, generation: int) -> None:
        if generation != self._generation or not self._driver.is_usable(raw):
            await self._close(raw)
            return
        try:
            async with asyncio.timeout(CLEAN_UP_SECONDS):
                await self._driver.reset(raw)
        except BaseException as error:
            await self._close(raw)
            if not isinstance(error, Exception):
                raise
        else:
            await self._keep(raw)

    async def _keep(self, raw: Raw) -> None:
        if len(self._idle) < self._limits.connections:
            self._idle.append(_Idle(raw, time.monotonic()))
        else:
            await self._close(raw)

    async def _ask(self, raw: Raw) -> None:
        async with asyncio.timeout(self._limits.check_seconds):
            await self._driver.probe(raw)

    async def _close(self, raw: Raw) -> None:
        with contextlib.suppress(Exception):
            await _shielded(self._driver.close(raw))


def _leaves_it_usable(error: BaseException) -> bool:
    """The database refused a statement, or the caller's own code failed: a reset makes the connection new."""
    return isinstance(error, Exception) and not isinstance(error, (OSError, DatabaseUnavailable))


async def _shielded(work: Awaitable[None]) -> None:
    """Goes on when the caller is cancelled, for a bounded time."""
    await asyncio.shield(asyncio.wait_for(work, CLEAN_UP_SECONDS))
