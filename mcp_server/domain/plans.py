"""Plans: what a destructive call would do, kept until it is confirmed by its token.

A token is random text shown once; its SHA-256 is stored. Applying it needs the same caller, the same action and target, the
same revisions of everything the plan named, and no earlier use.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mcp_server.domain.records import Moment, Record

PLAN_SECONDS = 900


class Plan(Record):
    """`target` are the resolved ids; `state` maps `noun/key` to the revision that the plan saw."""

    noun: ClassVar[str] = "plans"
    id: str
    team_id: str
    caller: str
    action: str
    target: dict[str, Any]
    state: dict[str, int]
    effects: tuple[str, ...]
    created_at: Moment
    expires_at: Moment
    used_at: Moment | None = None

    @property
    def key(self) -> str:
        return self.id
