"""People of a team."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.roles import Role
from mcp_server.services.calls import Call
from mcp_server.services.members import MemberList, MemberRemoved, Members, MemberView
from mcp_server.tools.arguments import Cursor, Limit
from mcp_server.tools.catalogue import Catalogue

MemberId = Annotated[str, Field(min_length=1, max_length=32)]
Email = Annotated[str, Field(min_length=3, max_length=255)]
PersonName = Annotated[str, Field(min_length=1, max_length=255)]


def add_member_tools(catalogue: Catalogue, members: Members) -> None:
    @catalogue.changing("teams")
    async def add_member(
        call: Call, email: Email, name: PersonName | None = None, role: Role = "member"
    ) -> MemberView:
        """Add a person to the team."""
        return await members.add(call, email=email, name=name, role=role)

    @catalogue.reading("teams")
    async def list_members(
        call: Call, limit: Limit = DEFAULT_LIMIT, cursor: Cursor | None = None
    ) -> MemberList:
        """List the people of the team."""
        return await members.list(call, limit=limit, cursor=cursor)

    @catalogue.changing("teams", idempotent=True)
    async def update_member(call: Call, member_id: MemberId, role: Role) -> MemberView:
        """Change a person's role."""
        return await members.update(call, member_id=member_id, role=role)

    @catalogue.changing("teams", destructive=True)
    async def remove_member(call: Call, member_id: MemberId) -> MemberRemoved:
        """Remove a person from the team, at once."""
        return await members.remove(call, member_id=member_id)
