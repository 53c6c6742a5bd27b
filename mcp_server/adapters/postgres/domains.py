"""Rows of domains."""

from __future__ import annotations

from mcp_server.adapters.postgres.rows import Rows, texts_after
from mcp_server.domain.domains import DomainName
from mcp_server.domain.pages import DEFAULT_LIMIT, Page


class DomainRows(Rows[DomainName]):
    kind = DomainName
    select = """
        SELECT domain, project_name AS project, environment, type, ssl_enabled, ssl_issuer, dns_configured,
          dns_verified_at, caddy_configured, status, created_by, created_at, updated_at, rev
        FROM domains"""
    where_key = " WHERE domain = $1"
    insert = """
        INSERT INTO domains (domain, project_name, environment, type, ssl_enabled, ssl_issuer, dns_configured,
          dns_verified_at, caddy_configured, status, created_by, created_at, updated_at, rev)
        SELECT $1::TEXT, $2::TEXT, $3::TEXT, $4::TEXT, $5::BOOLEAN, $6::TEXT, $7::BOOLEAN, $8::TIMESTAMPTZ,
          $9::BOOLEAN, $10::TEXT, $11::TEXT, $12::TIMESTAMPTZ, $13::TIMESTAMPTZ,
          1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'domains' AND t.key = $1), 0)
        WHERE EXISTS (SELECT 1 FROM projects WHERE name = $2)
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE domains SET project_name = $3, environment = $4, type = $5, ssl_enabled = $6, ssl_issuer = $7,
          dns_configured = $8, dns_verified_at = $9, caddy_configured = $10, status = $11, created_by = $12,
          created_at = $13, updated_at = $14, rev = rev + 1
        WHERE domain = $1 AND rev = $2
        RETURNING rev"""
    delete = """
        WITH gone AS (DELETE FROM domains WHERE domain = $1 AND rev = $2 RETURNING domain, rev)
        INSERT INTO tombstones (noun, key, rev) SELECT 'domains', domain, rev + 1 FROM gone
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

    async def of_project(
        self, project: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[DomainName]:
        rows = await self._session.all(
            self.select
            + """
            WHERE project_name = $1 AND domain COLLATE "C" > coalesce($2::TEXT, '')
            ORDER BY domain COLLATE "C" LIMIT $3
            """,
            project,
            *texts_after(after, 1),
            limit + 1,
        )
        return self._page(rows, limit, "domain")

    async def count_of_team(self, team_id: str) -> int:
        row = await self._session.one(
            """
            SELECT count(*) AS count FROM projects p JOIN domains d ON d.project_name = p.name
            WHERE p.team_id = $1
            """,
            team_id,
        )
        return 0 if row is None else int(row["count"])

    @staticmethod
    def _values(record: DomainName) -> tuple[object, ...]:
        return (
            record.project,
            record.environment,
            record.type,
            record.ssl_enabled,
            record.ssl_issuer,
            record.dns_configured,
            record.dns_verified_at,
            record.caddy_configured,
            record.status,
            record.created_by,
            record.created_at,
            record.updated_at,
        )
