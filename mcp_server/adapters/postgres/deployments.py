"""Rows of deployments."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_server.adapters.postgres.rows import Rows, as_json, moment_after
from mcp_server.domain.deployments import Deployment
from mcp_server.domain.pages import DEFAULT_LIMIT, Page
from mcp_server.domain.teams import EnvironmentName


class DeploymentRows(Rows[Deployment]):
    kind = Deployment
    select = """
        SELECT id, project_name AS project, environment, slot, version, image, status, deployed_by, promoted_at,
          promoted_by, rolled_back_at, rolled_back_by, rollback_reason, steps, duration, created_at,
          completed_at, home, host, worker, release, task_id, changed_paths, cancelled_by, error, receipt, rev
        FROM deployments"""
    where_key = " WHERE id = $1"
    insert = """
        INSERT INTO deployments (id, project_name, environment, slot, version, image, status, deployed_by,
          promoted_at, promoted_by, rolled_back_at, rolled_back_by, rollback_reason, steps, duration,
          created_at, completed_at, home, host, worker, release, task_id, changed_paths, cancelled_by, error,
          receipt, rev)
        SELECT $1::TEXT, $2::TEXT, $3::TEXT, $4::TEXT, $5::TEXT, $6::TEXT, $7::TEXT, $8::TEXT, $9::TIMESTAMPTZ,
          $10::TEXT, $11::TIMESTAMPTZ, $12::TEXT, $13::TEXT, $14::JSONB, $15::INTEGER, $16::TIMESTAMPTZ,
          $17::TIMESTAMPTZ, $18::TEXT, $19::TEXT, $20::TEXT, $21::JSONB, $22::TEXT, $23::JSONB, $24::TEXT,
          $25::TEXT, $26::JSONB,
          1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'deployments' AND t.key = $1), 0)
        WHERE EXISTS (SELECT 1 FROM projects WHERE name = $2)
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE deployments SET project_name = $3, environment = $4, slot = $5, version = $6, image = $7,
          status = $8, deployed_by = $9, promoted_at = $10, promoted_by = $11, rolled_back_at = $12,
          rolled_back_by = $13, rollback_reason = $14, steps = $15, duration = $16, created_at = $17,
          completed_at = $18, home = $19, host = $20, worker = $21, release = $22, task_id = $23,
          changed_paths = $24, cancelled_by = $25, error = $26, receipt = $27, rev = rev + 1
        WHERE id = $1 AND rev = $2
        RETURNING rev"""
    delete = """
        WITH gone AS (DELETE FROM deployments WHERE id = $1 AND rev = $2 RETURNING id, rev)
        INSERT INTO tombstones (noun, key, rev) SELECT 'deployments', id, rev + 1 FROM gone
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

    async def of_project(
        self,
        project: str,
        *,
        environment: EnvironmentName | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> Page[Deployment]:
        rows = await self._session.all(
            self.select
            + """
            WHERE project_name = $1 AND ($2::TEXT IS NULL OR environment = $2)
              AND created_at <= coalesce($3::TIMESTAMPTZ, 'infinity')
              AND (created_at < coalesce($3, 'infinity') OR id COLLATE "C" > $4)
            ORDER BY created_at DESC, id COLLATE "C" LIMIT $5
            """,
            project,
            environment,
            *moment_after(after),
            limit + 1,
        )
        return self._page(rows, limit, "created_at", "id")

    async def running(self, project: str, environment: EnvironmentName) -> Deployment | None:
        row = await self._session.one(
            self.select + " WHERE project_name = $1 AND environment = $2 AND status = 'running'",
            project,
            environment,
        )
        return None if row is None else self._record(row)

    async def running_of_home(self, home: str) -> Sequence[Deployment]:
        rows = await self._session.all(
            self.select + " WHERE home = $1 AND status = 'running' ORDER BY id COLLATE \"C\"", home
        )
        return self._records(rows)

    @staticmethod
    def _values(record: Deployment) -> tuple[object, ...]:
        return (
            record.project,
            record.environment,
            record.slot,
            record.version,
            record.image,
            record.status,
            record.deployed_by,
            record.promoted_at,
            record.promoted_by,
            record.rolled_back_at,
            record.rolled_back_by,
            record.rollback_reason,
            [step.model_dump(mode="json") for step in record.steps],
            record.duration,
            record.created_at,
            record.completed_at,
            record.home,
            record.host,
            record.worker,
            as_json(record.release),
            record.task_id,
            list(record.changed_paths),
            record.cancelled_by,
            record.error,
            as_json(record.receipt),
        )
