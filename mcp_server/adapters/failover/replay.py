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
from mcp_server.domain.nouns import RECORDS
from mcp_server.domain.paths import overlap
from mcp_server.domain.records import Record
from mcp_server.ports.mirror import AlreadyApplied, Primary, Replaying
from mcp_server.ports.repositories import Repository
from mcp_server.ports.store import Intent

_RANK = {kind.noun: rank for rank, kind in enumerate(RECORDS)}
_LOST = "another holder's lock was granted earlier, while the stores were apart"


async def replay(primary: Primary, line: Line, *, epoch: int) -> None:
    """Apply one line. Returning means that PostgreSQL has it, or keeps it as a conflict. Raises Outage.

    A line that PostgreSQL has already (the outage came between its commit and the answer) is compared: where what was
    acknowledged differs from what was committed, the difference is applied as a line of its own.
    """
    try:
        await _apply(primary, line, epoch=epoch)
    except AlreadyApplied:
        standing = await primary.applied(line.id)
        if standing is not None:
            await _apply_difference(primary, line, standing, epoch=epoch)
    faults.at("failover.replay.committed")


async def _apply(primary: Primary, line: Line, *, epoch: int) -> None:
    intent = Intent(line.action, line.actor)
    try:
        await primary.run(lambda tx: _Replay(tx, line).run(), intent, line_id=line.id, epoch=epoch)
    except Conflict as error:
        reason = error.message
        await primary.run(lambda tx: _Replay(tx, line, refuse=reason).run(), intent, line_id=line.id, epoch=epoch)


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
            await self._tx.conflicts.save(waiting.change(ours=ours, waiting=(*waiting.waiting, self._line.id)))
            return
        theirs = await self._repository(change.noun).hold(change.key)
        reason = self._refuse or await self._orphaned(change)
        if reason is not None and not same(theirs, change.record):
            await self._keep(change, theirs, reason)
            return
        if isinstance(change.record, Lock) and theirs is None and change.before is None:
            await self._grant(change.record)
            return
        match decide(change, theirs):
            case Write(record, also):
                await self._write(change.noun, theirs, record)
                for extra in also:
                    await self._write(extra.noun, await self._repository(extra.noun).hold(extra.key), extra)
            case Leave(lost=True) if isinstance(change.record, Lock):
                await self._tell(change.record, "it had ended in PostgreSQL")
            case Keep(why):
                await self._keep(change, theirs, why)

    async def _grant(self, ours: Lock) -> None:
        now = await self._tx.now()
        for theirs in await self._tx.locks.of_project(ours.project):
            apart = theirs.holder == ours.holder or theirs.expires_at <= now or "editing" not in (theirs.mode, ours.mode)
            if apart or not overlap(theirs.path, ours.path):
                continue
            if overlapped(ours, theirs):
                await self._tell(ours, _LOST)
                return
            await self._tx.locks.remove(theirs)
            await self._tell(theirs, _LOST)
        await self._tx.locks.add(ours)

    async def _tell(self, lock: Lock, reason: str) -> None:
        lost = LostLock(lock_id=lock.id, holder=lock.holder, path=lock.path, reason=reason, at=await self._tx.now())
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
        if change.record is None:
            return None
        for noun, key in parents(change.record):
            if await self._repository(noun).get(key) is None:
                return f"its parent was deleted in PostgreSQL ({noun})"
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


def conflict_id(noun: str, key: str) -> str:
    """One undecided conflict a record; a decided one gives its id to the next."""
    return f"conflict-{hashlib.sha256(f'{noun}/{key}'.encode()).hexdigest()[:16]}"


def _locked_projects(changes: Iterable[Change]) -> set[str]:
    return {
        record.project for change in changes for record in (change.record, change.before) if isinstance(record, Lock)
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
