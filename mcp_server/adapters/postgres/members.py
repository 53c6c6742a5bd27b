"""Rows of members of teams."""

from __future__ import annotations

from mcp_server.adapters.postgres.rows import Rows, texts_after
from mcp_server.domain.members import Member
from mcp_server.domain.pages import DEFAULT_LIMIT, Page


class MemberRows(Rows[Member]):
    kind = Member
    select = """
        SELECT id, team_id, email, name, role, invited_by, joined_at, last_active_at, rev
        FROM team_members"""
    where_key = " WHERE id = $1"
    insert = """
        INSERT INTO team_members (id, team_id, email, name, role, invited_by, joined_at, last_active_at, rev)
        SELECT $1::TEXT, $2::TEXT, $3::TEXT, $4::TEXT, $5::TEXT, $6::TEXT, $7::TIMESTAMPTZ, $8::TIMESTAMPTZ,
          1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'members' AND t.key = $1), 0)
        WHERE EXISTS (SELECT 1 FROM teams WHERE id = $2)
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE team_members SET team_id = $3::TEXT, email = $4::TEXT, name = $5, role = $6, invited_by = $7,
          joined_at = $8, last_active_at = $9, rev = rev + 1
        WHERE id = $1 AND rev = $2
          AND NOT EXISTS (
            SELECT 1 FROM team_members o WHERE o.team_id = $3 AND o.email = $4 AND o.id <> $1)
        RETURNING rev"""
    delete = """
        WITH gone AS (DELETE FROM team_members WHERE id = $1 AND rev = $2 RETURNING id, rev)
        INSERT INTO tombstones (noun, key, rev) SELECT 'members', id, rev + 1 FROM gone
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

    async def of_team(
        self, team_id: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[Member]:
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
    def _values(record: Member) -> tuple[object, ...]:
        return (
            record.team_id,
            record.email,
            record.name,
            record.role,
            record.invited_by,
            record.joined_at,
            record.last_active_at,
        )
