"""What a committed transaction changed: the unit of the change log, of the journal and of the replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mcp_server.domain.audit import AuditRow
from mcp_server.domain.nouns import BY_NOUN
from mcp_server.domain.records import Record


@dataclass(frozen=True, slots=True)
class Change:
    """One record before and after a transaction.

    `base` is the revision it was based on (0: it did not exist), `rev` its new revision (a deletion counts too).
    `record` is None for a deletion. `before` is the record at `base`; only lines that must be replayed carry it.
    """

    noun: str
    key: str
    base: int
    rev: int
    record: Record | None
    before: Record | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One committed transaction. `id` is unique over all stores and is what makes a replay apply once."""

    id: str
    at: datetime
    actor: str
    action: str
    changes: tuple[Change, ...]
    audit: tuple[AuditRow, ...] = ()


def change_to_json(change: Change) -> dict[str, Any]:
    body: dict[str, Any] = {"noun": change.noun, "key": change.key, "base": change.base, "rev": change.rev}
    body["record"] = None if change.record is None else change.record.model_dump(mode="json")
    if change.before is not None:
        body["before"] = change.before.model_dump(mode="json")
    return body


def change_from_json(body: Mapping[str, Any]) -> Change:
    """Raises ValueError (pydantic's too) or KeyError for what is not a change."""
    kind = BY_NOUN[body["noun"]]
    record, before = body["record"], body.get("before")
    return Change(
        noun=body["noun"],
        key=body["key"],
        base=body["base"],
        rev=body["rev"],
        record=None if record is None else kind.model_validate(record),
        before=None if before is None else kind.model_validate(before),
    )
