"""What happens when a change made while PostgreSQL was away meets another change of the same record.

`merge` decides by noun. It returns the record to keep, or None when only a person can decide: then both versions are
kept as a `KeptConflict` and later lines of that record wait behind it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from mcp_server.domain.records import Moment, Record


class KeptConflict(Record):
    """Both versions of a record that could not be merged. `ours` is the change made while degraded.

    `base`, `ours` and `theirs` are records as JSON values, None where the record did not exist or was deleted.
    `waiting` are the ids of later lines that wait behind this one.
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
