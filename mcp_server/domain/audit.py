"""One row of the audit log. Rows are written once and never changed, so they have no `rev`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from mcp_server.domain.records import Moment, Value


class AuditRow(Value):
    """`params` are redacted before they come here. `duration` in milliseconds. `error` is a code and a sentence."""

    id: str = Field(min_length=1, max_length=32)
    timestamp: Moment
    team_id: str | None = None
    key_id: str | None = None
    user_id: str | None = None
    role: str | None = None
    action: str = Field(min_length=1, max_length=100)
    resource: str | None = Field(default=None, max_length=100)
    resource_id: str | None = Field(default=None, max_length=255)
    params: dict[str, Any] = Field(default_factory=dict)
    success: bool = True
    duration: int | None = None
    ip: str | None = Field(default=None, max_length=45)
    user_agent: str | None = None
    error: str | None = None


class AuditFilter(Value):
    """Every set field narrows the rows; `since` is inclusive, `until` exclusive."""

    team_id: str
    action: str | None = None
    resource: str | None = None
    resource_id: str | None = None
    key_id: str | None = None
    success: bool | None = None
    since: Moment | None = None
    until: Moment | None = None
