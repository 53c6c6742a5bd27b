"""File locks: taken all together or not at all, kept by a lease, fenced, decided under the held scope."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio

from mcp_server.domain.callers import Caller, holder_of
from mcp_server.domain.errors import Conflict, Invalid, Locked
from mcp_server.domain.locks import (
    MAX_HELD,
    MAX_LEASE,
    MIN_LEASE,
    LockMode,
    LockScope,
    Swept,
    Terms,
    canonical_paths,
    clashes_of,
    expiry_notices,
    lost_notices,
    sweep,
)
from mcp_server.domain.pages import DEFAULT_LIMIT, decode_cursor, page_of
from mcp_server.domain.projects import Project
from mcp_server.domain.records import Moment
from mcp_server.domain.wording import counted
from mcp_server.ports.store import Reading, Transaction
from mcp_server.services import plans
from mcp_server.services.access import project_of
from mcp_server.services.calls import Call, Calls
from mcp_server.services.lock_board import (
    clear,
    grant,
    heartbeat,
    held_board,
    renewed,
    require_open,
    require_task,
    seen_near,
    take_from_others,
)
from mcp_server.services.lock_views import (
    CheckResult,
    LockList,
    LocksResult,
    ReleaseResult,
    TakeOverResult,
    conflict_views,
    held_lock_view,
    lock_view,
    locks_result,
    take_over_effects,
)
from mcp_server.services.pages import page_size

MAX_WAIT = 45
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0


class Locks:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def lock(
        self,
        call: Call,
        project: str,
        paths: Sequence[str],
        task_id: str | None = None,
        agent: str | None = None,
        mode: LockMode = "editing",
        lease_seconds: int = 900,
        wait_seconds: float = 0,
        change_description: str | None = None,
    ) -> LocksResult:
        """Lock all the paths, or none. The same holder asking again renews, or changes the mode.

        While somebody else holds them it tries again for `wait_seconds`, no transaction open. Raises Locked.
        """
        if not 0 <= wait_seconds <= MAX_WAIT:
            raise Invalid.field("wait_seconds", f"0-{MAX_WAIT} seconds")
        terms = Terms(
            paths=canonical_paths(paths),
            holder=_holder(call.caller, task_id, agent),
            mode=mode,
            lease_seconds=_lease(lease_seconds),
            key_id=call.caller.key_id,
            task_id=task_id,
            agent=agent,
            change_description=change_description,
        )
        call.about("locks", project)

        async def lock(tx: Transaction) -> LocksResult:
            board = await held_board(
                tx, call.caller, project, terms.holder, near=terms.paths, whole=task_id is not None
            )
            await require_open(tx, call.caller, board.project, task_id)
            locks = await grant(tx, board, terms)
            others = [each for each in board.own if each.path not in terms.paths]
            if task_id is not None:
                others = await renewed(tx, board, others)
            notices = (*board.notices, *expiry_notices([*locks, *others], board.now))
            return locks_result(terms.holder, locks, notices)

        return await _patiently(wait_seconds, lambda: self._calls.write(call, lock, LocksResult))

    async def release(
        self,
        call: Call,
        project: str,
        paths: Sequence[str] | None = None,
        task_id: str | None = None,
        agent: str | None = None,
    ) -> ReleaseResult:
        """Give up these paths as they were locked, or without `paths` all of this holder's.

        What is not held is no error.
        """
        wanted = None if paths is None else canonical_paths(paths, most=MAX_HELD)
        holder = _holder(call.caller, task_id, agent)
        call.about("locks", project)

        async def release(tx: Transaction) -> ReleaseResult:
            board = await held_board(tx, call.caller, project, holder, near=())
            await require_task(tx, call.caller, board.project, task_id)
            await clear(tx, board)
            asked = None if wanted is None else {path.rstrip("/") for path in wanted}
            released = [lock for lock in board.own if asked is None or lock.path.rstrip("/") in asked]
            for lock in released:
                await tx.locks.remove(lock)
            rest = [lock for lock in board.own if lock not in released]
            if task_id is not None:
                rest = await renewed(tx, board, rest)
            found = {lock.path.rstrip("/") for lock in released}
            return ReleaseResult(
                holder=holder,
                released=tuple(lock.path for lock in released),
                not_held=tuple(path for path in wanted or () if path.rstrip("/") not in found),
                notices=(*board.notices, *expiry_notices(rest, board.now)),
            )

        return await self._calls.write(call, release, ReleaseResult)

    async def renew(
        self,
        call: Call,
        project: str,
        task_id: str | None = None,
        agent: str | None = None,
        lease_seconds: int | None = None,
    ) -> LocksResult:
        """Begin the leases of this holder anew; fences stay. A lease that has ended is lost, and said so."""
        seconds = None if lease_seconds is None else _lease(lease_seconds)
        holder = _holder(call.caller, task_id, agent)
        call.about("locks", project)

        async def renew(tx: Transaction) -> LocksResult:
            board = await held_board(tx, call.caller, project, holder, near=())
            await require_task(tx, call.caller, board.project, task_id)
            await clear(tx, board)
            locks = await renewed(tx, board, board.own, seconds)
            none = () if locks else ("nothing to renew: this holder has no locks here",)
            return locks_result(holder, locks, (*board.notices, *none, *expiry_notices(locks, board.now)))

        return await self._calls.write(call, renew, LocksResult)

    async def check(
        self,
        call: Call,
        project: str,
        paths: Sequence[str],
        task_id: str | None = None,
        agent: str | None = None,
    ) -> CheckResult:
        """Whether this holder could edit the paths now. Promises nothing: only `lock` does."""
        return await self.check_canonical(call, project, canonical_paths(paths), task_id, agent)

    async def check_canonical(
        self, call: Call, project: str, paths: Sequence[str], task_id: str | None, agent: str | None
    ) -> CheckResult:
        """`check` of canonical paths, however many."""
        holder = _holder(call.caller, task_id, agent)
        call.about("locks", project)

        async def look(tx: Reading) -> tuple[CheckResult, bool]:
            found = await project_of(tx, call.caller, project)
            await require_task(tx, call.caller, found, task_id)
            swept, now = await _seen(tx, found, holder, near=paths)
            own = [lock for lock in swept.live if lock.holder == holder]
            clashes = clashes_of(swept.live, paths, "editing", holder, now)
            result = CheckResult(
                free=not clashes,
                conflicts=await conflict_views(tx, clashes),
                conflict_count=len(clashes),
                notices=(*lost_notices(swept.told), *expiry_notices(own, now)),
            )
            return result, bool(own or swept.told)

        async def look_and_renew(tx: Transaction) -> CheckResult:
            notices = await heartbeat(tx, call.caller, project, task_id)
            result, _ = await look(tx)
            return result.change(notices=notices)

        result, concerned = await self._calls.read(look)
        if task_id is None or not concerned:
            return result
        return await self._calls.write(call, look_and_renew, CheckResult)

    async def list(
        self, call: Call, project: str, limit: int = DEFAULT_LIMIT, cursor: str | None = None
    ) -> LockList:
        """The locks whose lease runs, by path and then id."""
        size = page_size(limit)
        after = decode_cursor(cursor, 2)
        call.about("locks", project)

        async def look(tx: Reading) -> LockList:
            found = await project_of(tx, call.caller, project)
            swept, _ = await _seen(tx, found, None)
            rest = [lock for lock in swept.live if after is None or (lock.path, lock.id) > after]
            rest.sort(key=lambda lock: (lock.path, lock.id))
            last = rest[size - 1] if len(rest) > size else None
            page = page_of(rest[: size + 1], size, None if last is None else (last.path, last.id))
            return LockList(locks=tuple(held_lock_view(lock) for lock in page.items), cursor=page.cursor)

        return await self._calls.read(look)

    async def take_over(
        self,
        call: Call,
        project: str,
        paths: Sequence[str],
        reason: str,
        task_id: str | None = None,
        agent: str | None = None,
    ) -> TakeOverResult:
        """Take every lock that overlaps the paths from its holder, and lock the paths. By plan.

        The previous holders hear of it, with the reason, at their next call.
        """
        if not 1 <= len(reason.strip()) <= 500:
            raise Invalid.field("reason", "1-500 characters")
        terms = Terms(
            paths=canonical_paths(paths),
            holder=_holder(call.caller, task_id, agent),
            mode="editing",
            lease_seconds=900,
            key_id=call.caller.key_id,
            task_id=task_id,
            agent=agent,
            change_description=reason.strip(),
        )
        token = plans.draw_token()
        call.about("locks", project)

        async def take(tx: Transaction) -> TakeOverResult:
            board = await held_board(tx, call.caller, project, terms.holder, near=terms.paths)
            await require_open(tx, call.caller, board.project, task_id)
            clashes = clashes_of(board.swept.live, terms.paths, "editing", terms.holder, board.now)
            taken = list({clash.lock.id: clash.lock for clash in clashes}.values())
            if not taken and call.plan_token is None:
                raise Conflict("nobody else holds these paths", next="lock_files takes them.")
            effects = await take_over_effects(tx, taken, terms)
            planned = await plans.gate(
                tx,
                call,
                token,
                target={
                    "project": board.project.uid,
                    "paths": list(terms.paths),
                    "holder": terms.holder,
                    "reason": reason,
                },
                # A renewal does not make the plan stale, another grant does: what counts is the fence.
                holds=[lock.change(rev=lock.fence) for lock in taken],
                effects=effects,
            )
            if planned is not None:
                return TakeOverResult.model_validate(planned.model_dump())
            locks = await take_from_others(tx, board, taken, terms)
            return TakeOverResult(
                status="done",
                message=f"Taken over: {counted(len(taken), 'lock')}.",
                effects=effects,
                holder=terms.holder,
                locks=tuple(lock_view(lock) for lock in locks),
                fence=locks[0].fence,
                notices=board.notices,
            )

        return await self._calls.write(call, take, TakeOverResult)


# -- without holding anything ----------------------------------------------------------------------------


async def _seen(
    tx: Reading, project: Project, holder: str | None, near: Sequence[str] | None = None
) -> tuple[Swept, Moment]:
    scope = await tx.lock_scopes.get(project.name) or LockScope(project=project.name)
    now = await tx.now()
    seen = await seen_near(tx, project, near, holder or "", now, whole=True)
    return sweep(scope, seen.locks, holder, now), now


async def _patiently(seconds: float, attempt: Callable[[], Awaitable[LocksResult]]) -> LocksResult:
    deadline = anyio.current_time() + seconds
    pause = FIRST_PAUSE
    while True:
        try:
            return await attempt()
        except Locked:
            left = deadline - anyio.current_time()
            if left <= 0:
                raise
        await anyio.sleep(min(left, pause))
        pause = min(pause * 2, LONGEST_PAUSE)


# -- arguments and answers -------------------------------------------------------------------------------


def _holder(caller: Caller, task_id: str | None, agent: str | None) -> str:
    if agent is not None and not 1 <= len(agent) <= 200:
        raise Invalid.field("agent", "1-200 characters")
    if task_id is not None and not 1 <= len(task_id) <= 40:
        raise Invalid.field("task_id", "1-40 characters")
    return holder_of(caller, task_id, agent)


def _lease(seconds: int) -> int:
    if not MIN_LEASE <= seconds <= MAX_LEASE:
        raise Invalid.field("lease_seconds", f"{MIN_LEASE}-{MAX_LEASE} seconds")
    return seconds
