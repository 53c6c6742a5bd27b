"""Applying lines that were committed on the registry to PostgreSQL, each once, in one transaction each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

from mcp_server.adapters import faults
from mcp_server.domain.changes import Change, Line
from mcp_server.domain.conflicts import KeptConflict
from mcp_server.domain.errors import Conflict
from mcp_server.domain.locks import Lock, LockScope, LostLock
from mcp_server.domain.merging import Keep, Leave, Write, decide, overlapped, parents, same
from mcp_server.domain.nouns import BY_NOUN, RECORDS
from mcp_server.domain.paths import overlap
from mcp_server.domain.records import Record
from mcp_server.ports.mirror import AlreadyApplied, Primary, Replaying
from mcp_server.ports.repositories import Repository
from mcp_server.ports.store import Intent

_RANK = {kind.noun: rank for rank, kind in enumerate(RECORDS)}
_LOST = "another holder's lock was granted earlier, while the stores were apart"
_ENDED = "it had ended in PostgreSQL"
_REPLAYED = "replay:"
"""Begins the action of a log row that a replay made: its changes are what the merge came to."""
_NEVER_REFUSED = frozenset({"idempotency", "plans", "lock_scopes", "environment_versions"})
"""Nothing unique is in these but their key: they are merged also when the rest of their line is kept."""


async def replay(primary: Primary, line: Line, *, epoch: int) -> None:
    """Apply one line. Returning means that PostgreSQL has it, or keeps it as a conflict. Raises Outage.

    A line that PostgreSQL has already was either replayed before (the crash came between that and its settling): then
    nothing is left to do. Or its call committed it, and the outage came between the commit and the answer: then it is
    compared, and where what was acknowledged differs from what was committed, the difference is applied as a line of its own.
    """
    try:
        await _apply(primary, line, epoch=epoch)
    except AlreadyApplied:
        standing = await primary.applied(line.id)
        if standing is not None and not standing.action.startswith(_REPLAYED):
            await _apply_difference(primary, line, standing, epoch=epoch)
    faults.at("failover.replay.committed")


async def _apply(primary: Primary, line: Line, *, epoch: int) -> None:
    intent = Intent(_REPLAYED + line.action, line.actor)
    try:
        await primary.run(lambda tx: _Replay(tx, line).run(), intent, line_id=line.id, epoch=epoch)
    except Conflict as error:
        reason = error.message
        await primary.run(
            lambda tx: _Replay(tx, line, refuse=reason).run(), intent, line_id=line.id, epoch=epoch
        )


async def _apply_difference(primary: Primary, line: Line, standing: Line, *, epoch: int) -> None:
    committed = {(change.noun, change.key): change.record for change in standing.changes}
    changes = [
        replace(change, before=committed.get((change.noun, change.key), change.before))
        for change in line.changes
        if not same(committed.get((change.noun, change.key)), change.record)
    ]
    if not changes:
        return
    difference = Line(f"{line.id}+", line.at, line.actor, line.action, tuple(changes))
    try:
        await _apply(primary, difference, epoch=epoch)
    except AlreadyApplied:
        return


class _Replay:
    """One line in one transaction. With `refuse` every change is kept as a conflict: nothing of it could be applied."""

    def __init__(self, tx: Replaying, line: Line, *, refuse: str | None = None) -> None:
        self._tx = tx
        self._line = line
        self._refuse = refuse

    async def run(self) -> None:
        for row in self._line.audit:
            await self._tx.audit.add(row)
        for project in sorted(_locked_projects(self._line.changes)):
            await self._tx.lock_scopes.hold(project)
        for change in _in_order(self._line.changes):
            await self._change(change)

    async def _change(self, change: Change) -> None:
        waiting = await self._standing_conflict(change)
        if waiting is not None:
            ours = None if change.record is None else change.record.model_dump(mode="json")
            await self._tx.conflicts.save(
                waiting.change(ours=ours, waiting=(*waiting.waiting, self._line.id))
            )
            return
        theirs = await self._repository(change.noun).hold(change.key)
        reason = self._refused(change) or await self._orphaned(change)
        if reason is not None and not same(theirs, change.record):
            await self._keep(change, theirs, reason)
            return
        if isinstance(change.record, Lock) and same(theirs, change.before) and _granted(change):
            await self._grant(change.record, theirs)
            return
        match decide(change, theirs, self._line.at):
            case Write(record, also):
                await self._write(change.noun, theirs, record)
                for extra in also:
                    await self._write(extra.noun, await self._repository(extra.noun).hold(extra.key), extra)
            case Leave(lost=True) if isinstance(change.record, Lock):
                await self._tell(change.record, _ENDED)
            case Keep(why):
                await self._keep(change, theirs, why)

    def _refused(self, change: Change) -> str | None:
        return None if change.noun in _NEVER_REFUSED else self._refuse

    async def _grant(self, ours: Lock, standing: Record | None) -> None:
        """A lock that was not held before, or not with this fence; `standing` is its earlier grant in PostgreSQL."""
        now = await self._tx.now()
        for theirs in await self._tx.locks.of_project(ours.project):
            apart = (
                theirs.holder == ours.holder
                or theirs.expires_at <= now
                or "editing" not in (theirs.mode, ours.mode)
            )
            if apart or not overlap(theirs.path, ours.path):
                continue
            if overlapped(ours, theirs):
                await self._tell(ours, _LOST)
                return
            await self._tx.locks.remove(theirs)
            await self._tell(theirs, _LOST)
        await self._write(Lock.noun, standing, ours)

    async def _tell(self, lock: Lock, reason: str) -> None:
        lost = LostLock(
            lock_id=lock.id, holder=lock.holder, path=lock.path, reason=reason, at=await self._tx.now()
        )
        scope = await self._tx.lock_scopes.hold(lock.project)
        if scope is not None:
            await self._tx.lock_scopes.save(scope.with_lost(lost))
        elif await self._tx.projects.get(lock.project) is not None:
            await self._tx.lock_scopes.add(LockScope(project=lock.project).with_lost(lost))

    async def _write(self, noun: str, theirs: Record | None, record: Record | None) -> None:
        repository = self._repository(noun)
        if record is None:
            if theirs is not None:
                await repository.remove(theirs)
        elif theirs is None:
            await repository.add(record)
        else:
            await repository.save(record.change(rev=theirs.rev))

    async def _orphaned(self, change: Change) -> str | None:
        """Why there is no parent for the record: a namesake that was made in PostgreSQL is none."""
        if change.record is None:
            return None
        for noun, key in parents(change.record):
            parent = await self._repository(noun).get(key)
            if parent is None:
                return f"its parent was deleted in PostgreSQL ({noun})"
            kept = await self._tx.conflicts.get(conflict_id(noun, key))
            if kept is not None and kept.decided is None and kept.base is None and not _made_of(kept, parent):
                return f"its parent was made on both sides ({noun})"
        return None

    async def _standing_conflict(self, change: Change) -> KeptConflict | None:
        kept = await self._tx.conflicts.hold(conflict_id(change.noun, change.key))
        return kept if kept is not None and kept.decided is None else None

    async def _keep(self, change: Change, theirs: Record | None, reason: str) -> None:
        identifier = conflict_id(change.noun, change.key)
        earlier = await self._tx.conflicts.hold(identifier)
        kept = KeptConflict(
            rev=0 if earlier is None else earlier.rev,
            id=identifier,
            team_id=_team(change.record) or _team(change.before) or _team(theirs),
            line_id=self._line.id,
            target_noun=change.noun,
            target_key=change.key,
            base=_json(change.before),
            ours=_json(change.record),
            theirs=_json(theirs),
            reason=reason,
            at=await self._tx.now(),
        )
        await (self._tx.conflicts.add(kept) if earlier is None else self._tx.conflicts.save(kept))

    def _repository(self, noun: str) -> Repository[Record]:
        return cast("Repository[Record]", self._tx.repository(noun))


def _granted(change: Change) -> bool:
    """Whether a lock is held by this change that was not before; a renewal keeps the fence."""
    ours, before = change.record, change.before
    return isinstance(ours, Lock) and not (isinstance(before, Lock) and before.fence == ours.fence)


def _made_of(kept: KeptConflict, record: Record) -> bool:
    """Whether the record is the version that was made while PostgreSQL was away."""
    return kept.ours is not None and same(BY_NOUN[kept.target_noun].model_validate(kept.ours), record)


def conflict_id(noun: str, key: str) -> str:
    """One undecided conflict a record; a decided one gives its id to the next."""
    return f"conflict-{hashlib.sha256(f'{noun}/{key}'.encode()).hexdigest()[:16]}"


def _locked_projects(changes: Iterable[Change]) -> set[str]:
    return {
        record.project
        for change in changes
        for record in (change.record, change.before)
        if isinstance(record, Lock)
    }


def _in_order(changes: Iterable[Change]) -> list[Change]:
    """What is deleted first, children before parents; then parents before children."""
    gone = [change for change in changes if change.record is None]
    kept = [change for change in changes if change.record is not None]
    return sorted(gone, key=lambda c: -_RANK[c.noun]) + sorted(kept, key=lambda c: _RANK[c.noun])


def _team(record: Record | None) -> str | None:
    return getattr(record, "team_id", None)


def _json(record: Record | None) -> dict[str, Any] | None:
    return None if record is None else record.model_dump(mode="json")
