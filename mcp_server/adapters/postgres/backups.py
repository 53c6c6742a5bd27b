"""Rows of backups and of branches."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_server.adapters.postgres.rows import Rows, as_json, moment_after
from mcp_server.domain.backups import Backup, Branch
from mcp_server.domain.pages import DEFAULT_LIMIT, Page


class BackupRows(Rows[Backup]):
    kind = Backup
    select = """
        SELECT id, team_id, subject, project, project_uid, environment, database_uid, home, host, host_name,
          engine, reason, stage, worker, file, bytes, sha256, server_version, extensions, tables, created_at,
          finished_at, verified_at, error, rev
        FROM backups"""
    where_key = " WHERE id = $1"
    insert = """
        INSERT INTO backups (id, team_id, subject, project, project_uid, environment, database_uid, home, host,
          host_name, engine, reason, stage, worker, file, bytes, sha256, server_version, extensions, tables,
          created_at, finished_at, verified_at, error, rev)
        SELECT $1::TEXT, $2::TEXT, $3::TEXT, $4::TEXT, $5::TEXT, $6::TEXT, $7::TEXT, $8::TEXT, $9::TEXT,
          $10::TEXT, $11::TEXT, $12::TEXT, $13::TEXT, $14::TEXT, $15::TEXT, $16::BIGINT, $17::TEXT, $18::TEXT,
          $19::JSONB, $20::JSONB, $21::TIMESTAMPTZ, $22::TIMESTAMPTZ, $23::TIMESTAMPTZ, $24::TEXT,
          1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'backups' AND t.key = $1), 0)
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE backups SET team_id = $3, subject = $4, project = $5, project_uid = $6, environment = $7,
          database_uid = $8, home = $9, host = $10, host_name = $11, engine = $12, reason = $13, stage = $14,
          worker = $15, file = $16, bytes = $17, sha256 = $18, server_version = $19, extensions = $20,
          tables = $21, created_at = $22, finished_at = $23, verified_at = $24, error = $25, rev = rev + 1
        WHERE id = $1 AND rev = $2
        RETURNING rev"""
    delete = """
        WITH gone AS (DELETE FROM backups WHERE id = $1 AND rev = $2 RETURNING id, rev)
        INSERT INTO tombstones (noun, key, rev) SELECT 'backups', id, rev + 1 FROM gone
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

    async def of_team(
        self,
        team_id: str,
        *,
        project: str | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> Page[Backup]:
        rows = await self._session.all(
            self.select
            + """
            WHERE team_id = $1 AND ($2::TEXT IS NULL OR project = $2)
              AND created_at <= coalesce($3::TIMESTAMPTZ, 'infinity')
              AND (created_at < coalesce($3, 'infinity') OR id COLLATE "C" > $4)
            ORDER BY created_at DESC, id COLLATE "C" LIMIT $5
            """,
            team_id,
            project,
            *moment_after(after),
            limit + 1,
        )
        return self._page(rows, limit, "created_at", "id")

    async def of_home(self, home: str) -> Sequence[Backup]:
        rows = await self._session.all(
            self.select + ' WHERE home = $1 ORDER BY created_at, id COLLATE "C"', home
        )
        return self._records(rows)

    @staticmethod
    def _values(record: Backup) -> tuple[object, ...]:
        return (
            record.team_id,
            record.subject,
            record.project,
            record.project_uid,
            record.environment,
            record.database_uid,
            record.home,
            record.host,
            record.host_name,
            record.engine,
            record.reason,
            record.stage,
            record.worker,
            record.file,
            record.bytes,
            record.sha256,
            record.server_version,
            list(record.extensions),
            [table.model_dump(mode="json") for table in record.tables],
            record.created_at,
            record.finished_at,
            record.verified_at,
            record.error,
        )


class BranchRows(Rows[Branch]):
    kind = Branch
    select = """
        SELECT project_name AS project, environment, name, uid, database_uid, project_uid, team_id, home, host,
          host_name, engine, stage, worker, place, access, path, root, bytes, created_at, expires_at, rev
        FROM branches"""
    where_key = " WHERE uid_key = $1"
    insert = """
        INSERT INTO branches (project_name, environment, name, uid, database_uid, project_uid, team_id, home,
          host, host_name, engine, stage, worker, place, access, path, root, bytes, created_at, expires_at, rev)
        SELECT $2::TEXT, $3::TEXT, $4::TEXT, $5::TEXT, $6::TEXT, $7::TEXT, $8::TEXT, $9::TEXT, $10::TEXT,
          $11::TEXT, $12::TEXT, $13::TEXT, $14::TEXT, $15::JSONB, $16::JSONB, $17::TEXT, $18::TEXT, $19::BIGINT,
          $20::TIMESTAMPTZ, $21::TIMESTAMPTZ,
          1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'branches' AND t.key = $1), 0)
        WHERE EXISTS (SELECT 1 FROM projects WHERE name = $2)
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE branches SET uid = $3, database_uid = $4, project_uid = $5, team_id = $6, home = $7, host = $8,
          host_name = $9, engine = $10, stage = $11, worker = $12, place = $13, access = $14, path = $15,
          root = $16, bytes = $17, created_at = $18, expires_at = $19, rev = rev + 1
        WHERE uid_key = $1 AND rev = $2
        RETURNING rev"""
    delete = """
        WITH gone AS (DELETE FROM branches WHERE uid_key = $1 AND rev = $2 RETURNING uid_key, rev)
        INSERT INTO tombstones (noun, key, rev) SELECT 'branches', uid_key, rev + 1 FROM gone
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

    async def of_project(self, project: str) -> Sequence[Branch]:
        rows = await self._session.all(
            self.select + ' WHERE project_name = $1 ORDER BY uid_key COLLATE "C"', project
        )
        return self._records(rows)

    async def of_home(self, home: str) -> Sequence[Branch]:
        rows = await self._session.all(self.select + ' WHERE home = $1 ORDER BY uid_key COLLATE "C"', home)
        return self._records(rows)

    @staticmethod
    def _names(record: Branch) -> tuple[object, ...]:
        return (record.project, record.environment, record.name)

    @staticmethod
    def _values(record: Branch) -> tuple[object, ...]:
        return (
            record.uid,
            record.database_uid,
            record.project_uid,
            record.team_id,
            record.home,
            record.host,
            record.host_name,
            record.engine,
            record.stage,
            record.worker,
            as_json(record.place),
            as_json(record.access),
            record.path,
            record.root,
            record.bytes,
            record.created_at,
            record.expires_at,
        )
