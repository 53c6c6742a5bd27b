"""The shape of every document of a home. `sum` is the checksum that `sealed` puts at the end."""

from __future__ import annotations

from typing import Any, Literal

from mcp_server.domain.audit import AuditRow
from mcp_server.domain.keys import ApiKey
from mcp_server.domain.records import Moment, Value
from mcp_server.ports.mirror import Mode, Position

Kind = Literal["commit", "mirror", "adopt", "settle", "mode", "alone", "used", "backlog"]


class HomeDocument(Value):
    """`home.json`: who this home is. Written once."""

    format: Literal[1]
    home: str
    created_at: Moment
    sum: str


class HeadDocument(Value):
    """`HEAD`: which files count. `seq` is the last line inside the snapshot; the segment begins after it."""

    format: Literal[1]
    home: str
    generation: int
    seq: int
    snapshot: str | None
    segment: str
    sum: str


class ChangeDocument(Value):
    """One record before and after; `record` is null for a deletion; `before` stands in lines that are
    replayed.
    """

    noun: str
    key: str
    base: int
    rev: int
    record: dict[str, Any] | None
    before: dict[str, Any] | None = None


class Said(Value):
    """What a line says of its home, beside records.

    `backlog` maps an audit file to the offset from which its pending rows are not yet in PostgreSQL (the
    whole map, each
    time). `used` maps key ids to their last use. `audit_from`: audit rows before it are deleted. `alone_at`: the
    place that `alone` was said of.
    """

    mode: Mode | None = None
    epoch: int | None = None
    reason: str | None = None
    alone: bool | None = None
    alone_at: str | None = None
    settled: str | None = None
    backlog: dict[str, int] | None = None
    used: dict[str, Moment] | None = None
    audit_from: Moment | None = None


class LineDocument(Value):
    """One line of a journal segment: one committed transaction. `prev` is the `sum` of the line before."""

    seq: int
    id: str
    kind: Kind
    at: Moment
    actor: str
    action: str
    changes: tuple[ChangeDocument, ...]
    audit: tuple[AuditRow, ...] = ()
    pending: bool = False
    position: Position | None = None
    facts: Said | None = None
    prev: str
    sum: str


class PendingDocument(Value):
    """A line that is not yet in PostgreSQL, as a snapshot carries it on."""

    id: str
    at: Moment
    actor: str
    action: str
    changes: tuple[ChangeDocument, ...]
    audit: tuple[AuditRow, ...] = ()


class TombstoneDocument(Value):
    noun: str
    key: str
    rev: int
    at: Moment


class SnapshotDocument(Value):
    """`snapshot-<seq>.json`: the whole state after line `seq`, whose checksum is `last`.

    `dirty` names the records (noun, key) that pending lines changed since the home left PostgreSQL, settled or not.
    """

    format: Literal[1]
    home: str
    generation: int
    seq: int
    last: str
    at: Moment
    mode: Mode
    epoch: int
    since: Moment
    reason: str | None
    alone: bool
    alone_at: str | None = None
    position: Position | None
    backlog: dict[str, int]
    audit_from: Moment | None
    keys_seq: int
    records: dict[str, list[dict[str, Any]]]
    tombstones: tuple[TombstoneDocument, ...]
    pending: tuple[PendingDocument, ...]
    dirty: tuple[tuple[str, str], ...] = ()
    sum: str


class KeysDocument(Value):
    """`api-keys.json`: the key records for sign-in, as of the line `seq`, the last one that changed a key."""

    format: Literal[1]
    home: str
    seq: int
    keys: tuple[ApiKey, ...]
    sum: str


class AuditLineDocument(Value):
    """One line of an `audit-<day>.ndjson`. `pending`: PostgreSQL has not got the row until the backlog says
    so.
    """

    row: AuditRow
    pending: bool = False
    sum: str
