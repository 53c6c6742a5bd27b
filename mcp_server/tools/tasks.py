"""Work tasks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.tasks import Priority, TaskStatus
from mcp_server.services.calls import Call
from mcp_server.services.tasks import TaskList, Tasks, TaskView
from mcp_server.tools.arguments import Cursor, Limit, Path, ProjectName, TaskId
from mcp_server.tools.catalogue import Catalogue

Title = Annotated[str, Field(min_length=1, max_length=500)]
Description = Annotated[str, Field(max_length=20_000)]
Branch = Annotated[str, Field(max_length=255)]
PullRequest = Annotated[int, Field(ge=1, le=2_147_483_647)]
Note = Annotated[str, Field(min_length=1, max_length=10_000, description="Progress, added to the notes")]
Author = Annotated[str, Field(min_length=1, max_length=255)]
Files = Annotated[list[Path], Field(max_length=200)]
Area = Annotated[str, Field(min_length=1, max_length=200)]
Areas = Annotated[list[Area], Field(max_length=200)]
Statuses = Annotated[list[TaskStatus], Field(min_length=1, max_length=6)]


def add_task_tools(catalogue: Catalogue, tasks: Tasks) -> None:
    @catalogue.changing("work", default=True)
    async def create_task(
        call: Call,
        project: ProjectName,
        title: Title,
        description: Description = "",
        priority: Priority = "medium",
        branch: Branch | None = None,
        affected_files: Files = [],  # noqa: B006 - never changed, and a list in the schema
        affected_areas: Areas = [],  # noqa: B006
    ) -> TaskView:
        """Record a piece of work before you begin it. It starts as a draft."""
        return await tasks.create(
            call, project, title, description, priority, branch, affected_files, affected_areas
        )

    @catalogue.reading("work")
    async def get_task(call: Call, task_id: TaskId) -> TaskView:
        """Get a task with its newest notes and the statuses that may follow."""
        return await tasks.get(call, task_id)

    @catalogue.reading("work", default=True)
    async def list_tasks(
        call: Call,
        project: ProjectName,
        status: Statuses | None = None,
        author: Author | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor | None = None,
    ) -> TaskList:
        """List a project's tasks, newest first."""
        return await tasks.list(call, project, status, author, limit, cursor)

    @catalogue.changing("work", default=True)
    async def update_task(
        call: Call,
        task_id: TaskId,
        status: TaskStatus | None = None,
        note: Note | None = None,
        title: Title | None = None,
        description: Description | None = None,
        priority: Priority | None = None,
        branch: Branch | None = None,
        pr_number: PullRequest | None = None,
        affected_files: Files | None = None,
        affected_areas: Areas | None = None,
    ) -> TaskView:
        """Change the given fields. done and cancelled release the task's locks; any other update renews them."""
        return await tasks.update(
            call,
            task_id,
            title,
            description,
            status,
            priority,
            branch,
            pr_number,
            note,
            affected_files,
            affected_areas,
        )
