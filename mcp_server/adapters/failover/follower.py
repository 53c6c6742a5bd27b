"""Keeping the registry up with the primary's change log."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import anyio

from mcp_server.adapters import faults
from mcp_server.domain.changes import Line
from mcp_server.domain.errors import QuaymasterError
from mcp_server.ports.mirror import Logged, Mirror, Outage, Position, Primary

SEEN = 4096


class Follower:
    """Brings the registry up to a commit. Commits that wait at the same time share one fetch and one fsync.

    What a commit saw of the log mostly says that nobody else has committed since: then nothing is fetched.
    """

    def __init__(self, primary: Primary, mirror: Mirror) -> None:
        self._primary = primary
        self._mirror = mirror
        self._turn = anyio.Lock()
        self._seen: set[str] = set()
        self._order: deque[str] = deque()
        self._due: dict[str, Logged[Any]] = {}
        self._owed: dict[str, Logged[Any]] = {}
        self._told = False

    @property
    def behind(self) -> bool:
        """Whether a line that this process committed is not in the registry."""
        return bool(self._owed)

    def knows(self, line_id: str) -> bool:
        """Whether this process has lately seen the line go into the registry."""
        return line_id in self._seen

    async def include(self, logged: Logged[Any]) -> None:
        """Return when the registry has this committed line and everything committed before it.

        When the primary cannot be asked, the line itself is appended without what others committed: nothing that this
        server acknowledged is missing. Raises QuaymasterError when the registry cannot be written; the line is then owed.
        """
        self._due[logged.line.id] = logged
        async with self._turn:
            if logged.line.id in self._seen:
                return
            faults.at("failover.before_mirror")
            batch, self._due = self._owed | self._due, {}
            try:
                await self._include(batch)
            finally:
                await self._owe(self._unseen(batch))
            faults.at("failover.mirrored")

    async def catch_up(self) -> None:
        """Append what was committed since the registry's position. Raises Outage."""
        async with self._turn:
            await self._fetch()
            await self._owe(self._owed)

    async def repay(self) -> None:
        """Append what is owed without asking the primary. Raises QuaymasterError when the registry cannot be written."""
        async with self._turn:
            await self._append(self._owed)
            await self._owe({})

    async def start_over(self) -> Position:
        """Replace the registry's records by one snapshot of the primary's. Raises Outage, Conflict while lines are pending."""
        async with self._turn:
            position = await self._replace()
            await self._owe(self._owed)
            return position

    async def _include(self, batch: Mapping[str, Logged[Any]]) -> None:
        position = await self._complete(batch)
        if position is not None:
            await self._mirror_lines([each.line for each in batch.values()], position)
            return
        with suppress(Outage, QuaymasterError):
            await self._fetch()
        await self._append(self._unseen(batch))

    async def _complete(self, batch: Mapping[str, Logged[Any]]) -> Position | None:
        """The position with these lines, when the registry has every other line that they saw in the log."""
        known = (await self._mirror.refresh()).position
        if known is None:
            return None
        for each in batch.values():
            if each.beside is None or not all(
                line_id in self._seen or line_id in batch for line_id in each.beside.line_ids
            ):
                return None
            after = each.beside.position
            if (after.installation, after.cluster) != (known.installation, known.cluster):
                return None
            newest = max(known, after, key=lambda position: position.seq)
            known = replace(newest, horizon=max(known.horizon, after.horizon))
        return known

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
        await self._mirror_lines(batch.lines, batch.position)

    async def _replace(self) -> Position:
        whole = await self._primary.everything()
        await self._mirror.resync(whole)
        self._owed.clear()
        return whole.position

    async def _append(self, batch: Mapping[str, Logged[Any]]) -> None:
        """Without what others committed. The newest line becomes the proof that a returning PostgreSQL must have; the
        horizon stays: the lines of others below it are still to come."""
        if not batch:
            return
        known = (await self._mirror.refresh()).position
        newest = max(batch.values(), key=lambda each: each.seq)
        behind = known is not None and newest.seq > known.seq
        position = replace(known, seq=newest.seq, line_id=newest.line.id) if known and behind else None
        await self._mirror_lines([each.line for each in batch.values()], position)

    async def _mirror_lines(self, lines: Sequence[Line], position: Position | None) -> None:
        await self._mirror.mirror(lines, position)
        for line in lines:
            self._note(line.id)

    async def _owe(self, owed: dict[str, Logged[Any]]) -> None:
        self._owed = owed
        if owed or self._told:
            await self._mirror.owe(bool(owed))
        self._told = bool(owed)

    def _unseen(self, batch: Mapping[str, Logged[Any]]) -> dict[str, Logged[Any]]:
        return {line_id: each for line_id, each in batch.items() if line_id not in self._seen}

    def _note(self, line_id: str) -> None:
        self._owed.pop(line_id, None)
        if line_id in self._seen:
            return
        self._seen.add(line_id)
        self._order.append(line_id)
        if len(self._order) > SEEN:
            self._seen.discard(self._order.popleft())
