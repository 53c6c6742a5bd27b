"""How a project's database is doing, in plain JSON."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from mcp_server.adapters.project_sql.sessions import session
from mcp_server.adapters.project_sql.sqlite import opened
from mcp_server.domain.databases import Login
from mcp_server.domain.errors import Unavailable
from mcp_server.domain.queries import Bounds, SqliteFile

if TYPE_CHECKING:
    import asyncpg

TABLES = 20
SLOW = 10


async def of_postgres(login: Login, seconds: float) -> dict[str, Any]:
    import asyncpg

    async with session(login, seconds=seconds, read_only=True) as connection:
        try:
            async with connection.transaction(readonly=True):
                return {
                    "engine": "postgres",
                    "version": await connection.fetchval("SHOW server_version"),
                    **await _database(connection),
                    "connections": await _connections(connection),
                    "tables": await _tables(connection),
                    "slow_statements": await _slow(connection),
                }
        except asyncpg.PostgresError as error:
            state = error.sqlstate
    raise Unavailable(f"PostgreSQL did not give its figures (SQLSTATE {state})")


async def _database(connection: asyncpg.Connection) -> dict[str, Any]:
    row = await connection.fetchrow(
        """
        SELECT pg_database_size(current_database()) AS size_bytes, numbackends, xact_commit, xact_rollback,
          round(100.0 * blks_hit / nullif(blks_hit + blks_read, 0), 1)::FLOAT AS cache_hit_percent,
          deadlocks, temp_bytes, current_setting('max_connections')::INT AS max_connections
        FROM pg_stat_database WHERE datname = current_database()
        """
    )
    return {} if row is None else dict(row.items())


async def _connections(connection: asyncpg.Connection) -> dict[str, int]:
    rows = await connection.fetch(
        """
        SELECT coalesce(state, 'unknown') AS state, count(*)::INT AS count FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() GROUP BY 1 ORDER BY 1
        """
    )
    return {row["state"]: row["count"] for row in rows}


async def _tables(connection: asyncpg.Connection) -> list[dict[str, Any]]:
    rows = await connection.fetch(
        """
        SELECT format('%I.%I', schemaname, relname) AS name, pg_total_relation_size(relid) AS bytes,
          n_live_tup AS rows_estimated, n_dead_tup AS dead_rows, seq_scan, coalesce(idx_scan, 0) AS index_scans
        FROM pg_stat_user_tables ORDER BY pg_total_relation_size(relid) DESC, relid LIMIT $1
        """,
        TABLES,
    )
    return [dict(row.items()) for row in rows]


async def _slow(connection: asyncpg.Connection) -> list[dict[str, Any]]:
    """From pg_stat_statements, in which constants are left out; else what runs now, without its text."""
    schema = await connection.fetchval(
        """
        SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
        WHERE e.extname = 'pg_stat_statements'
        """
    )
    if schema is None:
        rows = await connection.fetch(
            """
            SELECT round(extract(epoch FROM clock_timestamp() - query_start)::NUMERIC, 3)::FLOAT AS seconds, state,
              wait_event_type FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active'
              AND query_start < clock_timestamp() - interval '1 second'
            ORDER BY query_start LIMIT $1
            """,
            SLOW,
        )
    else:
        # The schema is a name that the server quoted.
        rows = await connection.fetch(
            "SELECT left(query, 300) AS statement, calls, round(mean_exec_time::NUMERIC, 2)::FLOAT AS mean_ms,"  # noqa: S608
            " round(total_exec_time::NUMERIC, 1)::FLOAT AS total_ms, rows"
            f" FROM {schema}.pg_stat_statements"
            " WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " ORDER BY total_exec_time DESC LIMIT $1",
            SLOW,
        )
    return [dict(row.items()) for row in rows]


async def of_sqlite(target: SqliteFile, seconds: float) -> dict[str, Any]:
    return await anyio.to_thread.run_sync(_of_file, target, Bounds(seconds=seconds), abandon_on_cancel=True)


def _of_file(target: SqliteFile, bounds: Bounds) -> dict[str, Any]:
    with opened(target, "ro", bounds, threading.Event()) as connection:
        names = [
            row[0]
            for row in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
                " ORDER BY name LIMIT 200"
            )
        ]
        tables = [{"name": name, "rows": _count(connection, name)} for name in names]
        tables.sort(key=lambda table: -int(table["rows"]))
        return {
            "engine": "sqlite",
            "version": sqlite3.sqlite_version,
            "size_bytes": _size(target.path),
            "free_pages": connection.execute("PRAGMA freelist_count").fetchone()[0],
            "tables": tables[:TABLES],
        }


def _count(connection: sqlite3.Connection, name: str) -> int:
    quoted = '"' + name.replace('"', '""') + '"'
    with closing(connection.execute(f"SELECT count(*) FROM {quoted}")) as found:  # noqa: S608  # quoted above
        return int(found.fetchone()[0])


def _size(path: str) -> int:
    return sum(os.path.getsize(path + end) for end in ("", "-wal") if Path(path + end).exists())
