"""The locks of a project while its scope is held: what every call that changes them does there.

The scope is held before a task's row, by everybody, so that no two calls wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from mcp_server.domain.callers import Caller, holder_of
from mcp_server.domain.errors import Conflict, Invalid, QuotaExceeded
from mcp_server.domain.locks import (
    MAX_HELD,
    SOON_SECONDS,
    Granted,
    Lock,
    LockScope,
    Near,
    Refused,
    Swept,
    Terms,
    decide,
    expiry_notices,
    granted_locks,
    last_fence,
    lock_id,
    lost_notices,
    next_fence,
    sweep,
)
from mcp_server.domain.projects import Project
from mcp_server.domain.records import Moment
from mcp_server.domain.tasks import ENDED, Task
from mcp_server.ports.store import Reading, Transaction
from mcp_server.services.access import project_of, task_of
from mcp_server.services.lock_views import locked

SOON = timedelta(seconds=SOON_SECONDS)


@dataclass(frozen=True, slots=True)
class Board:
    """The locks of a project while its scope is held: nobody else decides about them.

    `swept` may be without what does not concern the call; `held` counts all of the holder's.
    """

    project: Project
    scope: LockScope
    swept: Swept
    now: Moment
    holder: str
    held: int

    @property
    def own(self) -> tuple[Lock, ...]:
        return tuple(lock for lock in self.swept.live if lock.holder == self.holder)

    @property
    def notices(self) -> tuple[str, ...]:
        return lost_notices(self.swept.told)


async def held_board(
    tx: Transaction,
    caller: Caller,
    project: str,
    holder: str,
    *,
    near: Sequence[str] | None = None,
    whole: bool = True,
) -> Board:
    """Hold the project's scope, made at its first use, and read its locks. Raises NotFound.

    With `near` only those that may overlap these paths, that end soon and, with `whole`, all of the holder's.
    """
    found = await project_of(tx, caller, project)
    scope, seen = await _held_near(tx, found, near, holder, whole=whole)
    now = await tx.now()
    swept = sweep(scope, seen.locks, holder, now)
    ended = sum(lock.holder == holder for lock in swept.ended)
    return Board(found, scope, swept, now, holder, seen.held - ended)


async def _held_near(
    tx: Transaction, project: Project, near: Sequence[str] | None, holder: str, *, whole: bool
) -> tuple[LockScope, Near]:
    if near is not None:
        ids = [lock_id(project.uid, holder, path) for path in near]
        held = await tx.locks.hold_near(project.name, near, holder, ahead=SOON, whole=whole, ids=ids)
        if held is not None:
            return held
    # A missing scope is held too: of two first callers the second finds what the first made.
    scope = await tx.lock_scopes.hold(project.name) or await tx.lock_scopes.add(
        LockScope(project=project.name)
    )
    return scope, await seen_near(tx, project, near, holder, await tx.now(), whole=whole)


async def seen_near(
    tx: Reading, project: Project, near: Sequence[str] | None, holder: str, now: Moment, *, whole: bool
) -> Near:
    """See `held_board`; without `near` all locks of the project."""
    if near is not None:
        return await tx.locks.near(project.name, near, holder, until=now + SOON, whole=whole)
    locks = tuple(await tx.locks.of_project(project.name))
    return Near(locks, sum(lock.holder == holder for lock in locks))


async def heartbeat(tx: Transaction, caller: Caller, project: str, task_id: str | None) -> tuple[str, ...]:
    """Renew the caller's leases of a task that a call names; returns what it should hear (lost, expiring)."""
    if task_id is None:
        return ()
    board = await held_board(tx, caller, project, holder_of(caller, task_id), near=())
    return await beat(tx, board)


async def beat(tx: Transaction, board: Board) -> tuple[str, ...]:
    """Renew the leases of the board's holder; returns its notices."""
    await clear(tx, board)
    locks = await renewed(tx, board, board.own)
    return (*board.notices, *expiry_notices(locks, board.now))


