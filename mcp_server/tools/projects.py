"""Projects."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.projects import ProjectType
from mcp_server.domain.results import PlanResult
from mcp_server.services.calls import Call
from mcp_server.services.projects import ProjectList, Projects, ProjectView
from mcp_server.tools.arguments import Cursor, Limit, ProjectName
from mcp_server.tools.catalogue import Catalogue

Description = Annotated[str, Field(max_length=2000)]
HostPath = Annotated[str, Field(max_length=1000, description="Directory on the server's host")]
Database = Literal["none", "auto", "postgres", "sqlite"]


def add_project_tools(catalogue: Catalogue, projects: Projects) -> None:
    @catalogue.changing("projects", default=True)
    async def create_project(
        call: Call,
        name: ProjectName,
        type: ProjectType = "nextjs",
        description: Description = "",
        path: HostPath | None = None,
        database: Database = "none",
    ) -> ProjectView:
        """Create a project. Its name is normalised to lower case with hyphens."""
        return await projects.create(
            call, name=name, type=type, description=description, path=path, database=database
        )

    @catalogue.reading("projects", default=True)
    async def get_project(call: Call, name: ProjectName) -> ProjectView:
        """Get one project."""
        return await projects.get(call, name=name)

    @catalogue.reading("projects", default=True)
    async def list_projects(
        call: Call, limit: Limit = DEFAULT_LIMIT, cursor: Cursor | None = None
    ) -> ProjectList:
        """List the team's projects, by name."""
        return await projects.list(call, limit=limit, cursor=cursor)

    @catalogue.changing("projects", idempotent=True)
    async def update_project(
        call: Call,
        name: ProjectName,
        description: Description | None = None,
        type: ProjectType | None = None,
        path: HostPath | None = None,
    ) -> ProjectView:
        """Change the given fields of a project. An empty path removes the path."""
        return await projects.update(call, name=name, description=description, type=type, path=path)

    @catalogue.planned("projects")
    async def delete_project(call: Call, name: ProjectName) -> PlanResult:
        """Delete a project with its tasks, locks and records; its files stay. First returns a plan."""
        return await projects.delete(call, name=name)
