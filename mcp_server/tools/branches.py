"""Copies of databases for a task, and the way from SQLite to PostgreSQL."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mcp_server.domain.results import PlanResult
from mcp_server.domain.teams import EnvironmentName
from mcp_server.services.branches import MOST_HOURS, Branches, BranchList, BranchView
from mcp_server.services.calls import Call
from mcp_server.services.promotions.service import Promoted, Promotions
from mcp_server.tools.arguments import ProjectName
from mcp_server.tools.catalogue import Catalogue

BranchName = Annotated[str, Field(min_length=1, max_length=32)]
Hours = Annotated[float, Field(gt=0, le=MOST_HOURS)]
Wait = Annotated[float, Field(ge=0, le=600)]


def add_branch_tools(catalogue: Catalogue, branches: Branches, promotions: Promotions) -> None:
    @catalogue.changing("databases")
    async def branch_database(
        call: Call,
        project: ProjectName,
        name: BranchName,
        environment: EnvironmentName | None = None,
        ttl_hours: Hours = 24,
        reveal: bool = False,
        wait_seconds: Wait = 45,
    ) -> BranchView:
        """Copy a database for a task, with a role of its own. The copy is dropped after ttl_hours."""
        return await branches.create(
            call,
            project=project,
            name=name,
            environment=environment,
            ttl_hours=ttl_hours,
            reveal=reveal,
            wait_seconds=wait_seconds,
        )

    @catalogue.reading("databases")
    async def list_branches(call: Call, project: ProjectName) -> BranchList:
        """List the branches of a project's databases."""
        return await branches.list(call, project=project)

    @catalogue.planned("databases")
    async def drop_branch(
        call: Call, project: ProjectName, name: BranchName, environment: EnvironmentName | None = None
    ) -> PlanResult:
        """Drop a branch of a database. First returns a plan."""
        return await branches.drop(call, project=project, name=name, environment=environment)

    @catalogue.planned("databases")
    async def promote_database_to_postgres(
        call: Call,
        project: ProjectName,
        environment: EnvironmentName | None = None,
        back: bool = False,
        wait_seconds: Wait = 45,
    ) -> Promoted:
        """Move a SQLite database to PostgreSQL, comparing every row. back undoes it until the first write. First returns a plan."""
        return await promotions.promote(
            call, project=project, environment=environment, back=back, wait_seconds=wait_seconds
        )
