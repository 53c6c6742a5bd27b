"""Rows of projects."""

from __future__ import annotations

from mcp_server.adapters.postgres.rows import Rows, texts_after
from mcp_server.domain.pages import DEFAULT_LIMIT, Page
from mcp_server.domain.projects import Project, above


class ProjectRows(Rows[Project]):
    kind = Project
    select = """
        SELECT name, uid, team_id, description, type, path, database_name, database_port, redis_db, redis_port,
          created_at, updated_at, rev
        FROM projects"""
    where_key = " WHERE name = $1"
    insert = """
        INSERT INTO projects (name, uid, team_id, description, type, path, database_name, database_port,
          redis_db, redis_port, created_at, updated_at, rev)
        SELECT $1::TEXT, $2::TEXT, $3::TEXT, $4::TEXT, $5::TEXT, $6::TEXT, $7::TEXT, $8::INTEGER, $9::INTEGER,
          $10::INTEGER, $11::TIMESTAMPTZ, $12::TIMESTAMPTZ,
          1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'projects' AND t.key = $1), 0)
        WHERE EXISTS (SELECT 1 FROM teams WHERE id = $3)
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE projects SET uid = $3, team_id = $4, description = $5, type = $6, path = $7, database_name = $8,
          database_port = $9, redis_db = $10, redis_port = $11, created_at = $12, updated_at = $13, rev = rev +
          1
        WHERE name = $1 AND rev = $2
        RETURNING rev"""
    delete = """
        WITH gone AS (DELETE FROM projects WHERE name = $1 AND rev = $2 RETURNING name, rev)
        INSERT INTO tombstones (noun, key, rev) SELECT 'projects', name, rev + 1 FROM gone
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

    async def of_team(
        self, team_id: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[Project]:
        rows = await self._session.all(
            self.select
            + """
            WHERE team_id = $1 AND name COLLATE "C" > coalesce($2::TEXT, '')
            ORDER BY name COLLATE "C" LIMIT $3
            """,
            team_id,
            *texts_after(after, 1),
            limit + 1,
        )
        return self._page(rows, limit, "name")

    async def foreign_at(self, team_id: str, path: str) -> Project | None:
        row = await self._session.one(
            self.select
            + """
            WHERE team_id <> $1 AND (path = ANY ($2::TEXT[]) OR starts_with(path, $3))
            ORDER BY name COLLATE "C" LIMIT 1
            """,
            team_id,
            list(above(path)),
            f"{path.rstrip('/')}/",
        )
        return None if row is None else self._record(row)

    async def count_of_team(self, team_id: str) -> int:
        row = await self._session.one("SELECT count(*) AS count FROM projects WHERE team_id = $1", team_id)
        return 0 if row is None else int(row["count"])

    @staticmethod
    def _values(record: Project) -> tuple[object, ...]:
        return (
            record.uid,
            record.team_id,
            record.description,
            record.type,
            record.path,
            record.database_name,
            record.database_port,
            record.redis_db,
            record.redis_port,
            record.created_at,
            record.updated_at,
        )

    async def _remove_children(self, record: Project) -> None:
        """The row is held against new children first. The history of locks goes with the project."""
        await self._session.one("SELECT name FROM projects WHERE name = $1 FOR UPDATE", record.name)
        self._note_gone(
            await self._session.all(
                """
                WITH locks AS (
                  DELETE FROM work_task_files WHERE project_name = $1 AND status = 'locked' RETURNING uid, rev
                ), scopes AS (DELETE FROM lock_scopes WHERE project_name = $1 RETURNING project_name, rev),
                  tasks AS (DELETE FROM work_tasks WHERE project_name = $1 RETURNING uid, rev),
                  versions AS (DELETE FROM project_env_versions WHERE project_name = $1 RETURNING uid, rev),
                  environments AS (DELETE FROM project_envs WHERE project_name = $1 RETURNING uid, rev),
                  kept AS (DELETE FROM databases WHERE project_name = $1 RETURNING uid_key, rev),
                  hosts AS (DELETE FROM domains WHERE project_name = $1 RETURNING domain, rev),
                  deploys AS (DELETE FROM deployments WHERE project_name = $1 RETURNING id, rev),
                  slots AS (DELETE FROM project_slots WHERE project_name = $1 RETURNING uid, rev)
                INSERT INTO tombstones (noun, key, rev)
                  SELECT 'locks', uid, rev + 1 FROM locks
                  UNION ALL SELECT 'lock_scopes', project_name, rev + 1 FROM scopes
                  UNION ALL SELECT 'tasks', uid, rev + 1 FROM tasks
                  UNION ALL SELECT 'environment_versions', uid, rev + 1 FROM versions
                  UNION ALL SELECT 'environments', uid, rev + 1 FROM environments
                  UNION ALL SELECT 'databases', uid_key, rev + 1 FROM kept
                  UNION ALL SELECT 'domains', domain, rev + 1 FROM hosts
                  UNION ALL SELECT 'deployments', id, rev + 1 FROM deploys
                  UNION ALL SELECT 'slots', uid, rev + 1 FROM slots
                ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
                RETURNING noun, key, rev
                """,
                record.name,
            )
        )
