"""The registry under a home, for many tasks of many processes."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import anyio
from anyio import CancelScope

from mcp_server.adapters import faults
from mcp_server.adapters.registry import audit_files, snapshot
from mcp_server.adapters.registry.audit_files import AuditMark
from mcp_server.adapters.registry.disk import refusals, to_the_end
from mcp_server.adapters.registry.documents import Kind, Said
from mcp_server.adapters.registry.filelock import (
    FairLock,
    Flag,
    ModeLock,
    held_for_too_long,
    holders_of,
    leading,
    open_lock,
    try_lock,
)
from mcp_server.adapters.registry.files import Files
from mcp_server.adapters.registry.keyring import write_projection
from mcp_server.adapters.registry.layout import Layout
from mcp_server.adapters.registry.sealed import damage
from mcp_server.adapters.registry.state import State
from mcp_server.adapters.registry.transaction import Clock, RegistryTransaction, reading
from mcp_server.domain.audit import AuditRow
from mcp_server.domain.changes import Change, Line
from mcp_server.domain.errors import Busy, Conflict, OutcomeUnknown, Unavailable
from mcp_server.domain.records import Record
from mcp_server.ports.mirror import Facts, Mode, Position, Replaying, Whole
from mcp_server.ports.store import Intent, Reading

T = TypeVar("T")
PATIENCE = 10.0
_USED_AFTER = timedelta(seconds=60)
_POSITION_AFTER = timedelta(seconds=1)
_HORIZON_AFTER = timedelta(seconds=60)
_LARGE_AGAIN = 1024 * 1024


def utc_now() -> datetime:
    return datetime.now(UTC)


class RegistryMirror:
    """See `ports.mirror.Mirror`. One object per process and home; it belongs to one event loop."""

    def __init__(self, files: Files, *, clock: Clock = utc_now, patience: float = PATIENCE) -> None:
        """Use `open`. `patience` is how long, in seconds, a caller waits for a lock."""
        layout = files.layout
        self._layout = layout
        self._files = files
        self._clock = clock
        self._patience = patience
        self._lock = FairLock(layout.write_lock, layout.write_turn)
        self._mode = ModeLock(layout.mode_lock, layout.mode_turn)
        self._behind = Flag(layout.behind_lock)
        self._queue = anyio.Lock(fast_acquire=True)
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="registry")
        self._inside = False
        self._broken: str | None = None
        self._compact_at = 0
        self._lead: int | None = None
        with refusals("cannot use the home"):
            self._place = layout.place()

    @classmethod
    async def open(
        cls, root: Path, *, clock: Clock = utc_now, patience: float = PATIENCE, home: str | None = None
    ) -> RegistryMirror:
        """The registry in the directory `root`, which is made when it is not there (its id `home`, else a
        drawn one).

        Raises Corrupt when a file is damaged, Unavailable when the directory cannot be used.
        """
        layout = Layout(root)
        _prepare(root)
        if not _headed(layout):
            await _create(layout, home or str(uuid.uuid4()), clock(), patience)
        mirror = cls(Files(layout), clock=clock, patience=patience)
        await mirror.mend()
        return mirror

    async def mend(self) -> None:
        """Finish what a killed writer began, when there is something."""
        if self._files.whole():
            return
        async with self._writing():
            pass

    def close(self) -> None:
        if self._lead is not None:
            os.close(self._lead)
            self._lead = None
        self._mode.close()
        self._behind.close()
        self._files.close()
        self._writer.shutdown(wait=False)

    @property
    def broken(self) -> str | None:
        """Why this process writes no more; None while it does."""
        return self._broken

    def gauges(self) -> Mapping[str, float]:
        """journal_bytes, snapshot_bytes, journal_seq."""
        return self._files.gauges()

    # The mode

    def working(self) -> AbstractAsyncContextManager[None]:
        return self._mode.working(self._patience)

    def switching(self) -> AbstractAsyncContextManager[None]:
        return self._mode.switching(self._patience)

    def leading(self) -> AbstractAsyncContextManager[bool]:
        return leading(self._layout.leader_lock)

    async def owe(self, owing: bool) -> None:
        await self._behind.set(owing)

    async def owed(self) -> bool:
        return self._behind.raised()

    def lead(self) -> bool:
        """Whether this process leads the home: once it does, until `close`."""
        if self._lead is None:
            fd = open_lock(self._layout.leader_lock)
            if not try_lock(fd, fcntl.LOCK_EX):
                os.close(fd)
                return False
            self._lead = fd
        return True

    async def set_mode(self, mode: Mode, *, epoch: int, reason: str | None) -> Facts:
        await self._say("mode", Said(mode=mode, epoch=epoch, reason=reason))
        return self._files.state.facts(self._place)

    async def set_alone(self, alone: bool) -> None:
        state = self._files.state
        if (state.alone, state.alone_at) != (alone, self._place):
            await self._say("alone", Said(alone=alone, alone_at=self._place))

    # Reading

    async def refresh(self) -> Facts:
        self._catch_up()
        return self._files.state.facts(self._place)

    async def read(self, fn: Callable[[Reading], Awaitable[T]]) -> T:
        self._catch_up()
        return await fn(reading(self._layout, self._files.state, self._files.live_audit, self._clock))

    async def pending(self, limit: int) -> Sequence[Line]:
        self._catch_up()
        return list(self._files.state.pending.values())[:limit]

    async def dirty(self) -> Sequence[tuple[str, str]]:
        self._catch_up()
        return sorted(self._files.state.dirty)

    # Writing

    async def run(
        self, fn: Callable[[Replaying], Awaitable[T]], intent: Intent, *, line_id: str, pending: bool
    ) -> tuple[T, Line | None]:
        async with self._writing():
            tx = RegistryTransaction(self._layout, self._files.state, self._files.live_audit, self._clock)
            value = await fn(tx)
            line, said = tx.end(line_id, intent, before=pending)
            if not line.changes and not line.audit and said is None:
                return value, None
            await self._append("commit", line, pending=pending, said=said)
            if said is not None and said.audit_from is not None:
                with suppress(OSError):
                    audit_files.remove_before(self._layout, said.audit_from, self._files.state.backlog)
        return value, line

    async def mirror(self, lines: Sequence[Line], position: Position | None) -> None:
        self._catch_up()
        if not self._newer(lines) and not self._noteworthy(position):
            return
        async with self._writing():
            newer = self._newer(lines)
            if newer or self._noteworthy(position):
                await self._append("mirror", self._line("mirror", newer), position=position)

    async def adopt(self, records: Sequence[tuple[str, str, Record | None, int]]) -> None:
        async with self._writing():
            state = self._files.state
            changes = [_forced(state, *record) for record in records]
            changes = [change for change in changes if not _stands(state, change)]
            if changes:
                await self._append("adopt", self._line("adopt", changes))

    async def resync(self, whole: Whole) -> None:
        async with self._writing():
            if self._files.state.pending:
                raise Conflict(
                    "lines are pending that PostgreSQL has not got", pending=len(self._files.state.pending)
                )
            await self._begin(whole)

    async def settle(self, line_id: str) -> None:
        async with self._writing():
            if line_id in self._files.state.pending:
                await self._append("settle", self._line("settle"), said=Said(settled=line_id))

    async def compact(self) -> None:
        """Write a snapshot and begin a new segment."""
        async with self._writing():
            await self._begin(None)

    # Audit rows beside transactions

    async def record(self, rows: Sequence[AuditRow], used: Mapping[str, datetime], *, pending: bool) -> None:
        if not rows and not self._newly_used(used):
            return
        async with self._writing():
            newly = self._newly_used(used)
            with refusals("cannot read the audit file"):
                backlog = self._backlog_for(rows) if pending else None
            if newly or backlog is not None:
                await self._append("used", self._line("used"), said=Said(used=newly or None, backlog=backlog))
            with CancelScope(shield=True), refusals("cannot write the audit file"):
                await self._in_thread(lambda: audit_files.append(self._layout, rows, pending=pending))

    async def audit_backlog(self, limit: int) -> tuple[Sequence[AuditRow], object]:
        self._catch_up()
        backlog = dict(self._files.state.backlog)
        rows, mark = await to_the_end(lambda: audit_files.waiting(self._layout, backlog, limit))
        if backlog and not rows:
            await self.audit_settled(mark)
        return rows, mark

    async def audit_settled(self, mark: object) -> None:
        if not isinstance(mark, AuditMark):
            raise TypeError("a mark comes from audit_backlog")
        async with self._writing():
            old = self._files.state.backlog
            rest = audit_files.rest_of(self._layout, old, mark)
            if rest != old:
                await self._append("backlog", self._line("backlog"), said=Said(backlog=rest))

    # Steps

    def _catch_up(self) -> None:
        """While this process holds the write lock nobody else appends, and its own line does not count before
        its fsync.
        """
        if not self._inside:
            self._files.catch_up()

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """Hold the write lock, with everything read that others wrote, and nothing unfinished behind it."""
        lock = await self._enter()
        try:
            self._files.catch_up()
            self._inside = True
            with refusals("cannot mend the journal"):
                self._files.mend()
            faults.at("registry.locked")
            yield
            faults.at("registry.before_unlock")
        finally:
            self._inside = False
            os.close(lock)
            self._queue.release()

    async def _enter(self) -> int:
        with anyio.move_on_after(self._patience):
            await self._queue.acquire()
            try:
                self._refuse_when_broken()
                return await self._lock.acquire(self._patience)
            except BaseException:
                self._queue.release()
                raise
        if holders_of(self._layout.write_lock):
            raise held_for_too_long(self._layout.write_lock)
        raise Busy("the registry is busy: its write lock could not be had in time")

    def _refuse_when_broken(self) -> None:
        if self._broken is not None:
            raise Unavailable(
                f"this process no longer writes to the registry: {self._broken}",
                next="Look at the disk, then restart the server.",
            )

    async def _say(self, kind: Kind, said: Said) -> None:
        async with self._writing():
            await self._append(kind, self._line(kind), said=said)

    def _line(self, action: str, changes: Sequence[Change] = ()) -> Line:
        at = max(self._clock(), self._files.state.at)
        return Line(uuid.uuid4().hex, at, "registry", action, tuple(changes))

    async def _append(
        self,
        kind: Kind,
        line: Line,
        *,
        pending: bool = False,
        position: Position | None = None,
        said: Said | None = None,
    ) -> None:
        """One line, durable when this returns. Raises Unavailable when nothing was written."""
        raw, entry = self._files.line(kind, line, pending=pending, position=position, said=said)
        with CancelScope(shield=True):
            with refusals("cannot write the journal"):
                self._files.write(raw)
            await self._make_durable()
            self._files.apply(raw, entry)
            self._project_keys()
            if self._files.large() and self._files.size() >= self._compact_at:
                await self._compact_quietly()

    async def _make_durable(self) -> None:
        """After a failed fsync nobody knows what the disk holds: the line is taken back and this process
        writes no more.
        """
        try:
            await self._in_thread(self._files.sync)
        except OSError as error:
            self._broken = f"fsync failed ({error.strerror})"
            try:
                self._files.take_back()
            except OSError as second:
                raise OutcomeUnknown("the journal could neither be made durable nor taken back") from second
            raise Unavailable(f"the journal could not be made durable: {error.strerror}") from error

    def _project_keys(self) -> None:
        """The line counts already: whoever next holds the lock repairs a projection that could not be
        written.
        """
        try:
            self._files.project_keys()
        except OSError as error:
            raise OutcomeUnknown(
                f"the change is stored, but {self._layout.keys} could not be written: {error.strerror}"
            ) from error

    async def _compact_quietly(self) -> None:
        """The line that made the journal large is written: a disk without room for a snapshot is no error of
        its call.
        """
        try:
            await self._begin(None)
            self._compact_at = 0
        except Unavailable:
            self._compact_at = self._files.size() + _LARGE_AGAIN

    async def _begin(self, whole: Whole | None) -> None:
        state = self._files.successor(self._clock(), whole)
        with CancelScope(shield=True), refusals("cannot write a snapshot"):
            if state is not None:
                await self._switch(state)
            else:
                self._files.clean_left_over()
            self._files.project_keys()

    async def _switch(self, state: State) -> None:
        try:
            await self._in_thread(lambda: self._files.switch(state))
        except OSError as error:
            if self._files.switched():
                self._broken = f"a new generation could not be made durable ({error.strerror})"
            raise
        self._files.enter(state)

    async def _in_thread(self, work: Callable[[], None]) -> None:
        await to_the_end(work, self._writer)

    def _newer(self, lines: Sequence[Line]) -> list[Change]:
        """The last change of each record that is newer than what is there, in the order of the log."""
        newest: dict[tuple[str, str], Change] = {}
        state, now = self._files.state, self._clock()
        for change in (change for line in lines for change in line.changes):
            name = (change.noun, change.key)
            known = newest[name].rev if name in newest else state.rev_of(*name)
            if change.rev > known or (name not in newest and state.forgotten(*name, now)):
                newest.pop(name, None)
                newest[name] = change
        return list(newest.values())

    def _noteworthy(self, position: Position | None) -> bool:
        """A position alone is worth a line once a second, once a minute when no row of the log is new."""
        known = self._files.state.position
        if position is None or position == known:
            return False
        if known is None or (position.installation, position.cluster) != (known.installation, known.cluster):
            return True
        pause = _HORIZON_AFTER if position.seq == known.seq else _POSITION_AFTER
        return abs(self._clock() - self._files.state.position_at) >= pause

    def _newly_used(self, used: Mapping[str, datetime]) -> dict[str, datetime]:
        """Once a minute and key is often enough."""
        known = self._files.state.records["keys"]
        newly = {}
        for key_id, at in used.items():
            record = known.get(key_id)
            last = getattr(record, "last_used_at", None)
            if record is not None and (last is None or at - last >= _USED_AFTER):
                newly[key_id] = at
        return newly

    def _backlog_for(self, rows: Sequence[AuditRow]) -> dict[str, int] | None:
        """The backlog with the files that get their first pending rows now; None when none does."""
        old = self._files.state.backlog
        new = {**audit_files.ends(self._layout, rows), **old}
        return None if new == old else new


def _prepare(root: Path) -> None:
    """Close the directory to others, unless it holds other things than a home: those may be shared."""
    with refusals(f"cannot use {root}"):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if Layout(root).home.exists() or not any(root.iterdir()):
            root.chmod(0o700)


def _headed(layout: Layout) -> bool:
    return layout.head.exists()


async def _create(layout: Layout, home: str, now: datetime, patience: float) -> None:
    """Make a home in an empty directory, or finish one whose making was cut off. HEAD comes last."""
    lock = await FairLock(layout.write_lock, layout.write_turn).acquire(patience)
    try:
        if _headed(layout):
            return
        _refuse_headless(layout)
        with refusals("cannot make the home"):
            if not layout.home.exists():
                snapshot.write_home(layout, home, now)
            known = snapshot.read_home(layout)
            state = State(known.home, known.created_at)
            write_projection(layout, state)
            snapshot.switch(layout, state, 1, snapshot=False)
    finally:
        os.close(lock)


def _refuse_headless(layout: Layout) -> None:
    for path in layout.states():
        if path.stat().st_size > 0:
            raise damage(layout.head, 0, f"the file is missing, but {path.name} is there")


def _forced(state: State, noun: str, key: str, record: Record | None, rev: int) -> Change:
    kept = None if record is None else record.change(rev=rev)
    return Change(noun=noun, key=key, base=state.rev_of(noun, key), rev=rev, record=kept)


def _stands(state: State, change: Change) -> bool:
    return state.get(change.noun, change.key) == change.record and (
        state.rev_of(change.noun, change.key) == change.rev
    )
