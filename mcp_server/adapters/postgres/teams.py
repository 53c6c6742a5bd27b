"""Rows of teams."""

from __future__ import annotations

from mcp_server.adapters.postgres.rows import Rows, texts_after
from mcp_server.domain.pages import DEFAULT_LIMIT, Page
from mcp_server.domain.teams import Team


class TeamRows(Rows[Team]):
    kind = Team
    select = "SELECT id, name, slug, owner, plan, settings, created_at, updated_at, rev FROM teams"
    where_key = " WHERE id = $1"
    insert = """
        INSERT INTO teams (id, name, slug, owner, plan, settings, created_at, updated_at, rev)
        VALUES ($1::TEXT, $2, $3, $4, $5, $6, $7, $8,
          1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'teams' AND t.key = $1), 0))
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE teams SET name = $3, slug = $4::TEXT, owner = $5, plan = $6, settings = $7, created_at = $8,
          updated_at = $9, rev = rev + 1
        WHERE id = $1 AND rev = $2 AND NOT EXISTS (SELECT 1 FROM teams o WHERE o.slug = $4 AND o.id <> $1)
        RETURNING rev"""
    delete = """
        WITH gone AS (DELETE FROM teams WHERE id = $1 AND rev = $2 RETURNING id, rev)
        INSERT INTO tombstones (noun, key, rev) SELECT 'teams', id, rev + 1 FROM gone
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

    async def by_slug(self, slug: str) -> Team | None:
        row = await self._session.one(self.select + " WHERE slug = $1", slug)
        return None if row is None else self._record(row)

    async def list(self, *, limit: int = DEFAULT_LIMIT, after: str | None = None) -> Page[Team]:
        rows = await self._session.all(
            self.select
            + """
            WHERE id COLLATE "C" > coalesce($1::TEXT, '')
            ORDER BY id COLLATE "C" LIMIT $2
            """,
            *texts_after(after, 1),
            limit + 1,
        )
        return self._page(rows, limit, "id")

    @staticmethod
    def _values(record: Team) -> tuple[object, ...]:
        return (
            record.name,
            record.slug,
            record.owner,
            record.plan,
            record.settings.model_dump(mode="json"),
            record.created_at,
            record.updated_at,
        )

    async def _remove_children(self, record: Team) -> None:
        """The row is held against new children first. Projects go one by one: each takes its own children
        along."""
        from mcp_server.adapters.postgres.projects import ProjectRows

        await self._session.one("SELECT id FROM teams WHERE id = $1 FOR UPDATE", record.id)
        projects = ProjectRows(self._session)
        for row in await self._session.all(projects.select + " WHERE team_id = $1 ORDER BY name", record.id):
            await projects.remove(projects._record(row))
        self._note_gone(
            await self._session.all(
                """
                WITH members AS (DELETE FROM team_members WHERE team_id = $1 RETURNING id, rev),
                  keys AS (DELETE FROM api_keys WHERE team_id = $1 RETURNING id, rev)
                INSERT INTO tombstones (noun, key, rev)
                  SELECT 'members', id, rev + 1 FROM members UNION ALL SELECT 'keys', id, rev + 1 FROM keys
                ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
                RETURNING noun, key, rev
                """,
                record.id,
            )
        )
