"""File locks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mcp_server.domain.locks import LockMode
from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.services.calls import Call
from mcp_server.services.lock_views import (
    CheckResult,
    LockList,
    LocksResult,
    ReleaseResult,
    TakeOverResult,
)
from mcp_server.services.locks import MAX_WAIT, Locks
from mcp_server.tools.arguments import Agent, Cursor, Lease, Limit, Paths, ProjectName, TaskId
from mcp_server.tools.catalogue import Catalogue

LockPaths = Annotated[Paths, Field(description="Files, directories 'src/', globs 'src/**/*.ts'")]
Wait = Annotated[float, Field(ge=0, le=MAX_WAIT, description="Seconds to wait for others to release")]
Description = Annotated[str, Field(max_length=2000)]
Reason = Annotated[str, Field(min_length=1, max_length=500)]


def add_lock_tools(catalogue: Catalogue, locks: Locks) -> None:
    @catalogue.changing("work", default=True, idempotent=True)
    async def lock_files(
        call: Call,
        project: ProjectName,
        paths: LockPaths,
        task_id: TaskId | None = None,
        agent: Agent | None = None,
        mode: LockMode = "editing",
        lease_seconds: Lease = 900,
        wait_seconds: Wait = 0,
        change_description: Description | None = None,
    ) -> LocksResult:
        """Lock paths before you edit them, all or none. editing is exclusive; reviewing is shared with reviewers."""
        return await locks.lock(
            call, project, paths, task_id, agent, mode, lease_seconds, wait_seconds, change_description
        )

    @catalogue.changing("work", default=True, idempotent=True)
    async def release_files(
        call: Call,
        project: ProjectName,
        paths: Paths | None = None,
        task_id: TaskId | None = None,
        agent: Agent | None = None,
    ) -> ReleaseResult:
        """Release your locks on these paths; without paths, all locks of this task or agent."""
        return await locks.release(call, project, paths, task_id, agent)

    @catalogue.changing("work", idempotent=True)
    async def renew_locks(
        call: Call,
        project: ProjectName,
        task_id: TaskId | None = None,
        agent: Agent | None = None,
        lease_seconds: Lease | None = None,
    ) -> LocksResult:
        """Renew the leases of your locks. Says which locks you lost."""
        return await locks.renew(call, project, task_id, agent, lease_seconds)

    @catalogue.reading("work", default=True)
    async def check_files(
        call: Call,
        project: ProjectName,
        paths: Paths,
        task_id: TaskId | None = None,
        agent: Agent | None = None,
    ) -> CheckResult:
        """Check whether you could edit these paths now, and which locks prevent it. Reserves nothing."""
        return await locks.check(call, project, paths, task_id, agent)

    @catalogue.reading("work")
    async def list_locks(
        call: Call, project: ProjectName, limit: Limit = DEFAULT_LIMIT, cursor: Cursor | None = None
    ) -> LockList:
        """List the locks held in a project, by path."""
        return await locks.list(call, project, limit, cursor)

    @catalogue.planned("work")
    async def take_over_locks(
        call: Call,
        project: ProjectName,
        paths: Paths,
        reason: Reason,
        task_id: TaskId | None = None,
        agent: Agent | None = None,
    ) -> TakeOverResult:
        """Take locks from their holders, who are told the reason. First returns a plan."""
        return await locks.take_over(call, project, paths, reason, task_id, agent)
