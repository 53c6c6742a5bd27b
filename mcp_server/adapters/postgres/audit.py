"""Rows of the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mcp_server.adapters.postgres.connections import Connection
from mcp_server.adapters.postgres.rows import Row, Session, moment_after
from mcp_server.domain.audit import AuditFilter, AuditRow
from mcp_server.domain.pages import DEFAULT_LIMIT, Page, page_of

_INSERT = """
    INSERT INTO audit_logs (id, timestamp, team_id, key_id, user_id, role, action, resource, resource_id,
      params, success,
      duration, ip, user_agent, error)
    VALUES ($1, $2, left($3, 32), left($4, 32), left($5, 255), left($6, 20), $7, $8, $9, $10, $11, $12, $13,
      $14, $15)
    ON CONFLICT (id) DO NOTHING
    """


class AuditRows:
    """A transaction's rows are written with its line, in one go; a search in the same transaction sees
    them."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def add(self, row: AuditRow) -> None:
        self._session.must_write()
        self._session.audit.append(row)

    async def find(
        self,
        filter: AuditFilter,  # the port's name
        *,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> Page[AuditRow]:
        await write_audit(self._session)
        rows = await self._session.all(
            """
            SELECT id, timestamp, team_id, key_id, user_id, role, action, resource, resource_id, params,
              success, duration, ip,
              user_agent, error
            FROM audit_logs
            WHERE team_id = $1
              AND timestamp <= coalesce($2::TIMESTAMPTZ, 'infinity')
              AND (timestamp < coalesce($2, 'infinity') OR id COLLATE "C" > $3)
              AND ($4::TEXT IS NULL OR action = $4)
              AND ($5::TEXT IS NULL OR resource = $5)
              AND ($6::TEXT IS NULL OR resource_id = $6)
              AND ($7::TEXT IS NULL OR key_id = $7)
              AND ($8::BOOLEAN IS NULL OR success = $8)
              AND timestamp >= coalesce($9::TIMESTAMPTZ, '-infinity')
              AND timestamp < coalesce($10::TIMESTAMPTZ, 'infinity')
            ORDER BY timestamp DESC, id COLLATE "C" LIMIT $11
            """,
            filter.team_id,
            *moment_after(after),
            filter.action,
            filter.resource,
            filter.resource_id,
            filter.key_id,
            filter.success,
            filter.since,
            filter.until,
            limit + 1,
        )
        items = [_row(row) for row in rows]
        if len(items) <= limit or limit < 1:
            return page_of(items, limit, None)
        last = items[limit - 1]
        return page_of(items, limit, (last.timestamp.isoformat(), last.id))

    async def clean(self, before: datetime, *, limit: int) -> int:
        self._session.must_write()
        row = await self._session.one(
            """
            WITH gone AS (
              DELETE FROM audit_logs WHERE id IN (
                SELECT id FROM audit_logs WHERE timestamp < $1 ORDER BY timestamp LIMIT $2
                FOR UPDATE SKIP LOCKED)
              RETURNING 1
            )
            SELECT count(*) AS count FROM gone
            """,
            before,
            limit,
        )
        return 0 if row is None else int(row["count"])


async def write_audit(session: Session) -> None:
    """Write what the session gathered, if anything."""
    rows, session.audit = session.audit, []
    await insert_rows(session.connection, rows)


def inserting(row: AuditRow) -> tuple[str, Sequence[object]]:
    """The statement for one row, with its arguments."""
    return _INSERT, _values(row)


async def insert_rows(connection: Connection, rows: Sequence[AuditRow]) -> None:
    """In one round trip. Rows that are there already are left as they are."""
    if len(rows) == 1:
        await connection.execute(_INSERT, *_values(rows[0]))
    elif rows:
        await connection.executemany(_INSERT, [_values(row) for row in rows])


def _row(row: Row) -> AuditRow:
    return AuditRow.model_validate({**dict(row), "params": row["params"] or {}})


def _values(row: AuditRow) -> tuple[Any, ...]:
    """A call with text that PostgreSQL cannot store was a call all the same: such characters are replaced."""
    return (
        row.id,
        row.timestamp,
        _storable(row.team_id),
        _storable(row.key_id),
        _storable(row.user_id),
        _storable(row.role),
        _storable(row.action),
        _storable(row.resource),
        _storable(row.resource_id),
        _storable(row.params),
        row.success,
        row.duration,
        _storable(row.ip),
        _storable(row.user_agent),
        _storable(row.error),
    )


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        clean = value.replace("\x00", "\ufffd")
        return clean if clean.isascii() else clean.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value
