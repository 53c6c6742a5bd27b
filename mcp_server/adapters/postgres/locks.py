"""Rows of locks and of their scopes. A removed lock stays as a released row: the history of who worked
where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from mcp_server.adapters.postgres.rows import Row, Rows
from mcp_server.adapters.postgres.together import Write
from mcp_server.domain.locks import Lock, LockScope, Near
from mcp_server.domain.paths import root_after, root_of, roots_above

_PAST_ALL = "\U0010ffff" * 64
"""In code point order after every root."""


class LockScopeRows(Rows[LockScope]):
    kind = LockScope
    select = "SELECT project_name AS project, fence, lost, rev FROM lock_scopes"
    where_key = " WHERE project_name = $1"

    async def _insert(self, record: LockScope) -> Row | None:
        return await self._session.one(
            """
            INSERT INTO lock_scopes (project_name, fence, lost, rev)
            SELECT $1::TEXT, $2::BIGINT, $3::JSONB,
              1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'lock_scopes' AND t.key = $1), 0)
            WHERE EXISTS (SELECT 1 FROM projects WHERE name = $1)
            ON CONFLICT DO NOTHING
            RETURNING rev
            """,
            record.project,
            record.fence,
            [lost.model_dump(mode="json") for lost in record.lost],
        )

    async def hold(self, key: str) -> LockScope | None:
        record = await super().hold(key)
        if record is not None:
            self._session.held[self._noun, key] = record.rev
        return record

    async def save(self, record: LockScope) -> LockScope:
        """A held scope is written with the next statement."""
        if self._session.held.get((self._noun, record.project)) != record.rev:
            return await super().save(record)
        self._session.must_write()
        await self._session.wait_with(self._updating(record))
        self._session.held[self._noun, record.project] = record.rev + 1
        return self._noted(record, base=record.rev, rev=record.rev + 1)

    async def _update(self, record: LockScope) -> Row | None:
        write = self._updating(record)
        return await self._session.one(write.sql, *write.arguments)

    def _updating(self, record: LockScope) -> Write:
        return Write(
            self._noun,
            record.project,
            """
            UPDATE lock_scopes SET fence = $3::BIGINT, lost = $4::JSONB, rev = rev + 1
            WHERE project_name = $1::TEXT AND rev = $2::BIGINT
            RETURNING rev
            """,
            (
                record.project,
                record.rev,
                record.fence,
                [lost.model_dump(mode="json") for lost in record.lost],
            ),
        )

    async def _delete(self, record: LockScope) -> Row | None:
        return await self._session.one(
            """
            WITH gone AS (DELETE FROM lock_scopes WHERE project_name = $1
              AND rev = $2 RETURNING project_name, rev)
            INSERT INTO tombstones (noun, key, rev) SELECT 'lock_scopes', project_name, rev + 1 FROM gone
            ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev
            RETURNING rev
            """,
            record.project,
            record.rev,
        )


class LockRows(Rows[Lock]):
    kind = Lock
    select = """
        SELECT uid AS id, team_id, project_name AS project, file_path AS path, lock_type AS mode, holder,
          key_id,
          task_uid AS task_id, agent, change_description, fence, locked_at, expires_at, lease_seconds, rev
        FROM work_task_files"""
    where_key = " WHERE uid = $1 AND status = 'locked'"
    _where_standing = " WHERE status = 'locked'"

    async def of_project(self, project: str) -> Sequence[Lock]:
        rows = await self._session.all(
            self.select
            + """
            WHERE project_name = $1 AND status = 'locked'
            ORDER BY file_path COLLATE "C", uid COLLATE "C"
            """,
            project,
        )
        return self._records(rows)

    async def near(
        self,
        project: str,
        paths: Sequence[str],
        holder: str,
        *,
        until: datetime,
        whole: bool,
        ids: Sequence[str] = (),
    ) -> Near:
        roots = {root_of(path) for path in paths}
        rows = await self._session.all(
            """
            WITH near AS (
              SELECT f.id FROM work_task_files f
              WHERE f.project_name = $1 AND f.status = 'locked' AND lock_root(f.file_path) COLLATE "C" = ANY ($2)
              UNION
              SELECT f.id FROM unnest($3::TEXT[], $4::TEXT[]) AS below (root, past) JOIN work_task_files f
                ON f.project_name = $1 AND f.status = 'locked'
                AND lock_root(f.file_path) COLLATE "C" > below.root
                AND lock_root(f.file_path) COLLATE "C" < below.past
              UNION
              SELECT f.id FROM work_task_files f
              WHERE f.project_name = $1 AND f.status = 'locked' AND f.expires_at <= $5
              UNION
              SELECT f.id FROM work_task_files f
              WHERE f.project_name = $1 AND f.status = 'locked' AND $7 AND md5(f.holder) = md5($6) AND f.holder = $6
            ), own AS (
              SELECT count(*) AS held FROM work_task_files f
              WHERE f.project_name = $1 AND f.status = 'locked' AND md5(f.holder) = md5($6) AND f.holder = $6
            )
            SELECT own.held,
              ARRAY(SELECT coalesce(t.rev, 0) FROM unnest($8::TEXT[]) WITH ORDINALITY AS id (key, place)
                LEFT JOIN tombstones t ON t.noun = 'locks' AND t.key = id.key ORDER BY id.place) AS gone,
              found.*
            FROM own LEFT JOIN (
            """  # noqa: S608  # literals of ours
            + self.select
            + """
            WHERE work_task_files.id IN (SELECT near.id FROM near)
            ) AS found ON true
            ORDER BY found.path COLLATE "C", found.id COLLATE "C"
            """,
            project,
            sorted({above for root in roots for above in roots_above(root)}),
            sorted(roots),
            [root_after(root) if root else _PAST_ALL for root in sorted(roots)],
            until,
            holder,
            whole,
            list(ids),
        )
        locks = tuple(self._record(row, without=("held", "gone")) for row in rows if row["id"] is not None)
        self._note_absent(project, dict(zip(ids, rows[0]["gone"], strict=True)), locks)
        return Near(locks, rows[0]["held"])

    def _note_absent(self, project: str, gone: Mapping[str, int], standing: Sequence[Lock]) -> None:
        """Under the held scope nobody else adds a lock, or removes one."""
        if (LockScope.noun, project) in self._session.held:
            there = {lock.id for lock in standing}
            self._session.absent |= {(self._noun, key): rev for key, rev in gone.items() if key not in there}

    async def of_task(self, task_id: str) -> Sequence[Lock]:
        rows = await self._session.all(
            self.select
            + """
            WHERE task_uid = $1 AND status = 'locked'
            ORDER BY file_path COLLATE "C", uid COLLATE "C"
            """,
            task_id,
        )
        return self._records(rows)

    async def add(self, record: Lock) -> Lock:
        """A lock that `near` has found absent is written with the next statement."""
        gone = self._session.absent.pop((self._noun, record.id), None)
        if gone is None:
            return await super().add(record)
        self._session.must_write()
        await self._session.wait_with(self._inserting(record))
        return self._noted(record, base=0, rev=gone + 1)

    async def _insert(self, record: Lock) -> Row | None:
        write = self._inserting(record)
        return await self._session.one(write.sql, *write.arguments)

    def _inserting(self, record: Lock) -> Write:
        return Write(
            self._noun,
            record.id,
            """
            INSERT INTO work_task_files (uid, task_id, task_uid, project_name, team_id, file_path, lock_type,
              holder, key_id,
              agent, change_description, status, fence, locked_at, expires_at, lease_seconds, rev)
            SELECT $1::TEXT, (SELECT id FROM work_tasks WHERE uid = $2), $2::TEXT, $3::TEXT, $4::TEXT,
              $5::TEXT, $6::TEXT,
              $7::TEXT, $8::TEXT, $9::TEXT, $10::TEXT, 'locked', $11::BIGINT, $12::TIMESTAMPTZ,
              $13::TIMESTAMPTZ, $14::INTEGER,
              1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'locks' AND t.key = $1), 0)
            WHERE EXISTS (SELECT 1 FROM projects WHERE name = $3)
            ON CONFLICT DO NOTHING
            RETURNING rev
            """,
            (
                record.id,
                record.task_id,
                record.project,
                record.team_id,
                record.path,
                record.mode,
                record.holder,
                record.key_id,
                record.agent,
                record.change_description,
                record.fence,
                record.locked_at,
                record.expires_at,
                record.lease_seconds,
            ),
        )

    async def _update(self, record: Lock) -> Row | None:
        return await self._session.one(
            """
            UPDATE work_task_files SET task_id = (SELECT id FROM work_tasks WHERE uid = $3),
              task_uid = $3::TEXT, project_name = $4::TEXT, team_id = $5, file_path = $6::TEXT,
              lock_type = $7::TEXT, holder = $8::TEXT, key_id = $9, agent = $10, change_description = $11,
              fence = $12, locked_at = $13, expires_at = $14, lease_seconds = $15, rev = rev + 1
            WHERE uid = $1 AND rev = $2 AND status = 'locked' AND NOT EXISTS (
              SELECT 1 FROM work_task_files o
              WHERE o.project_name = $4 AND o.file_path = $6 AND o.status = 'locked' AND o.uid <> $1
                AND (o.holder = $8 OR (o.lock_type = 'editing' AND $7 = 'editing')))
            RETURNING rev
            """,
            record.id,
            record.rev,
            record.task_id,
            record.project,
            record.team_id,
            record.path,
            record.mode,
            record.holder,
            record.key_id,
            record.agent,
            record.change_description,
            record.fence,
            record.locked_at,
            record.expires_at,
            record.lease_seconds,
        )

    async def _delete(self, record: Lock) -> Row | None:
        return await self._session.one(
            """
            WITH ended AS (
              UPDATE work_task_files SET status = 'released', released_at = clock_timestamp(), rev = rev + 1
              WHERE uid = $1 AND rev = $2 AND status = 'locked'
              RETURNING uid, rev
            )
            INSERT INTO tombstones (noun, key, rev) SELECT 'locks', uid, rev FROM ended
            ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev
            RETURNING rev
            """,
            record.id,
            record.rev,
        )
