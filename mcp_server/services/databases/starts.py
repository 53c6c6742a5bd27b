"""How many servers start at once: more than the processors can carry would all miss the time that each has."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from mcp_server.ports.databases import Seat, Seats
from mcp_server.ports.orchestrator import Orchestrator, Progress
from mcp_server.services.databases.options import Options

log = logging.getLogger(__name__)
BETWEEN_LOOKS = 0.1
AT_LEAST = 2


class Starts:
    """One line in this process; its first one looks for a seat, of which all processes of the home have so many."""

    def __init__(self, seats: Seats, engine: Orchestrator, options: Options) -> None:
        self._seats = seats
        self._engine = engine
        self._options = options
        self._line: list[object] = []

    @asynccontextmanager
    async def turn(self, tell: Progress | None = None) -> AsyncIterator[None]:
        """Enter when it is one's turn to start a server, and stay until it answers. Not to be entered inside."""
        seat = await self._seat(tell)
        try:
            yield
        finally:
            if seat is not None:
                seat.leave()

    async def _seat(self, tell: Progress | None) -> Seat | None:
        """None: those who have the seats did not leave them for so long that they never will (frozen processes)."""
        most, me = await self._most(), object()
        self._line.append(me)
        given_up = None
        try:
            while True:
                ahead = self._line.index(me)
                if ahead == 0:
                    if (seat := self._seats.take(most)) is not None:
                        return seat
                    given_up = given_up or time.monotonic() + self._options.seat_seconds
                    if time.monotonic() > given_up:
                        log.warning("a server is started although %d others have not ended their start", most)
                        return None
                if tell is not None:
                    before = ahead + most
                    await tell(f"waiting for {before} other{'s' * (before > 1)} to start first")
                await anyio.sleep(BETWEEN_LOOKS)
        finally:
            self._line.remove(me)

    async def _most(self) -> int:
        if self._options.starts is not None:
            return self._options.starts
        return max(AT_LEAST, (await self._engine.detect()).cpus or 0)
