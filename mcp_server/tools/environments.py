"""Environment variables of projects."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mcp_server.domain.environments import LONGEST, MOST
from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.services.calls import Call
from mcp_server.services.environments import (
    ChangedView,
    DiffView,
    Environments,
    EnvironmentView,
    HistoryView,
)
from mcp_server.tools.arguments import Cursor, Environment, Limit, ProjectName
from mcp_server.tools.catalogue import Catalogue

Name = Annotated[str, Field(min_length=1, max_length=128)]
Variables = Annotated[dict[Name, Annotated[str, Field(max_length=LONGEST)]], Field(max_length=MOST)]
Names = Annotated[list[Name], Field(min_length=1, max_length=MOST)]
Dotenv = Annotated[str, Field(max_length=1024 * 1024, description="Text of a dotenv file to import")]
Version = Annotated[int, Field(ge=1, le=2_147_483_647)]
VersionOrNone = Annotated[int, Field(ge=0, le=2_147_483_647, description="0: before the first")]


def add_environment_tools(catalogue: Catalogue, environments: Environments) -> None:
    @catalogue.changing("environment", default=True, idempotent=True)
    async def set_environment(
        call: Call,
        project: ProjectName,
        environment: Environment | None = None,
        variables: Variables = {},  # noqa: B006 - never changed, and an object in the schema
        dotenv_content: Dotenv | None = None,
    ) -> ChangedView:
        """Set environment variables; others keep their values. The application gets them at its next deploy."""
        return await environments.set(call, project, environment, variables, dotenv_content)

    @catalogue.changing("environment", idempotent=True)
    async def unset_environment(
        call: Call, project: ProjectName, names: Names, environment: Environment | None = None
    ) -> ChangedView:
        """Remove environment variables."""
        return await environments.unset(call, project, names, environment)

    @catalogue.reading("environment", default=True)
    async def get_environment(
        call: Call,
        project: ProjectName,
        environment: Environment | None = None,
        version: Version | None = None,
        reveal: bool = False,
    ) -> EnvironmentView:
        """Names and fingerprints of environment variables. reveal shows the values and is recorded."""
        return await environments.get(call, project, environment, version, reveal)

    @catalogue.reading("environment")
    async def environment_history(
        call: Call,
        project: ProjectName,
        environment: Environment | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor | None = None,
    ) -> HistoryView:
        """List the versions of the variables with what each changed, newest first."""
        return await environments.history(call, project, environment, limit, cursor)

    @catalogue.reading("environment")
    async def diff_environment(
        call: Call,
        project: ProjectName,
        from_version: VersionOrNone,
        to_version: VersionOrNone | None = None,
        environment: Environment | None = None,
    ) -> DiffView:
        """Names that differ between two versions of the variables. to_version defaults to the current one."""
        return await environments.diff(call, project, from_version, to_version, environment)

    @catalogue.changing("environment", idempotent=True)
    async def restore_environment(
        call: Call, project: ProjectName, version: Version, environment: Environment | None = None
    ) -> ChangedView:
        """Restore an earlier version of the variables, as a new version."""
        return await environments.restore(call, project, version, environment)
