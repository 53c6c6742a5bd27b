"""Rows of plans."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mcp_server.adapters.postgres.rows import Rows
from mcp_server.domain.plans import Plan


class PlanRows(Rows[Plan]):
    kind = Plan
    select = """
        SELECT id, team_id, caller, action, target, state, effects, created_at, expires_at, used_at, rev
        FROM plans"""
    where_key = " WHERE id = $1"
    insert = """
        INSERT INTO plans (id, team_id, caller, action, target, state, effects, created_at, expires_at, used_at,
          rev)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,
          1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'plans' AND t.key = $1), 0))
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE plans SET team_id = $3, caller = $4, action = $5, target = $6, state = $7, effects = $8,
          created_at = $9, expires_at = $10, used_at = $11, rev = rev + 1
        WHERE id = $1 AND rev = $2
        RETURNING rev"""
    delete = """
        WITH gone AS (DELETE FROM plans WHERE id = $1 AND rev = $2 RETURNING id, rev)
        INSERT INTO tombstones (noun, key, rev) SELECT 'plans', id, rev + 1 FROM gone
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

    async def expired(self, now: datetime, *, limit: int) -> Sequence[Plan]:
        rows = await self._session.all(
            self.select + ' WHERE expires_at < $1 ORDER BY expires_at, id COLLATE "C" LIMIT $2', now, limit
        )
        return self._records(rows)

    @staticmethod
    def _values(record: Plan) -> tuple[object, ...]:
        return (
            record.team_id,
            record.caller,
            record.action,
            record.target,
            record.state,
            list(record.effects),
            record.created_at,
            record.expires_at,
            record.used_at,
        )