async def grant(tx: Transaction, board: Board, terms: Terms) -> Sequence[Lock]:
    """Lock all of the terms' paths; in the order asked. Raises Locked when any of them is refused."""
    held = (*board.swept.live, *board.swept.ended)
    decision = decide(held, terms.paths, terms.mode, terms.holder, board.now)
    if isinstance(decision, Refused):
        raise await locked(tx, decision.clashes)
    return await _keep(tx, board, terms, decision)


async def take_from_others(
    tx: Transaction, board: Board, taken: Sequence[Lock], terms: Terms
) -> Sequence[Lock]:
    """Remove these locks, note for their holders why, and grant the terms."""
    reason = f"taken over by {terms.holder} because: {terms.change_description}"
    lost = [lock.lost(reason, board.now) for lock in taken]
    for lock in taken:
        await tx.locks.remove(lock)
    gone = {lock.id for lock in taken}
    left = tuple(lock for lock in board.swept.live if lock.id not in gone)
    swept = replace(board.swept, live=left, scope=board.swept.scope.with_lost(*lost))
    return await grant(tx, replace(board, swept=swept), terms)


async def release_task(tx: Transaction, board: Board, task: Task) -> int:
    """Release all locks of a task that ended, whoever holds them; returns how many. Others are told."""
    released = [lock for lock in board.swept.live if lock.task_id == task.id]
    others = (lock for lock in released if lock.holder != board.holder)
    lost = (lock.lost(f"the task ended ({task.status})", board.now) for lock in others)
    await clear(tx, board, scope=board.swept.scope.with_lost(*lost))
    for lock in released:
        await tx.locks.remove(lock)
    return len(released)


async def _keep(tx: Transaction, board: Board, terms: Terms, granted: Granted) -> Sequence[Lock]:
    """Save what was granted, with one new fence when anything is held that was not."""
    elsewhere = board.held - sum(lock.path in terms.paths for lock in board.own)
    if elsewhere + len(terms.paths) > MAX_HELD:
        raise QuotaExceeded(
            f"a holder has at most {MAX_HELD} locks in a project",
            next="Release some, or lock a directory instead.",
        )
    fence = next_fence(last_fence(board.scope, tx.epoch), tx.epoch) if granted.fresh else None
    scope = board.swept.scope if fence is None else board.swept.scope.change(fence=fence)
    known = frozenset(lock.id for lock in granted.known)
    await clear(tx, board, scope=scope, keeping=known)
    locks = granted_locks(granted, terms, board.project, fence, board.now)
    return [await (tx.locks.save(lock) if lock.id in known else tx.locks.add(lock)) for lock in locks]


async def clear(
    tx: Transaction, board: Board, *, scope: LockScope | None = None, keeping: frozenset[str] = frozenset()
) -> None:
    """Remove what has ended but for the ids in `keeping`, and save the scope when it changed."""
    for lock in board.swept.ended:
        if lock.id not in keeping:
            await tx.locks.remove(lock)
    wanted = scope or board.swept.scope
    if wanted != board.scope:
        await tx.lock_scopes.save(wanted)


async def renewed(
    tx: Transaction, board: Board, locks: Iterable[Lock], lease_seconds: int | None = None
) -> list[Lock]:
    """Begin these leases anew."""
    return [await tx.locks.save(lock.renewed(board.now, lease_seconds)) for lock in locks]


async def require_task(tx: Reading, caller: Caller, project: Project, task_id: str | None) -> None:
    if task_id is not None:
        _in_project(await task_of(tx, caller, task_id), project)


async def require_open(tx: Transaction, caller: Caller, project: Project, task_id: str | None) -> None:
    """Hold the task, so that it does not end meanwhile. Raises Conflict when it has ended."""
    if task_id is None:
        return
    task = await task_of(tx, caller, task_id, hold=True)
    _in_project(task, project)
    if task.status in ENDED:
        raise Conflict(
            f"the task has ended ({task.status}) and can hold no locks",
            next="Use another task, or reopen it with update_task.",
        )


def _in_project(task: Task, project: Project) -> None:
    if task.project != project.name:
        raise Invalid.field("task_id", "must be a task of this project")
