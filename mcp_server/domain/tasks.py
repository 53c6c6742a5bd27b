"""Work tasks and the table of what may follow what."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mcp_server.domain.errors import Conflict
from mcp_server.domain.records import Moment, Record, Value

TaskStatus = Literal["draft", "in-progress", "review", "done", "deployed", "cancelled"]
Priority = Literal["low", "medium", "high", "critical"]

TRANSITIONS: dict[TaskStatus, frozenset[TaskStatus]] = {
    "draft": frozenset({"in-progress", "cancelled"}),
    "in-progress": frozenset({"draft", "review", "done", "cancelled"}),
    "review": frozenset({"in-progress", "done", "cancelled"}),
    "done": frozenset({"in-progress", "deployed", "cancelled"}),
    "deployed": frozenset(),
    "cancelled": frozenset({"draft"}),
}
ENDED: frozenset[TaskStatus] = frozenset({"done", "deployed", "cancelled"})
"""A task in one of these holds no locks."""


class Note(Value):
    date: Moment
    note: str = Field(min_length=1, max_length=10_000)
    author: str = Field(max_length=255)


class Task(Record):
    noun: ClassVar[str] = "tasks"
    id: str = Field(min_length=1, max_length=40)
    team_id: str
    project: str
    title: str = Field(min_length=1, max_length=500)
    description: str = Field(default="", max_length=20_000)
    author: str = Field(max_length=255)
    branch: str | None = Field(default=None, max_length=255)
    pr_number: int | None = Field(default=None, ge=1, le=2_147_483_647)
    status: TaskStatus = "draft"
    priority: Priority = "medium"
    affected_files: tuple[str, ...] = ()
    affected_areas: tuple[str, ...] = ()
    progress_notes: tuple[Note, ...] = ()
    deploy_id: str | None = Field(default=None, max_length=32)
    created_at: Moment
    updated_at: Moment

    @property
    def key(self) -> str:
        return self.id


def moved(task: Task, status: TaskStatus, now: Moment) -> Task:
    """The task in its new status; the same status is no change. Raises Conflict naming what is allowed."""
    if status == task.status:
        return task
    allowed = TRANSITIONS[task.status]
    if status not in allowed:
        raise Conflict(
            f"a task in '{task.status}' cannot become '{status}'",
            next=f"Allowed from here: {', '.join(sorted(allowed)) or 'nothing'}.",
            allowed=sorted(allowed),
        )
    return task.change(status=status, updated_at=now)
