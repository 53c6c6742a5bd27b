"""Backups of project databases."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.results import PlanResult
from mcp_server.domain.teams import EnvironmentName
from mcp_server.services.backups.service import Backups
from mcp_server.services.backups.views import BackupList, BackupView
from mcp_server.services.calls import Call
from mcp_server.tools.arguments import Cursor, Limit, ProjectName
from mcp_server.tools.catalogue import Catalogue

BackupId = Annotated[str, Field(min_length=1, max_length=64)]
Wait = Annotated[float, Field(ge=0, le=600)]


def add_backup_tools(catalogue: Catalogue, backups: Backups) -> None:
    @catalogue.changing("databases")
    async def backup_database(
        call: Call,
        project: ProjectName,
        environment: EnvironmentName | None = None,
        wait_seconds: Wait = 45,
    ) -> BackupView:
        """Make an encrypted backup and verify it by restoring it into a scratch database."""
        return await backups.create(call, project=project, environment=environment, wait_seconds=wait_seconds)

    @catalogue.reading("databases")
    async def list_backups(
        call: Call,
        project: ProjectName | None = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor | None = None,
    ) -> BackupList:
        """List backups, newest first, including those of deleted databases."""
        return await backups.list(call, project=project, limit=limit, cursor=cursor)

    @catalogue.planned("databases")
    async def restore_database(
        call: Call,
        backup_id: BackupId,
        project: ProjectName | None = None,
        environment: EnvironmentName | None = None,
        wait_seconds: Wait = 45,
    ) -> PlanResult:
        """Restore a backup, into its own database unless another is named. What is there is backed up. First returns a plan."""
        return await backups.restore(
            call,
            backup_id=backup_id,
            project=project,
            environment=environment,
            wait_seconds=wait_seconds,
        )
