"""Rows of environments and of every version that they had."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_server.adapters.postgres.rows import Rows, number_after
from mcp_server.domain.environments import EnvironmentVersion, ProjectEnvironment
from mcp_server.domain.pages import DEFAULT_LIMIT, Page
from mcp_server.domain.teams import EnvironmentName


class EnvironmentRows(Rows[ProjectEnvironment]):
    kind = ProjectEnvironment
    select = """
        SELECT project_name AS project, environment, env_data, encrypted, version, created_by, created_at,
          updated_at, rev
        FROM project_envs"""
    where_key = " WHERE uid = $1"
    insert = """
        INSERT INTO project_envs (project_name, environment, env_data, encrypted, version, created_by,
          created_at, updated_at, rev)
        SELECT $2::TEXT, $3::TEXT, $4::JSONB, $5::BOOLEAN, $6::INTEGER, $7::TEXT, $8::TIMESTAMPTZ,
          $9::TIMESTAMPTZ,
          1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'environments' AND t.key = $1), 0)
        WHERE EXISTS (SELECT 1 FROM projects WHERE name = $2)
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE project_envs SET env_data = $3, encrypted = $4, version = $5, created_by = $6, created_at = $7,
          updated_at = $8, rev = rev + 1
        WHERE uid = $1 AND rev = $2
        RETURNING rev"""
    delete = """
        WITH gone AS (DELETE FROM project_envs WHERE uid = $1 AND rev = $2 RETURNING uid, rev)
        INSERT INTO tombstones (noun, key, rev) SELECT 'environments', uid, rev + 1 FROM gone
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

    async def of_project(self, project: str) -> Sequence[ProjectEnvironment]:
        rows = await self._session.all(
            self.select + ' WHERE project_name = $1 ORDER BY environment COLLATE "C"', project
        )
        return self._records(rows)

    @staticmethod
    def _names(record: ProjectEnvironment) -> tuple[object, ...]:
        return (record.project, record.environment)

    @staticmethod
    def _values(record: ProjectEnvironment) -> tuple[object, ...]:
        return (
            record.env_data,
            record.encrypted,
            record.version,
            record.created_by,
            record.created_at,
            record.updated_at,
        )


class EnvironmentVersionRows(Rows[EnvironmentVersion]):
    kind = EnvironmentVersion
    select = """
        SELECT project_name AS project, environment, version, env_data, encrypted, created_by, created_at, rev
        FROM project_env_versions"""
    where_key = " WHERE uid = $1"
    insert = """
        INSERT INTO project_env_versions (project_name, environment, version, env_data, encrypted, created_by,
          created_at, rev)
        SELECT $2::TEXT, $3::TEXT, $4::INTEGER, $5::JSONB, $6::BOOLEAN, $7::TEXT, $8::TIMESTAMPTZ,
          1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'environment_versions'
          AND t.key = $1), 0)
        WHERE EXISTS (SELECT 1 FROM projects WHERE name = $2)
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE project_env_versions SET env_data = $3, encrypted = $4, created_by = $5, created_at = $6,
          rev = rev + 1
        WHERE uid = $1 AND rev = $2
        RETURNING rev"""
    delete = """
        WITH gone AS (DELETE FROM project_env_versions WHERE uid = $1 AND rev = $2 RETURNING uid, rev)
        INSERT INTO tombstones (noun, key, rev) SELECT 'environment_versions', uid, rev + 1 FROM gone
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

    async def of_environment(
        self,
        project: str,
        environment: EnvironmentName,
        *,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> Page[EnvironmentVersion]:
        rows = await self._session.all(
            self.select
            + """
            WHERE project_name = $1 AND environment = $2 AND version < coalesce($3::BIGINT,
              9223372036854775807)
            ORDER BY version DESC LIMIT $4
            """,
            project,
            environment,
            number_after(after),
            limit + 1,
        )
        return self._page(rows, limit, "version")

    @staticmethod
    def _names(record: EnvironmentVersion) -> tuple[object, ...]:
        return (record.project, record.environment, record.version)

    @staticmethod
    def _values(record: EnvironmentVersion) -> tuple[object, ...]:
        return (
            record.env_data,
            record.encrypted,
            record.created_by,
            record.created_at,
        )
