"""Keeping the registry up with the primary's change log."""

from __future__ import annotations

from collections import deque

import anyio

from mcp_server.adapters import faults
from mcp_server.domain.changes import Line
from mcp_server.ports.mirror import Mirror, Outage, Position, Primary

SEEN = 4096


class Follower:
    """Brings the registry up to a commit. Commits that wait at the same time share one fetch and one fsync."""

    def __init__(self, primary: Primary, mirror: Mirror) -> None:
        self._primary = primary
        self._mirror = mirror
        self._turn = anyio.Lock()
        self._seen: set[str] = set()
        self._order: deque[str] = deque()

    async def include(self, line: Line) -> None:
        """Return when the registry has this committed line and everything committed before it.

        When the primary goes away in between, the line itself is appended without what others committed: nothing that this
        server acknowledged is missing. Raises Unavailable when the registry cannot be written.
        """
        async with self._turn:
            if line.id in self._seen:
                return
            faults.at("failover.before_mirror")
            try:
                await self._fetch()
            except Outage:
                await self._mirror.mirror([line], None)
            if line.id not in self._seen:
                await self._mirror.mirror([line], None)
                self._note(line.id)
            faults.at("failover.mirrored")

    async def catch_up(self) -> None:
        """Append what was committed since the registry's position. Raises Outage."""
        async with self._turn:
            await self._fetch()

    async def start_over(self) -> Position:
        """Replace the registry's records by one snapshot of the primary's. Raises Outage, Conflict while lines are pending."""
        async with self._turn:
            records, position = await self._primary.everything()
            await self._mirror.resync(records, position)
            return position

    async def _fetch(self) -> None:
        facts = await self._mirror.refresh()
        if facts.position is None:
            return
        batch = await self._primary.since(facts.position)
        if batch.lost:
            records, position = await self._primary.everything()
            await self._mirror.resync(records, position)
            return
        await self._mirror.mirror(batch.lines, batch.position)
        for line in batch.lines:
            self._note(line.id)

    def _note(self, line_id: str) -> None:
        if line_id in self._seen:
            return
        self._seen.add(line_id)
        self._order.append(line_id)
        if len(self._order) > SEEN:
            self._seen.discard(self._order.popleft())
