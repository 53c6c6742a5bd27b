"""Projects: the unit that owns databases, slots, environments, domains, tasks and locks."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import Field

from mcp_server.domain.errors import Invalid
from mcp_server.domain.records import Moment, Record

ProjectType = Literal["nextjs", "remix", "nodejs", "python", "go"]
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,98}[a-z0-9])?")


class Project(Record):
    """`uid` tells a project from a later one of the same name; names are unique over all teams."""

    noun: ClassVar[str] = "projects"
    name: str = Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,98}[a-z0-9])?$")
    uid: str = Field(min_length=1, max_length=32)
    team_id: str
    description: str = Field(default="", max_length=2000)
    type: ProjectType = "nextjs"
    path: str | None = Field(default=None, max_length=1000)
    database_name: str | None = Field(default=None, max_length=100)
    database_port: int | None = None
    redis_db: int | None = None
    redis_port: int | None = None
    created_at: Moment
    updated_at: Moment

    @property
    def key(self) -> str:
        return self.name


def normalise_name(text: str) -> str:
    """Lower case, with runs of spaces, dots and underscores as one hyphen.

    Raises Invalid when the rest is not a name: letters a-z, digits and hyphens, 1-100 of them, no hyphen at an end.
    """
    name = re.sub(r"[\s._]+", "-", text.strip().lower())
    if not NAME.fullmatch(name):
        raise Invalid.field("name", "1-100 characters of a-z, 0-9 and '-', with no '-' at an end")
    return name
