"""Keeping the registry up with the primary's change log."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import anyio

from mcp_server.adapters import faults
from mcp_server.domain.changes import Line
from mcp_server.domain.errors import QuaymasterError
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
        self._owed: dict[str, tuple[Line, int]] = {}

    @property
    def behind(self) -> bool:
        """Whether a line that this process committed is not in the registry."""
        return bool(self._owed)

    def knows(self, line_id: str) -> bool:
        """Whether this process has lately seen the line go into the registry."""
        return line_id in self._seen

    async def include(self, line: Line, seq: int) -> None:
        """Return when the registry has this committed line and everything committed before it.

        When the primary cannot be asked, the line itself is appended without what others committed: nothing that this
        server acknowledged is missing. Raises QuaymasterError when the registry cannot be written; the line is then owed.
        """
        async with self._turn:
            if line.id in self._seen:
                return
            self._owed[line.id] = (line, seq)
            faults.at("failover.before_mirror")
            try:
                await self._fetch()
            except (Outage, QuaymasterError):
                await self._append_owed()
            if self._owed:
                await self._append_owed()
            faults.at("failover.mirrored")

    async def catch_up(self) -> None:
        """Append what was committed since the registry's position. Raises Outage."""
        async with self._turn:
            await self._fetch()

    async def repay(self) -> None:
        """Append what is owed without asking the primary. Raises QuaymasterError when the registry cannot be written."""
        async with self._turn:
            await self._append_owed()

    async def start_over(self) -> Position:
        """Replace the registry's records by one snapshot of the primary's. Raises Outage, Conflict while lines are pending."""
        async with self._turn:
            return await self._replace()

    async def _fetch(self) -> None:
        facts = await self._mirror.refresh()
        if facts.position is None:
            return
        batch = await self._primary.since(facts.position)
        if batch.position.installation != facts.position.installation:
            raise Outage("another PostgreSQL answers at the address", probed=True)
        if batch.lost:
            await self._replace()
            return
        await self._mirror.mirror(batch.lines, batch.position)
        for line in batch.lines:
            self._note(line.id)

    async def _replace(self) -> Position:
        records, position = await self._primary.everything()
        await self._mirror.resync(records, position)
        self._owed.clear()
        return position

    async def _append_owed(self) -> None:
        """The newest of them becomes the proof that a returning PostgreSQL must have; its horizon stays: the lines of
        others below it are still to come."""
        owed = list(self._owed.values())
        if not owed:
            return
        known = (await self._mirror.refresh()).position
        newest, seq = max(owed, key=lambda each: each[1])
        position = None if known is None or seq <= known.seq else replace(known, seq=seq, line_id=newest.id)
        await self._mirror.mirror([line for line, _ in owed], position)
        for line, _ in owed:
            self._note(line.id)

    def _note(self, line_id: str) -> None:
        self._owed.pop(line_id, None)
        if line_id in self._seen:
            return
        self._seen.add(line_id)
        self._order.append(line_id)
        if len(self._order) > SEEN:
            self._seen.discard(self._order.popleft())
