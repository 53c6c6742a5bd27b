"""Work tasks and the table of what may follow what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from mcp_server.domain.errors import Conflict, Invalid, QuotaExceeded
from mcp_server.domain.records import Moment, Record, Value
from mcp_server.domain.validation import changed, checked

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
MAX_NOTES = 500
MAX_AREAS = 100


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


def noted(task: Task, text: str, author: str, now: Moment) -> Task:
    """The task with one more progress note, the newest last. Raises QuotaExceeded when it has `MAX_NOTES`."""
    if len(task.progress_notes) >= MAX_NOTES:
        raise QuotaExceeded(f"a task keeps {MAX_NOTES} notes", next="Go on in a new task.")
    note = checked(Note, {"date": now, "note": text, "author": author[:255]})
    return task.change(progress_notes=(*task.progress_notes, note), updated_at=now)


def drafted(fields: Mapping[str, Any]) -> Task:
    """A task of these fields. Raises Invalid naming the fields that break a rule, and the rule."""
    _check_areas(fields)
    return checked(Task, fields)


def edited(task: Task, fields: Mapping[str, Any], now: Moment) -> Task:
    """The task with these fields replaced; no fields is no change. Raises Invalid like `drafted`."""
    _check_areas(fields)
    return changed(task, {**fields, "updated_at": now}) if fields else task


def _check_areas(fields: Mapping[str, Any]) -> None:
    areas = fields.get("affected_areas", ())
    if len(areas) > MAX_AREAS or any(not 1 <= len(area) <= 200 for area in areas):
        raise Invalid.field("affected_areas", f"at most {MAX_AREAS}, each of 1-200 characters")
