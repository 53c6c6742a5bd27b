"""The audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.services.audit import AuditLog, AuditPage
from mcp_server.services.calls import Call
from mcp_server.tools.arguments import Cursor, Limit
from mcp_server.tools.catalogue import Catalogue

Action = Annotated[str, Field(min_length=1, max_length=100, description="Name of a tool")]
Resource = Annotated[str, Field(min_length=1, max_length=100, description="projects, tasks, locks, ...")]
ResourceId = Annotated[str, Field(min_length=1, max_length=255)]
KeyId = Annotated[str, Field(min_length=1, max_length=32)]


def add_audit_tools(catalogue: Catalogue, audit: AuditLog) -> None:
    @catalogue.reading("audit")
    async def query_audit(
        call: Call,
        action: Action | None = None,
        resource: Resource | None = None,
        resource_id: ResourceId | None = None,
        key_id: KeyId | None = None,
        success: bool | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        with_params: bool = False,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor | None = None,
    ) -> AuditPage:
        """List calls: who made them and how they ended, newest first."""
        return await audit.query(
            call,
            action=action,
            resource=resource,
            resource_id=resource_id,
            key_id=key_id,
            success=success,
            since=since,
            until=until,
            with_params=with_params,
            limit=limit,
            cursor=cursor,
        )
