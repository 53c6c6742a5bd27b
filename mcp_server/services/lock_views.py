"""What calls about locks return."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mcp_server.domain.errors import Locked
from mcp_server.domain.locks import Clash, Lock, LockMode, Terms
from mcp_server.domain.records import Moment, Value
from mcp_server.domain.results import PlanResult, Result
from mcp_server.domain.wording import counted
from mcp_server.ports.store import Reading

SHOWN_CONFLICTS = 50


class LockView(Value):
    path: str
    mode: LockMode
    expires_at: Moment
    fence: int


class LocksResult(Result):
    """`fence` is the highest of the locks; `expires_at` is when the first of the leases ends."""

    holder: str
    locks: tuple[LockView, ...]
    fence: int | None = None
    expires_at: Moment | None = None


class ReleaseResult(Result):
    """`not_held` are the paths asked for that this holder did not hold."""

    holder: str
    released: tuple[str, ...]
    not_held: tuple[str, ...] = ()


class ConflictView(Value):
    """`path` is what was asked for, `held` the path of the lock that stands against it."""

    path: str
    held: str
    holder: str
    mode: LockMode
    expires_at: Moment
    task_id: str | None = None
    task_title: str | None = None
    change_description: str | None = None


class CheckResult(Result):
    """`free`: nobody else holds anything that overlaps. `conflicts` are the first of `conflict_count`."""

    free: bool
    conflicts: tuple[ConflictView, ...] = ()
    conflict_count: int = 0


class HeldLockView(LockView):
    holder: str
    task_id: str | None = None
    agent: str | None = None
    change_description: str | None = None
    locked_at: Moment


class LockList(Result):
    locks: tuple[HeldLockView, ...]
    cursor: str | None = None


class TakeOverResult(PlanResult):
    """`expires_at` is the plan's; each of the `locks` has its own."""

    holder: str | None = None
    locks: tuple[LockView, ...] = ()
    fence: int | None = None


def locks_result(holder: str, locks: Sequence[Lock], notices: tuple[str, ...]) -> LocksResult:
    return LocksResult(
        holder=holder,
        locks=tuple(lock_view(lock) for lock in locks),
        fence=max((lock.fence for lock in locks), default=None),
        expires_at=min((lock.expires_at for lock in locks), default=None),
        notices=notices,
    )


def lock_view(lock: Lock) -> LockView:
    return LockView(path=lock.path, mode=lock.mode, expires_at=lock.expires_at, fence=lock.fence)


def held_lock_view(lock: Lock) -> HeldLockView:
    return HeldLockView(
        path=lock.path,
        mode=lock.mode,
        expires_at=lock.expires_at,
        fence=lock.fence,
        holder=lock.holder,
        task_id=lock.task_id,
        agent=lock.agent,
        change_description=lock.change_description,
        locked_at=lock.locked_at,
    )


async def conflict_views(tx: Reading, clashes: Sequence[Clash]) -> tuple[ConflictView, ...]:
    shown = clashes[:SHOWN_CONFLICTS]
    titles = await _titles(tx, (clash.lock for clash in shown))
    return tuple(
        ConflictView(
            path=clash.path,
            held=clash.lock.path,
            holder=clash.lock.holder,
            mode=clash.lock.mode,
            expires_at=clash.lock.expires_at,
            task_id=clash.lock.task_id,
            task_title=titles.get(clash.lock.task_id or ""),
            change_description=clash.lock.change_description,
        )
        for clash in shown
    )


async def _titles(tx: Reading, locks: Iterable[Lock]) -> dict[str, str]:
    wanted = sorted({lock.task_id for lock in locks if lock.task_id is not None})
    tasks = [await tx.tasks.get(task_id) for task_id in wanted]
    return {task.id: task.title for task in tasks if task is not None}


async def locked(tx: Reading, clashes: Sequence[Clash]) -> Locked:
    views = await conflict_views(tx, clashes)
    first = views[0]
    until = first.expires_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    more = f", and {len(clashes) - 1} more" if len(clashes) > 1 else ""
    return Locked(
        f"not locked: '{first.path}' meets {first.holder} {first.mode} '{first.held}' until {until}{more}",
        conflicts=[view.model_dump(mode="json", exclude_none=True) for view in views],
        conflict_count=len(clashes),
    )


async def take_over_effects(tx: Reading, taken: Sequence[Lock], terms: Terms) -> tuple[str, ...]:
    titles = await _titles(tx, taken)
    lines = [
        f"{lock.holder} loses '{lock.path}' ({lock.mode})"
        + (f", held for the task '{titles[lock.task_id]}'" if lock.task_id in titles else "")
        for lock in taken[:SHOWN_CONFLICTS]
    ]
    more = (
        [f"and {counted(len(taken) - SHOWN_CONFLICTS, 'more lock')}"] if len(taken) > SHOWN_CONFLICTS else []
    )
    return (
        *lines,
        *more,
        f"{terms.holder} gets {counted(len(terms.paths), 'path')} for editing; the previous holders are told why",
    )
