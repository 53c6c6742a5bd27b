"""Rows of work tasks. The number of a row stays in here; outside a task is known by its uid."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_server.adapters.postgres.rows import Rows, moment_after
from mcp_server.domain.pages import DEFAULT_LIMIT, Page
from mcp_server.domain.tasks import Task, TaskStatus


class TaskRows(Rows[Task]):
    kind = Task
    select = """
        SELECT uid AS id, team_id, project_name AS project, title, description, author, branch, pr_number,
          status, priority, affected_files, affected_areas, progress_notes, deploy_id, created_at, updated_at,
          rev
        FROM work_tasks"""
    where_key = " WHERE uid = $1"
    insert = """
        INSERT INTO work_tasks (uid, team_id, project_name, title, description, author, branch, pr_number,
          status, priority, affected_files, affected_areas, progress_notes, deploy_id, created_at, updated_at,
          rev)
        SELECT $1::TEXT, $2::TEXT, $3::TEXT, $4::TEXT, $5::TEXT, $6::TEXT, $7::TEXT, $8::INTEGER, $9::TEXT,
          $10::TEXT, $11::JSONB, $12::JSONB, $13::JSONB, $14::TEXT, $15::TIMESTAMPTZ, $16::TIMESTAMPTZ,
          1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'tasks' AND t.key = $1), 0)
        WHERE EXISTS (SELECT 1 FROM teams WHERE id = $2) AND EXISTS (SELECT 1
          FROM projects WHERE name = $3)
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE work_tasks SET team_id = $3, project_name = $4, title = $5, description = $6, author = $7,
          branch = $8, pr_number = $9, status = $10, priority = $11, affected_files = $12, affected_areas = $13,
          progress_notes = $14, deploy_id = $15, created_at = $16, updated_at = $17, rev = rev + 1
        WHERE uid = $1 AND rev = $2
        RETURNING rev"""
    delete = """
        WITH gone AS (DELETE FROM work_tasks WHERE uid = $1 AND rev = $2 RETURNING uid, rev)
        INSERT INTO tombstones (noun, key, rev) SELECT 'tasks', uid, rev + 1 FROM gone
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

    async def of_project(
        self,
        project: str,
        *,
        statuses: Sequence[TaskStatus] | None = None,
        author: str | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> Page[Task]:
        rows = await self._session.all(
            self.select
            + """
            WHERE project_name = $1
              AND created_at <= coalesce($2::TIMESTAMPTZ, 'infinity')
              AND (created_at < coalesce($2, 'infinity') OR uid COLLATE "C" > $3)
              AND ($4::TEXT[] IS NULL OR status = ANY ($4))
              AND ($5::TEXT IS NULL OR author = $5)
            ORDER BY created_at DESC, uid COLLATE "C" LIMIT $6
            """,
            project,
            *moment_after(after),
            None if statuses is None else list(statuses),
            author,
            limit + 1,
        )
        return self._page(rows, limit, "created_at", "id")

    async def count_open(self, team_id: str) -> int:
        row = await self._session.one(
            """
            SELECT count(*) AS count FROM work_tasks
            WHERE team_id = $1 AND status IN ('draft', 'in-progress', 'review')
            """,
            team_id,
        )
        return 0 if row is None else int(row["count"])

    @staticmethod
    def _values(record: Task) -> tuple[object, ...]:
        return (
            record.team_id,
            record.project,
            record.title,
            record.description,
            record.author,
            record.branch,
            record.pr_number,
            record.status,
            record.priority,
            list(record.affected_files),
            list(record.affected_areas),
            [note.model_dump(mode="json") for note in record.progress_notes],
            record.deploy_id,
            record.created_at,
            record.updated_at,
        )
