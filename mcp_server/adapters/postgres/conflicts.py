"""Rows of kept conflicts."""

from __future__ import annotations

from mcp_server.adapters.postgres.rows import Rows, moment_after
from mcp_server.domain.conflicts import KeptConflict
from mcp_server.domain.pages import DEFAULT_LIMIT, Page


class ConflictRows(Rows[KeptConflict]):
    kind = KeptConflict
    select = """
        SELECT id, team_id, line_id, target_noun, target_key, base, ours, theirs, reason, waiting, at, decided,
          decided_by, rev
        FROM conflicts"""
    where_key = " WHERE id = $1"
    insert = """
        INSERT INTO conflicts (id, team_id, line_id, target_noun, target_key, base, ours, theirs, reason,
          waiting, at, decided, decided_by, rev)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
          1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'conflicts' AND t.key = $1), 0))
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE conflicts SET team_id = $3, line_id = $4, target_noun = $5, target_key = $6, base = $7,
          ours = $8, theirs = $9, reason = $10, waiting = $11, at = $12, decided = $13, decided_by = $14,
          rev = rev + 1
        WHERE id = $1 AND rev = $2
        RETURNING rev"""
    delete = """
        WITH gone AS (DELETE FROM conflicts WHERE id = $1 AND rev = $2 RETURNING id, rev)
        INSERT INTO tombstones (noun, key, rev) SELECT 'conflicts', id, rev + 1 FROM gone
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

    async def open(self, *, limit: int = DEFAULT_LIMIT, after: str | None = None) -> Page[KeptConflict]:
        rows = await self._session.all(
            self.select
            + """
            WHERE decided IS NULL
              AND at >= coalesce($1::TIMESTAMPTZ, '-infinity')
              AND (at > coalesce($1, '-infinity') OR id COLLATE "C" > $2)
            ORDER BY at, id COLLATE "C" LIMIT $3
            """,
            *moment_after(after),
            limit + 1,
        )
        return self._page(rows, limit, "at", "id")

    @staticmethod
    def _values(record: KeptConflict) -> tuple[object, ...]:
        return (
            record.team_id,
            record.line_id,
            record.target_noun,
            record.target_key,
            record.base,
            record.ours,
            record.theirs,
            record.reason,
            list(record.waiting),
            record.at,
            record.decided,
            record.decided_by,
        )
