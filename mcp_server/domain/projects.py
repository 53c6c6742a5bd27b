"""Projects: the unit that owns databases, slots, environments, domains, tasks and locks."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from mcp_server.domain.callers import Transport
from mcp_server.domain.errors import Invalid
from mcp_server.domain.records import Moment, Record

ProjectType = Literal["nextjs", "remix", "nodejs", "python", "go"]
MAX_PATH = 1000
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,98}[a-z0-9])?")


class Project(Record):
    """`uid` tells a project from a later one of the same name; names are unique over all teams."""

    noun: ClassVar[str] = "projects"
    name: str = Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,98}[a-z0-9])?$")
    uid: str = Field(min_length=1, max_length=32)
    team_id: str
    description: str = Field(default="", max_length=2000)
    type: ProjectType = "nextjs"
    path: str | None = Field(default=None, max_length=MAX_PATH)
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

    Raises Invalid when the rest is not a name: letters a-z, digits and hyphens, 1-100 of them, no hyphen at
    an end. Line breaks, tabs and other control characters are no spaces: nobody types them in a name.
    """
    name = re.sub(r"[ ._]+", "-", text.strip(" ").lower())
    if not NAME.fullmatch(name):
        raise Invalid.field("name", "1-100 characters of a-z, 0-9 and '-', with no '-' at an end")
    return name


def placed(path: str, roots: Sequence[str], transport: Transport) -> str:
    """The path without `.`, `..` and doubled slashes, if a project of this caller may lie there.

    Compares text only: symbolic links must have been followed in `path` and `roots` for the answer to count.
    Without roots a local caller may name any absolute path, and one over HTTP none. Raises Invalid.
    """
    if not path.startswith("/") or "\x00" in path:
        raise Invalid.field("path", "an absolute path")
    place = posixpath.normpath("/" + path.lstrip("/"))
    if len(place) > MAX_PATH:
        raise Invalid.field("path", f"at most {MAX_PATH} characters")
    if not roots and transport == "http":
        raise Invalid.field(
            "path", "not taken over HTTP while the operator has not set QUAYMASTER_PROJECT_ROOTS"
        )
    if roots and not any(_lies_in(place, root) for root in roots):
        raise Invalid.field("path", "must lie under one of the operator's QUAYMASTER_PROJECT_ROOTS")
    return place


def above(place: str) -> tuple[str, ...]:
    """The path and every directory that it lies in."""
    parts = place.split("/")
    return (
        ("/", *("/".join(parts[:number]) for number in range(2, len(parts) + 1))) if place != "/" else ("/",)
    )


def overlap(one: str, two: str) -> bool:
    """Whether the paths are the same, or one lies in the other."""
    return _lies_in(one, two) or _lies_in(two, one)


def _lies_in(place: str, root: str) -> bool:
    root = posixpath.normpath(root)
    return place == root or place.startswith(root.rstrip("/") + "/")
