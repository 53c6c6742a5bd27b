"""Rows of API keys."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from mcp_server.adapters.postgres.connections import Connection
from mcp_server.adapters.postgres.rows import Rows, texts_after
from mcp_server.domain.keys import ApiKey
from mcp_server.domain.pages import DEFAULT_LIMIT, Page


class KeyRows(Rows[ApiKey]):
    kind = ApiKey
    select = """
        SELECT id, key_hash, key_prefix, name, team_id, role, scopes, rate_limit, created_at, created_by,
          last_used_at, expires_at, revoked_at, rev
        FROM api_keys"""
    where_key = " WHERE id = $1"
    insert = """
        INSERT INTO api_keys (id, key_hash, key_prefix, name, team_id, role, scopes, rate_limit, created_at,
          created_by, last_used_at, expires_at, revoked_at, rev)
        SELECT $1::TEXT, $2::TEXT, $3::TEXT, $4::TEXT, $5::TEXT, $6::TEXT, $7::JSONB, to_jsonb($8::INTEGER),
          $9::TIMESTAMPTZ, $10::TEXT, $11::TIMESTAMPTZ, $12::TIMESTAMPTZ, $13::TIMESTAMPTZ,
          1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'keys' AND t.key = $1), 0)
        WHERE EXISTS (SELECT 1 FROM teams WHERE id = $5)
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE api_keys SET key_hash = $3::TEXT, key_prefix = $4, name = $5, team_id = $6, role = $7,
          scopes = $8, rate_limit = to_jsonb($9::INTEGER), created_at = $10, created_by = $11,
          last_used_at = $12, expires_at = $13, revoked_at = $14, rev = rev + 1
        WHERE id = $1 AND rev = $2 AND NOT EXISTS (SELECT 1 FROM api_keys o WHERE o.key_hash = $3
          AND o.id <> $1)
        RETURNING rev"""
    delete = """
        WITH gone AS (DELETE FROM api_keys WHERE id = $1 AND rev = $2 RETURNING id, rev)
        INSERT INTO tombstones (noun, key, rev) SELECT 'keys', id, rev + 1 FROM gone
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

    async def by_hash(self, key_hash: str) -> ApiKey | None:
        row = await self._session.one(self.select + " WHERE key_hash = $1", key_hash)
        return None if row is None else self._record(row)

    async def of_team(
        self, team_id: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[ApiKey]:
        rows = await self._session.all(
            self.select
            + """
            WHERE team_id = $1 AND id COLLATE "C" > coalesce($2::TEXT, '')
            ORDER BY id COLLATE "C" LIMIT $3
            """,
            team_id,
            *texts_after(after, 1),
            limit + 1,
        )
        return self._page(rows, limit, "id")

    @staticmethod
    def _values(record: ApiKey) -> tuple[object, ...]:
        return (
            record.key_hash,
            record.key_prefix,
            record.name,
            record.team_id,
            record.role,
            list(record.scopes),
            record.rate_limit,
            record.created_at,
            record.created_by,
            record.last_used_at,
            record.expires_at,
            record.revoked_at,
        )


async def note_use(connection: Connection, used: Mapping[str, datetime]) -> None:
    """When keys were last used is no change of them: it has no revision and no line. A key that is being
    changed is left
    out, its next use will be noted."""
    await connection.execute(
        """
        WITH free AS (
          SELECT k.id, u.at FROM api_keys k JOIN unnest($1::TEXT[], $2::TIMESTAMPTZ[]) AS u(id,
            at) ON u.id = k.id
          ORDER BY k.id FOR NO KEY UPDATE OF k SKIP LOCKED
        )
        UPDATE api_keys k SET last_used_at = greatest(k.last_used_at, free.at) FROM free WHERE free.id = k.id
        """,
        list(used),
        list(used.values()),
    )
