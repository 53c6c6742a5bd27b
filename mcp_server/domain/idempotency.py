"""Remembered results of calls that carried an `idempotency_key`."""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar

from mcp_server.domain.records import Moment, Record

KEEP_SECONDS = 86_400


class Remembered(Record):
    """The result of the first call under one key; `result` is None while that call is not settled."""

    noun: ClassVar[str] = "idempotency"
    id: str
    team_id: str
    caller: str
    tool: str
    arguments: str
    result: dict[str, Any] | None = None
    created_at: Moment
    expires_at: Moment

    @property
    def key(self) -> str:
        return self.id


def remembered_id(team_id: str, caller: str, tool: str, key: str) -> str:
    """One id per team, caller, tool and key; 32 hexadecimal characters."""
    return _digest([team_id, caller, tool, key])


def arguments_digest(arguments: dict[str, Any]) -> str:
    """Equal for equal arguments, whatever the order of their names."""
    return _digest(arguments)


def derived_id(kind: str, team_id: str, tool: str, key: str) -> str:
    """The id of what a call with this key makes, so that two applications make one record."""
    return f"{kind}-{_digest([team_id, tool, key])[:20]}"


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
