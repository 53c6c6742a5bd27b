"""A change that could not be merged: both versions, kept until a person decides. What can be merged stands in `merging`."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from mcp_server.domain.records import Moment, Record


class KeptConflict(Record):
    """Both versions of a record. `ours` is the one made while PostgreSQL was away.

    `base`, `ours` and `theirs` are records as JSON values, None where the record did not exist or was deleted.
    `waiting` are the ids of later lines of that record: their changes are in `ours` too.
    """

    noun: ClassVar[str] = "conflicts"
    id: str
    team_id: str | None = None
    line_id: str
    target_noun: str
    target_key: str
    base: dict[str, Any] | None = None
    ours: dict[str, Any] | None = None
    theirs: dict[str, Any] | None = None
    reason: str
    waiting: tuple[str, ...] = ()
    at: Moment
    decided: Literal["ours", "theirs"] | None = None
    decided_by: str | None = None

    @property
    def key(self) -> str:
        return self.id
