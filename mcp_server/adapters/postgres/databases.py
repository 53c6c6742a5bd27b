"""Rows of databases, of servers that belong to no project, and of ports."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_server.adapters.postgres.rows import Rows, as_json, texts_after
from mcp_server.domain.databases import Database, DatabaseServer, PortAllocation
from mcp_server.domain.pages import DEFAULT_LIMIT, Page


class DatabaseRows(Rows[Database]):
    kind = Database
    select = """
        SELECT project_name AS project, environment, uid, project_uid, team_id, home, host, host_name, engine,
          requested, isolation, stage, worker, wanted, place, access, next_access, path, adopted, claimed,
          extensions, fallback, remembered, final_backup, created_at, updated_at, rotated_at, rev
        FROM databases"""
    where_key = " WHERE uid_key = $1"
    insert = """
        INSERT INTO databases (project_name, environment, uid, project_uid, team_id, home, host, host_name,
          engine, requested, isolation, stage, worker, wanted, place, access, next_access, path, adopted,
          claimed, extensions, fallback, remembered, final_backup, created_at, updated_at, rotated_at, rev)
        SELECT $2::TEXT, $3::TEXT, $4::TEXT, $5::TEXT, $6::TEXT, $7::TEXT, $8::TEXT, $9::TEXT, $10::TEXT,
          $11::TEXT, $12::TEXT, $13::TEXT, $14::TEXT, $15::TEXT, $16::JSONB, $17::JSONB, $18::JSONB, $19::TEXT,
          $20::BOOLEAN, $21::TEXT, $22::JSONB, $23::TEXT, $24::TEXT, $25::BOOLEAN, $26::TIMESTAMPTZ,
          $27::TIMESTAMPTZ, $28::TIMESTAMPTZ,
          1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'databases' AND t.key = $1), 0)
        WHERE EXISTS (SELECT 1 FROM projects WHERE name = $2) AND EXISTS (SELECT 1 FROM teams WHERE id = $6)
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE databases SET uid = $3, project_uid = $4, team_id = $5, home = $6, host = $7, host_name = $8,
          engine = $9, requested = $10, isolation = $11, stage = $12, worker = $13, wanted = $14, place = $15,
          access = $16, next_access = $17, path = $18, adopted = $19, claimed = $20, extensions = $21,
          fallback = $22, remembered = $23, final_backup = $24, created_at = $25, updated_at = $26,
          rotated_at = $27, rev = rev + 1
        WHERE uid_key = $1 AND rev = $2
        RETURNING rev"""
    delete = """
        WITH gone AS (DELETE FROM databases WHERE uid_key = $1 AND rev = $2 RETURNING uid_key, rev)
        INSERT INTO tombstones (noun, key, rev) SELECT 'databases', uid_key, rev + 1 FROM gone
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

    async def of_project(self, project: str) -> Sequence[Database]:
        rows = await self._session.all(
            self.select + ' WHERE project_name = $1 ORDER BY uid_key COLLATE "C"', project
        )
        return self._records(rows)

    async def of_home(self, home: str) -> Sequence[Database]:
        rows = await self._session.all(self.select + ' WHERE home = $1 ORDER BY uid_key COLLATE "C"', home)
        return self._records(rows)

    async def of_team(
        self, team_id: str, *, limit: int = DEFAULT_LIMIT, after: str | None = None
    ) -> Page[Database]:
        rows = await self._session.all(
            self.select
            + """
            WHERE team_id = $1 AND uid_key COLLATE "C" > coalesce($2::TEXT, '')
            ORDER BY uid_key COLLATE "C" LIMIT $3
            """,
            team_id,
            *texts_after(after, 1),
            limit + 1,
        )
        return self._page(rows, limit, "key")

    async def count_of_team(self, team_id: str) -> int:
        row = await self._session.one("SELECT count(*) AS count FROM databases WHERE team_id = $1", team_id)
        return 0 if row is None else int(row["count"])

    @staticmethod
    def _names(record: Database) -> tuple[object, ...]:
        return (record.project, record.environment)

    @staticmethod
    def _values(record: Database) -> tuple[object, ...]:
        return (
            record.uid,
            record.project_uid,
            record.team_id,
            record.home,
            record.host,
            record.host_name,
            record.engine,
            record.requested,
            record.isolation,
            record.stage,
            record.worker,
            record.wanted,
            as_json(record.place),
            as_json(record.access),
            as_json(record.next_access),
            record.path,
            record.adopted,
            record.claimed,
            list(record.extensions),
            record.fallback,
            record.remembered,
            record.final_backup,
            record.created_at,
            record.updated_at,
            record.rotated_at,
        )


