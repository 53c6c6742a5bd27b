"""Rows of remembered results."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mcp_server.adapters.postgres.rows import Rows
from mcp_server.domain.idempotency import Remembered


class IdempotencyRows(Rows[Remembered]):
    kind = Remembered
    select = """
        SELECT id, team_id, caller, tool, arguments, result, created_at, expires_at, rev
        FROM idempotency"""
    where_key = " WHERE id = $1"
    insert = """
        INSERT INTO idempotency (id, team_id, caller, tool, arguments, result, created_at, expires_at, rev)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8,
          1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'idempotency' AND t.key = $1), 0))
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE idempotency SET team_id = $3, caller = $4, tool = $5, arguments = $6, result = $7,
          created_at = $8, expires_at = $9, rev = rev + 1
        WHERE id = $1 AND rev = $2
        RETURNING rev"""
    delete = """
        WITH gone AS (DELETE FROM idempotency WHERE id = $1 AND rev = $2 RETURNING id, rev)
        INSERT INTO tombstones (noun, key, rev) SELECT 'idempotency', id, rev + 1 FROM gone
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

    async def claim(self, record: Remembered) -> Remembered | None:
        """The insertion waits for another transaction that has inserted the id; the one that stands may then
        be read."""
        self._session.must_write()
        self._session.time = None
        while True:
            row = await self._session.write(self._insertion(record))
            if row is not None:
                self._noted(record, base=0, rev=row["rev"])
                return None
            standing = await self._session.one(self.select + self.where_key + " FOR NO KEY UPDATE", record.id)
            if standing is not None:
                return self._record(standing)

    async def expired(self, now: datetime, *, limit: int) -> Sequence[Remembered]:
        rows = await self._session.all(
            self.select + ' WHERE expires_at < $1 ORDER BY expires_at, id COLLATE "C" LIMIT $2', now, limit
        )
        return self._records(rows)

    @staticmethod
    def _values(record: Remembered) -> tuple[object, ...]:
        return (
            record.team_id,
            record.caller,
            record.tool,
            record.arguments,
            record.result,
            record.created_at,
            record.expires_at,
        )
