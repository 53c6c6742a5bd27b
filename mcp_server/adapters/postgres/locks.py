"""Rows of locks and of their scopes. A removed lock stays for a month as a released row: the history of who worked
where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from mcp_server.adapters.postgres.rows import Row, Rows
from mcp_server.domain.locks import Lock, LockScope, Near
from mcp_server.domain.paths import root_after, root_of, roots_above

_COLUMNS = """
    f.uid AS id, f.team_id, f.project_name AS project, f.file_path AS path, f.lock_type AS mode, f.holder, f.key_id,
    f.task_uid AS task_id, f.agent, f.change_description, f.fence, f.locked_at, f.expires_at, f.lease_seconds, f.rev
    """

_BESIDE = ("held_at", "scope_project", "scope_fence", "scope_lost", "scope_rev", "held", "gone")
"""Columns of the same statement that are not a lock's."""

_PAST_ALL = "\U0010ffff" * 64
"""In code point order after every root."""


class LockScopeRows(Rows[LockScope]):
    kind = LockScope
    select = "SELECT project_name AS project, fence, lost, rev FROM lock_scopes"
    where_key = " WHERE project_name = $1"
    insert = """
        INSERT INTO lock_scopes (project_name, fence, lost, rev)
        SELECT $1::TEXT, $2::BIGINT, $3::JSONB,
          1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'lock_scopes' AND t.key = $1), 0)
        WHERE EXISTS (SELECT 1 FROM projects WHERE name = $1)
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE lock_scopes SET fence = $3::BIGINT, lost = $4::JSONB, rev = rev + 1
        WHERE project_name = $1::TEXT AND rev = $2::BIGINT
        RETURNING rev"""
    delete = """
        WITH gone AS (DELETE FROM lock_scopes WHERE project_name = $1
          AND rev = $2 RETURNING project_name, rev)
        INSERT INTO tombstones (noun, key, rev) SELECT 'lock_scopes', project_name, rev + 1 FROM gone
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

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
        await self._session.wait_with(self._replacement(record))
        self._session.held[self._noun, record.project] = record.rev + 1
        return self._noted(record, base=record.rev, rev=record.rev + 1)

    @staticmethod
    def _values(record: LockScope) -> tuple[object, ...]:
        return (record.fence, [lost.model_dump(mode="json") for lost in record.lost])


class LockRows(Rows[Lock]):
    kind = Lock
    select = f"SELECT {_COLUMNS} FROM work_task_files AS f"  # noqa: S608  # literals of ours
    where_key = " WHERE uid = $1 AND status = 'locked'"
    _where_standing = " WHERE status = 'locked'"
    insert = """
        INSERT INTO work_task_files (uid, task_id, task_uid, project_name, team_id, file_path, lock_type,
          holder, key_id, agent, change_description, status, fence, locked_at, expires_at, lease_seconds, rev)
        SELECT $1::TEXT, (SELECT id FROM work_tasks WHERE uid = $2), $2::TEXT, $3::TEXT, $4::TEXT, $5::TEXT,
          $6::TEXT, $7::TEXT, $8::TEXT, $9::TEXT, $10::TEXT, 'locked', $11::BIGINT, $12::TIMESTAMPTZ,
          $13::TIMESTAMPTZ, $14::INTEGER,
          1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'locks' AND t.key = $1), 0)
        WHERE EXISTS (SELECT 1 FROM projects WHERE name = $3)
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE work_task_files SET task_id = (SELECT id FROM work_tasks WHERE uid = $3), task_uid = $3::TEXT,
          project_name = $4::TEXT, team_id = $5, file_path = $6::TEXT, lock_type = $7::TEXT, holder = $8::TEXT,
          key_id = $9, agent = $10, change_description = $11, fence = $12, locked_at = $13, expires_at = $14,
          lease_seconds = $15, rev = rev + 1
        WHERE uid = $1 AND rev = $2 AND status = 'locked' AND NOT EXISTS (
          SELECT 1 FROM work_task_files o
          WHERE o.project_name = $4 AND o.file_path = $6 AND o.status = 'locked' AND o.uid <> $1
            AND (o.holder = $8 OR (o.lock_type = 'editing' AND $7 = 'editing')))
        RETURNING rev"""
    delete = """
        WITH ended AS (
          UPDATE work_task_files SET status = 'released', released_at = clock_timestamp(), rev = rev + 1
          WHERE uid = $1 AND rev = $2 AND status = 'locked'
          RETURNING uid, rev
        )
        INSERT INTO tombstones (noun, key, rev) SELECT 'locks', uid, rev FROM ended
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

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
    ) -> Near:
        rows = await self._session.all(
            f"""
            SELECT own.held, own.gone, {_COLUMNS}
            FROM locks_of_holder($1, $6, ARRAY[]::TEXT[]) AS own
              LEFT JOIN LATERAL locks_near($1, $2, $3, $4, $5, $6, $7) AS f ON true
            ORDER BY f.file_path COLLATE "C", f.uid COLLATE "C"
            """,  # noqa: S608  # literals of ours
            project,
            *_roots(paths),
            until,
            holder,
            whole,
        )
        return self._near(project, rows, ())

    async def hold_near(
        self,
        project: str,
        paths: Sequence[str],
        holder: str,
        *,
        ahead: timedelta,
        whole: bool,
        ids: Sequence[str] = (),
    ) -> tuple[LockScope, Near] | None:
        """One statement; its functions see what was committed while it waited for the scope."""
        rows = await self._session.all(
            f"""
            SELECT scope.held_at, scope.project AS scope_project, scope.fence AS scope_fence,
              scope.lost AS scope_lost, scope.rev AS scope_rev, own.held, own.gone, {_COLUMNS}
            FROM hold_lock_scope($1) AS scope
              CROSS JOIN LATERAL locks_of_holder(scope.project, $6, $8) AS own
              LEFT JOIN LATERAL
                locks_near(scope.project, $2, $3, $4, scope.held_at + $5::INTERVAL, $6, $7) AS f ON true
            ORDER BY f.file_path COLLATE "C", f.uid COLLATE "C"
            """,  # noqa: S608  # literals of ours
            project,
            *_roots(paths),
            ahead,
            holder,
            whole,
            list(ids),
        )
        if not rows:
            return None
        scope = LockScope.model_validate(
            {name: rows[0][f"scope_{name}"] for name in ("project", "fence", "lost", "rev")}
        )
        self._session.time = rows[0]["held_at"]
        self._session.held[LockScope.noun, project] = scope.rev
        return scope, self._near(project, rows, ids)

    def _near(self, project: str, rows: Sequence[Row], ids: Sequence[str]) -> Near:
        locks = tuple(self._record(row, without=_BESIDE) for row in rows if row["id"] is not None)
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

    async def ended_in(self, now: datetime, *, limit: int) -> Sequence[str]:
        rows = await self._session.all(
            """
            SELECT DISTINCT project_name COLLATE "C" AS project FROM work_task_files
            WHERE status = 'locked' AND expires_at <= $1
            ORDER BY project_name COLLATE "C" LIMIT $2
            """,
            now,
            limit,
        )
        return [row["project"] for row in rows]

    async def add(self, record: Lock) -> Lock:
        """A lock that `near` has found absent is written with the next statement."""
        gone = self._session.absent.pop((self._noun, record.id), None)
        if gone is None:
            return await super().add(record)
        self._session.must_write()
        await self._session.wait_with(self._insertion(record))
        return self._noted(record, base=0, rev=gone + 1)

    @staticmethod
    def _values(record: Lock) -> tuple[object, ...]:
        return (
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


def _roots(paths: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """The roots at or above those of the paths, those of the paths, and what comes past everything below each."""
    roots = sorted({root_of(path) for path in paths})
    above = sorted({above for root in roots for above in roots_above(root)})
    return above, roots, [root_after(root) if root else _PAST_ALL for root in roots]
