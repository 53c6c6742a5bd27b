"""Work tasks: what is being done, by whom, and how far it is. A task that ends releases its locks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mcp_server.domain.callers import Caller, holder_of
from mcp_server.domain.errors import Invalid, QuotaExceeded
from mcp_server.domain.locks import canonical_paths
from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.records import Moment, Value
from mcp_server.domain.results import Result
from mcp_server.domain.tasks import (
    ENDED,
    TRANSITIONS,
    Note,
    Priority,
    Task,
    TaskStatus,
    drafted,
    edited,
    moved,
    noted,
)
from mcp_server.ports.store import Reading, Transaction
from mcp_server.services.access import project_of, task_of
from mcp_server.services.calls import Call, Calls
from mcp_server.services.lock_board import beat, held_board, release_task
from mcp_server.services.pages import page_size

SHOWN_NOTES = 10


class TaskView(Result):
    """`notes` are the newest of `note_count`, oldest first; `next_statuses` may be set now."""

    id: str
    project: str
    title: str
    description: str
    status: TaskStatus
    next_statuses: tuple[TaskStatus, ...]
    priority: Priority
    author: str
    branch: str | None = None
    pr_number: int | None = None
    affected_files: tuple[str, ...] = ()
    affected_areas: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    note_count: int = 0
    deploy_id: str | None = None
    created_at: Moment
    updated_at: Moment


class TaskLine(Value):
    id: str
    title: str
    status: TaskStatus
    priority: Priority
    author: str
    branch: str | None = None
    pr_number: int | None = None
    updated_at: Moment


class TaskList(Result):
    tasks: tuple[TaskLine, ...]
    cursor: str | None = None


class Tasks:
    """`quota` is the most tasks of a team that have not ended."""

    def __init__(self, calls: Calls, *, quota: int = 5000) -> None:
        self._calls = calls
        self._quota = quota

    async def create(
        self,
        call: Call,
        project: str,
        title: str,
        description: str = "",
        priority: Priority = "medium",
        branch: str | None = None,
        affected_files: Sequence[str] = (),
        affected_areas: Sequence[str] = (),
    ) -> TaskView:
        """A new task, as a draft of the caller. Raises QuotaExceeded when the team has too many open ones."""
        files = _files(affected_files)
        task_id = call.new_id("task")
        call.about("tasks", task_id)

        async def create(tx: Transaction) -> TaskView:
            found = await project_of(tx, call.caller, project)
            await self._require_room(tx, found.team_id)
            now = await tx.now()
            task = drafted(
                {
                    "id": task_id,
                    "team_id": found.team_id,
                    "project": found.name,
                    "title": title,
                    "description": description,
                    "author": call.caller.user[:255],
                    "priority": priority,
                    "branch": branch,
                    "affected_files": files,
                    "affected_areas": tuple(affected_areas),
                    "created_at": now,
                    "updated_at": now,
                }
            )
            return _view(await tx.tasks.add(task))

        return await self._calls.write(call, create, TaskView)

    async def get(self, call: Call, task_id: str) -> TaskView:
        """The task. Where the caller holds locks for it, their leases begin anew."""
        call.about("tasks", task_id)

        async def look(tx: Reading) -> tuple[TaskView, bool]:
            task = await task_of(tx, call.caller, task_id)
            return _view(task), await _concerned(tx, call.caller, task)

        async def look_and_renew(tx: Transaction) -> TaskView:
            task = await task_of(tx, call.caller, task_id)
            board = await held_board(tx, call.caller, task.project, holder_of(call.caller, task_id))
            return _view(task, await beat(tx, board))

        view, concerned = await self._calls.read(look)
        return await self._calls.write(call, look_and_renew, TaskView) if concerned else view

    async def list(
        self,
        call: Call,
        project: str,
        status: TaskStatus | Sequence[TaskStatus] | None = None,
        author: str | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> TaskList:
        """The newest first. `status`: one, or any of several."""
        size = page_size(limit)
        statuses = (status,) if isinstance(status, str) else status or None
        call.about("projects", project)

        async def look(tx: Reading) -> TaskList:
            found = await project_of(tx, call.caller, project)
            page = await tx.tasks.of_project(
                found.name, statuses=statuses, author=author, limit=size, after=cursor
            )
            return TaskList(tasks=tuple(_line(task) for task in page.items), cursor=page.cursor)

        return await self._calls.read(look)

    async def update(
        self,
        call: Call,
        task_id: str,
        title: str | None = None,
        description: str | None = None,
        status: TaskStatus | None = None,
        priority: Priority | None = None,
        branch: str | None = None,
        pr_number: int | None = None,
        note: str | None = None,
        affected_files: Sequence[str] | None = None,
        affected_areas: Sequence[str] | None = None,
    ) -> TaskView:
        """Change what is given; an ended task's locks are released with it, others' leases begin anew.

        Raises QuotaExceeded when an ended task is reopened and the team has too many open ones.
        """
        fields = _given(
            title=title,
            description=description,
            priority=priority,
            branch=branch,
            pr_number=pr_number,
            affected_files=None if affected_files is None else _files(affected_files),
            affected_areas=None if affected_areas is None else tuple(affected_areas),
        )
        call.about("tasks", task_id)

        async def update(tx: Transaction) -> TaskView:
            project = (await task_of(tx, call.caller, task_id)).project
            board = await held_board(tx, call.caller, project, holder_of(call.caller, task_id))
            task = await task_of(tx, call.caller, task_id, hold=True)
            changed = edited(task, fields, board.now)
            if status is not None:
                changed = moved(changed, status, board.now)
                if task.status in ENDED and changed.status not in ENDED:
                    await self._require_room(tx, task.team_id)
            if note is not None:
                changed = noted(changed, note, call.caller.user, board.now)
            if changed is not task:
                changed = await tx.tasks.save(changed)
            if changed.status not in ENDED:
                return _view(changed, await beat(tx, board))
            released = await release_task(tx, board, changed)
            locks = "1 lock" if released == 1 else f"{released} locks"
            told = (f"released {locks} of this task",) if released else ()
            return _view(changed, (*board.notices, *told))

        return await self._calls.write(call, update, TaskView)

    async def _require_room(self, tx: Transaction, team_id: str) -> None:
        if await tx.tasks.count_open(team_id) >= self._quota:
            raise QuotaExceeded(
                f"the team has {self._quota} open tasks, the most it may have",
                next="End some with update_task: done or cancelled.",
            )


async def _concerned(tx: Reading, caller: Caller, task: Task) -> bool:
    """Whether the caller has locks of this task, or lost some that it was not told of."""
    holder = holder_of(caller, task.id)
    if any(lock.holder == holder for lock in await tx.locks.of_task(task.id)):
        return True
    scope = await tx.lock_scopes.get(task.project)
    return scope is not None and any(lost.holder == holder for lost in scope.lost)


def _files(paths: Sequence[str]) -> tuple[str, ...]:
    if not paths:
        return ()
    try:
        return canonical_paths(paths)
    except Invalid as error:
        fields: dict[str, str] = error.details["fields"]
        where, rule = next(iter(fields.items()))
        raise Invalid.field(where.replace("paths", "affected_files", 1), rule) from error


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _view(task: Task, notices: tuple[str, ...] = ()) -> TaskView:
    return TaskView(
        id=task.id,
        project=task.project,
        title=task.title,
        description=task.description,
        status=task.status,
        next_statuses=tuple(sorted(TRANSITIONS[task.status])),
        priority=task.priority,
        author=task.author,
        branch=task.branch,
        pr_number=task.pr_number,
        affected_files=task.affected_files,
        affected_areas=task.affected_areas,
        notes=task.progress_notes[-SHOWN_NOTES:],
        note_count=len(task.progress_notes),
        deploy_id=task.deploy_id,
        created_at=task.created_at,
        updated_at=task.updated_at,
        notices=notices,
    )


def _line(task: Task) -> TaskLine:
    return TaskLine(
        id=task.id,
        title=task.title,
        status=task.status,
        priority=task.priority,
        author=task.author,
        branch=task.branch,
        pr_number=task.pr_number,
        updated_at=task.updated_at,
    )
