"""The server itself: how it is, and conflicts that wait for a person."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.results import PlanResult
from mcp_server.services.calls import Call
from mcp_server.services.conflicts import ConflictList, Conflicts, Side
from mcp_server.services.status import InfrastructureStatus, Status
from mcp_server.tools.arguments import Cursor, Limit
from mcp_server.tools.catalogue import Catalogue
from mcp_server.tools.toolsets import hidden
from mcp_server.tools.visits import Door

ConflictId = Annotated[str, Field(min_length=1, max_length=100)]


def add_system_tools(catalogue: Catalogue, status: Status, conflicts: Conflicts, door: Door) -> None:
    @catalogue.reading("system", default=True)
    async def infrastructure_status(call: Call) -> InfrastructureStatus:
        """Health of the server and of the services it uses, and which toolsets are hidden from you."""
        wanted = door.visit().toolsets
        found = await status.infrastructure_status(call)
        return found.change(toolsets=tuple(sorted(wanted)), hidden_toolsets=hidden(wanted))

    @catalogue.reading("system")
    async def list_conflicts(
        call: Call, limit: Limit = DEFAULT_LIMIT, cursor: Cursor | None = None
    ) -> ConflictList:
        """Changes made while PostgreSQL was away that could not be merged and wait for a decision."""
        return await conflicts.list_conflicts(call, limit=limit, cursor=cursor)

    @catalogue.planned("system")
    async def resolve_conflict(call: Call, conflict_id: ConflictId, keep: Side) -> PlanResult:
        """Settle a conflict: keep ours (made while PostgreSQL was away) or theirs (PostgreSQL's). First returns a plan."""
        return await conflicts.resolve_conflict(call, conflict_id=conflict_id, keep=keep)
