"""People of a team."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from mcp_server.domain.records import Moment, Record
from mcp_server.domain.roles import Role


class Member(Record):
    """One address is a member of a team at most once."""

    noun: ClassVar[str] = "members"
    id: str = Field(min_length=1, max_length=32)
    team_id: str
    email: str = Field(min_length=3, max_length=255, pattern=r"^[^@\s]+@[^@\s]+$")
    name: str | None = Field(default=None, max_length=255)
    role: Role
    invited_by: str | None = Field(default=None, max_length=255)
    joined_at: Moment
    last_active_at: Moment | None = None

    @property
    def key(self) -> str:
        return self.id
