"""API keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.roles import Role
from mcp_server.services.calls import Call
from mcp_server.services.keys import MAX_DAYS, MAX_GRACE_SECONDS, KeyIssued, KeyList, KeyRevoked, Keys
from mcp_server.tools.arguments import Cursor, Limit
from mcp_server.tools.catalogue import Catalogue

KeyId = Annotated[str, Field(min_length=1, max_length=32)]
KeyName = Annotated[str, Field(min_length=1, max_length=255)]
Scope = Annotated[str, Field(min_length=1, max_length=100)]
Scopes = Annotated[
    list[Scope], Field(max_length=50, description="Names of tools or groups; empty: all that the role may do")
]
Days = Annotated[int, Field(ge=1, le=MAX_DAYS)]
Rate = Annotated[int, Field(ge=1, le=1_000_000, description="Requests a minute")]
Grace = Annotated[int, Field(ge=0, le=MAX_GRACE_SECONDS, description="How long the old key stays valid")]


def add_key_tools(catalogue: Catalogue, keys: Keys) -> None:
    @catalogue.changing("teams")
    async def create_key(
        call: Call,
        name: KeyName,
        role: Role = "member",
        scopes: Scopes = [],  # noqa: B006 - never changed, and a list in the schema
        expires_days: Days | None = None,
        rate_limit: Rate | None = None,
    ) -> KeyIssued:
        """Create an API key of the team. Its text is in the result and is never shown again."""
        return await keys.create(
            call, name=name, role=role, scopes=scopes, expires_days=expires_days, rate_limit=rate_limit
        )

    @catalogue.reading("teams")
    async def list_keys(call: Call, limit: Limit = DEFAULT_LIMIT, cursor: Cursor | None = None) -> KeyList:
        """List the team's keys, without their text."""
        return await keys.list(call, limit=limit, cursor=cursor)

    @catalogue.changing("teams", idempotent=True, destructive=True)
    async def revoke_key(call: Call, key_id: KeyId) -> KeyRevoked:
        """Revoke a key, at once and for good."""
        return await keys.revoke(call, key_id=key_id)

    @catalogue.changing("teams", destructive=True)
    async def rotate_key(call: Call, key_id: KeyId, grace_seconds: Grace = 0) -> KeyIssued:
        """Replace a key, at once, with a new one of the same rights."""
        return await keys.rotate(call, key_id=key_id, grace_seconds=grace_seconds)
