"""What databases hold, said so that two can be compared: rows counted and hashed, whatever their order."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio.to_thread

from mcp_server.adapters.project_sql.definitions import settled
from mcp_server.adapters.project_sql.sessions import session
from mcp_server.adapters.project_sql.sqlite import require_plain
from mcp_server.domain.backups import TableSum
from mcp_server.domain.databases import Login
from mcp_server.domain.errors import Conflict, QuaymasterError, Unavailable
from mcp_server.domain.queries import SqliteFile
from mcp_server.ports.backups import Seen

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

T = TypeVar("T")
DEFINITIONS = "(definitions)"
OURS = """
    n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
"""
"""Objects `c` in schemas `n` that neither PostgreSQL nor an extension made."""


class ProjectSums:
    @asynccontextmanager
    async def moment(self, login: Login, *, seconds: float) -> AsyncIterator[Seen]:
        import asyncpg

        async with session(login, seconds=seconds, read_only=False) as connection:
            try:
                await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                seen = Seen(
                    snapshot=await connection.fetchval("SELECT pg_export_snapshot()"),
                    tables=await postgres_tables(connection),
                    extensions=await _extensions(connection),
                    version=await connection.fetchval("SHOW server_version"),
                    bytes=await connection.fetchval("SELECT pg_database_size(current_database())"),
                )
            except asyncpg.PostgresError as error:
                state: str | None = error.sqlstate
            else:
                state = None
                yield seen
        if state is not None:
            raise _failed(state)

    async def tables(self, login: Login, *, seconds: float) -> Sequence[TableSum]:
        import asyncpg

        async with session(login, seconds=seconds, read_only=False) as connection:
            try:
                await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                return await postgres_tables(connection)
            except asyncpg.PostgresError as error:
                state = error.sqlstate
        raise _failed(state)


def _failed(state: str | None) -> Unavailable:
    return Unavailable(f"the contents of the database could not be read (SQLSTATE {state})")


async def _extensions(connection: asyncpg.Connection) -> tuple[str, ...]:
    rows = await connection.fetch("SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1")
    return tuple(row["extname"] for row in rows)


async def postgres_tables(connection: asyncpg.Connection) -> tuple[TableSum, ...]:
    """With an empty search path: every name is written out, and nobody's functions are in the way."""
    await connection.execute("SET LOCAL search_path TO ''")
    await connection.execute("SET LOCAL row_security TO off")
    found: list[TableSum] = []
    tables = await connection.fetch(
        f"""
        SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relkind::TEXT AS kind
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'S') AND {OURS} ORDER BY 1
        """  # noqa: S608  # a constant of this module
    )
    for row in tables:
        one = _sequence if row["kind"] == "S" else _table
        found.append(await one(connection, row["name"]))
    found.append(await _definitions(connection))
    return tuple(sorted(found, key=lambda table: table.name))


async def _table(connection: asyncpg.Connection, name: str) -> TableSum:
    """The sum of both halves of each row's MD5: equal contents in any order, and how often each row is there."""
    row = await connection.fetchrow(
        f"""
        SELECT count(*) AS rows,
          coalesce(sum(('x' || left(h, 16))::BIT(64)::BIGINT::NUMERIC), 0)::TEXT || '/'
            || coalesce(sum(('x' || right(h, 16))::BIT(64)::BIGINT::NUMERIC), 0)::TEXT AS hash
        FROM (SELECT md5((t.*)::TEXT) AS h FROM ONLY {name} t) rows
        """  # noqa: S608  # quoted by the server
    )
    assert row is not None  # noqa: S101  # an aggregate has a row
    return TableSum(name=name, rows=row["rows"], hash=row["hash"])


async def _sequence(connection: asyncpg.Connection, name: str) -> TableSum:
    row = await connection.fetchrow(f"SELECT last_value, is_called FROM {name}")  # noqa: S608  # quoted by the server
    assert row is not None  # noqa: S101  # a sequence has a row
    return TableSum(name=f"sequence {name}", rows=1, hash=f"{row['last_value']}/{row['is_called']}")