class DatabaseServerRows(Rows[DatabaseServer]):
    kind = DatabaseServer
    select = """
        SELECT id, kind, home, host, stage, worker, place, access, extensions, isolation, keep_volume,
          also_named, created_at, rev
        FROM database_servers"""
    where_key = " WHERE id = $1"
    insert = """
        INSERT INTO database_servers (id, kind, home, host, stage, worker, place, access, extensions, isolation,
          keep_volume, also_named, created_at, rev)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
          1 + coalesce((SELECT t.rev FROM tombstones t
            WHERE t.noun = 'database_servers' AND t.key = $1), 0))
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE database_servers SET kind = $3, home = $4, host = $5, stage = $6, worker = $7, place = $8,
          access = $9, extensions = $10, isolation = $11, keep_volume = $12, also_named = $13, created_at = $14,
          rev = rev + 1
        WHERE id = $1 AND rev = $2
        RETURNING rev"""
    delete = """
        WITH gone AS (DELETE FROM database_servers WHERE id = $1 AND rev = $2 RETURNING id, rev)
        INSERT INTO tombstones (noun, key, rev) SELECT 'database_servers', id, rev + 1 FROM gone
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

    async def of_home(self, home: str) -> Sequence[DatabaseServer]:
        rows = await self._session.all(self.select + ' WHERE home = $1 ORDER BY id COLLATE "C"', home)
        return self._records(rows)

    @staticmethod
    def _values(record: DatabaseServer) -> tuple[object, ...]:
        return (
            record.kind,
            record.home,
            record.host,
            record.stage,
            record.worker,
            as_json(record.place),
            as_json(record.access),
            list(record.extensions),
            record.isolation,
            record.keep_volume,
            record.also_named,
            record.created_at,
        )


class PortRows(Rows[PortAllocation]):
    kind = PortAllocation
    select = "SELECT host, port, holder, purpose, created_at, rev FROM ports"
    where_key = " WHERE uid = $1"
    insert = """
        INSERT INTO ports (host, port, holder, purpose, created_at, rev)
        VALUES ($2, $3, $4, $5, $6,
          1 + coalesce((SELECT t.rev FROM tombstones t WHERE t.noun = 'ports' AND t.key = $1), 0))
        ON CONFLICT DO NOTHING
        RETURNING rev"""
    update = """
        UPDATE ports SET holder = $3, purpose = $4, created_at = $5, rev = rev + 1
        WHERE uid = $1 AND rev = $2
        RETURNING rev"""
    delete = """
        WITH gone AS (DELETE FROM ports WHERE uid = $1 AND rev = $2 RETURNING uid, rev)
        INSERT INTO tombstones (noun, key, rev) SELECT 'ports', uid, rev + 1 FROM gone
        ON CONFLICT (noun, key) DO UPDATE SET rev = excluded.rev, at = excluded.at
        RETURNING rev"""

    async def of_host(self, host: str) -> Sequence[PortAllocation]:
        return self._records(await self._session.all(self.select + " WHERE host = $1 ORDER BY port", host))

    @staticmethod
    def _names(record: PortAllocation) -> tuple[object, ...]:
        return (record.host, record.port)

    @staticmethod
    def _values(record: PortAllocation) -> tuple[object, ...]:
        return (
            record.holder,
            record.purpose,
            record.created_at,
        )