async def _definitions(connection: asyncpg.Connection) -> TableSum:
    """Columns, constraints, finished indexes (no dump has others), views, functions, triggers and types, as PostgreSQL writes them."""
    rows = await connection.fetch(
        f"""
        SELECT format('column %I.%I.%I %s %s %s', n.nspname, c.relname, a.attname,
            format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(f.adbin, f.adrelid)) AS it
          FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
          LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
          WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'c') AND {OURS}
        UNION ALL SELECT format('constraint %I.%I %s', n.nspname, c.conname, pg_get_constraintdef(c.oid))
          FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace WHERE {OURS}
        UNION ALL SELECT 'index ' || pg_get_indexdef(c.oid)
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_index i ON i.indexrelid = c.oid
          WHERE c.relkind IN ('i', 'I') AND i.indisready AND (i.indisvalid OR c.relkind = 'I') AND {OURS}
        UNION ALL SELECT format('view %I.%I %s', n.nspname, c.relname, pg_get_viewdef(c.oid))
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'm') AND {OURS}
        UNION ALL SELECT 'function ' || pg_get_functiondef(c.oid)
          FROM pg_proc c JOIN pg_namespace n ON n.oid = c.pronamespace WHERE c.prokind IN ('f', 'p') AND {OURS}
        UNION ALL SELECT 'trigger ' || pg_get_triggerdef(t.oid)
          FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE NOT t.tgisinternal AND {OURS}
        UNION ALL SELECT format('label %I.%I %s %s', n.nspname, c.typname, e.enumlabel,
            rank() OVER (PARTITION BY c.oid ORDER BY e.enumsortorder))
          FROM pg_enum e JOIN pg_type c ON c.oid = e.enumtypid JOIN pg_namespace n ON n.oid = c.typnamespace
          WHERE {OURS}
        ORDER BY 1
        """  # noqa: S608  # a constant of this module
    )
    lines = sorted(settled(row["it"]) for row in rows)
    return TableSum(
        name=DEFINITIONS, rows=len(lines), hash=hashlib.sha256("\0".join(lines).encode()).hexdigest()
    )


class FileCopies:
    async def copy(self, source: SqliteFile, target: str) -> Sequence[TableSum]:
        return await _in_thread(partial(_copy, source, target))

    async def tables(self, path: str) -> Sequence[TableSum]:
        return await _in_thread(partial(_sqlite_tables, path))

    async def size(self, path: str) -> int:
        return await _in_thread(partial(os.path.getsize, path))

    async def replace(self, target: SqliteFile, new: str) -> None:
        await _in_thread(partial(_replace, target, new))


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        return await anyio.to_thread.run_sync(work)
    except QuaymasterError:
        raise
    except (OSError, sqlite3.Error) as error:
        code = getattr(error, "sqlite_errorname", "") or type(error).__name__
        raise Unavailable(f"the database's file cannot be used ({code})") from error


def _copy(source: SqliteFile, target: str) -> tuple[TableSum, ...]:
    """By the backup API: one moment, while others go on writing."""
    require_plain(source)
    with (
        contextlib.closing(_connected(source.path, "ro")) as live,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        live.backup(copy, pages=4096)
        copy.execute("PRAGMA journal_mode = DELETE")
    os.chmod(target, 0o600)
    return _sqlite_tables(target)


def _connected(path: str, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{Path(path).as_uri()}?mode={mode}", uri=True, timeout=10, isolation_level=None)


def _sqlite_tables(path: str) -> tuple[TableSum, ...]:
    with contextlib.closing(_connected(path, "ro")) as connection:
        faults = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if faults != "ok":
            raise Unavailable("the database's file is damaged: PRAGMA integrity_check complains")
        connection.execute("BEGIN")
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name"
        ).fetchall()
        found = [_rows_of(connection, row[0]) for row in names]
        lines = connection.execute(
            "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY 1, 2"
        ).fetchall()
        versions = [
            connection.execute(f"PRAGMA {name}").fetchone() for name in ("user_version", "application_id")
        ]
        digest = hashlib.sha256(repr((lines, versions)).encode()).hexdigest()
        return (*found, TableSum(name=DEFINITIONS, rows=len(lines), hash=digest))


def _rows_of(connection: sqlite3.Connection, name: str) -> TableSum:
    quoted = '"' + name.replace('"', '""') + '"'
    total, count = 0, 0
    for row in connection.execute(f"SELECT * FROM {quoted}"):  # noqa: S608  # quoted above
        total += int.from_bytes(hashlib.sha256(repr(row).encode("utf-8", "surrogatepass")).digest())
        count += 1
    return TableSum(name=name, rows=count, hash=f"{total % 2**256:064x}")


def _replace(target: SqliteFile, new: str) -> None:
    """Leaving WAL needs the file alone: whoever has it open would go on with the old one, unseen."""
    require_plain(target)
    with contextlib.closing(_connected(target.path, "rw")) as live:
        live.execute("PRAGMA busy_timeout = 2000")
        try:
            live.execute("PRAGMA locking_mode = EXCLUSIVE")
            mode = live.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
            live.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            mode = "busy"
        if mode != "delete":
            raise Conflict(
                "others have the database open",
                next="Stop what uses it, then call again; nothing was changed.",
            )
        with contextlib.closing(sqlite3.connect(new)) as fresh:
            fresh.execute("PRAGMA journal_mode = WAL")
        os.chmod(new, 0o600)
        descriptor = os.open(new, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(new, target.path)
        folder = os.open(Path(target.path).parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
