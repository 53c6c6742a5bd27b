"""From a SQLite file into PostgreSQL: what the file holds, brought over in one transaction, compared row by row.

Both sides are read back and written in one canonical form; a row that differs in anything differs in its hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread

from mcp_server.adapters.project_sql.sessions import CONNECT_SECONDS
from mcp_server.adapters.project_sql.sqlite import require_plain
from mcp_server.domain.backups import TableSum
from mcp_server.domain.databases import Login
from mcp_server.domain.errors import Conflict, QuaymasterError, Unavailable
from mcp_server.domain.queries import SqliteFile
from mcp_server.domain.typemap import (
    Form,
    Mapped,
    MappedTable,
    SqliteColumn,
    SqliteIndex,
    SqliteKey,
    SqliteSchema,
    SqliteTable,
    Storage,
    quoted,
    words_of,
)

T = TypeVar("T")
BATCH = 2000
DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}:\d{2})?")


class SqliteToPostgres:
    async def schema(self, path: str) -> SqliteSchema:
        return await _in_thread(partial(_schema, path))

    @asynccontextmanager
    async def held(self, source: SqliteFile) -> AsyncIterator[None]:
        connection = await _in_thread(partial(_hold, source))
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(connection.close)

    async def load(self, path: str, login: Login, tables: Sequence[MappedTable]) -> None:
        import asyncpg

        connection = await _connected(login)
        try:
            async with connection.transaction():
                for table in tables:
                    await connection.execute(table.create)
                for table in tables:
                    async for batch in _batches(path, table):
                        await connection.copy_records_to_table(
                            table.name, records=batch, columns=[column.name for column in table.columns]
                        )
                for table in tables:
                    for statement in table.finish:
                        await connection.execute(statement)
                for table in tables:
                    for statement in table.link:
                        await connection.execute(statement)
        except asyncpg.PostgresError as error:
            why = f"{type(error).__name__.removesuffix('Error')}, SQLSTATE {error.sqlstate}"
        except (asyncpg.InterfaceError, OSError, OverflowError) as error:
            why = type(error).__name__
        else:
            why = ""
        finally:
            connection.terminate()
        if why:
            raise Unavailable(f"PostgreSQL did not take the contents ({why}); nothing was switched")

    async def sqlite_sums(self, path: str, tables: Sequence[MappedTable]) -> Sequence[TableSum]:
        return await _in_thread(lambda: [_sum(table.name, _values(path, table), table) for table in tables])

    async def postgres_sums(self, login: Login, tables: Sequence[MappedTable]) -> Sequence[TableSum]:
        """Also what is there besides, as tables that no file has."""
        import asyncpg

        connection = await _connected(login)
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                sums = [await _postgres_sum(connection, table) for table in tables]
                known = [table.name for table in tables]
                others = await connection.fetch(
                    """
                    SELECT format('%I.%I', n.nspname, c.relname) AS name
                    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname !~ '^pg_'
                      AND n.nspname <> 'information_schema' AND NOT (n.nspname = 'public' AND c.relname = ANY($1))
                      AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
                    ORDER BY 1
                    """,
                    known,
                )
                return [*sums, *(TableSum(name=row["name"], rows=0, hash="") for row in others)]
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            why = type(error).__name__
        finally:
            connection.terminate()
        raise Unavailable(f"PostgreSQL's contents could not be read ({why})")


# -- looking at the file -----------------------------------------------------------------------------------


def _schema(path: str) -> SqliteSchema:
    with contextlib.closing(_reading(path)) as connection:
        connection.execute("BEGIN")
        found = connection.execute(
            "SELECT type, name, coalesce(sql, '') FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
            "ORDER BY type, name"
        ).fetchall()
        tables = tuple(_table(connection, name, sql) for kind, name, sql in found if kind == "table")
        others = tuple(f"{kind} {name}" for kind, name, _ in found if kind in ("view", "trigger"))
        return SqliteSchema(tables=tables, others=others)


def _table(connection: sqlite3.Connection, name: str, sql: str) -> SqliteTable:
    words = words_of(sql)
    if "VIRTUAL" in words:
        return SqliteTable(name=name, rows=0, columns=(), virtual=True)
    listed = connection.execute(f"PRAGMA table_xinfo({quoted(name)})").fetchall()
    return SqliteTable(
        name=name,
        rows=connection.execute(f"SELECT count(*) FROM {quoted(name)}").fetchone()[0],  # noqa: S608  # quoted
        columns=tuple(_column(connection, name, row) for row in listed),
        indexes=tuple(_indexes(connection, name)),
        keys=tuple(_keys(connection, name)),
        words=words,
        sequence=_sequence(connection, name),
    )


def _column(connection: sqlite3.Connection, table: str, row: Sequence[Any]) -> SqliteColumn:
    _, name, declared, not_null, default, key, hidden = row
    held, forms = _looked_at(connection, table, name) if not hidden else (frozenset(), frozenset())
    return SqliteColumn(
        name=name,
        declared=declared or "",
        not_null=bool(not_null),
        default=default,
        key=key,
        hidden=hidden,
        held=held,
        forms=forms,
    )


def _looked_at(
    connection: sqlite3.Connection, table: str, name: str
) -> tuple[frozenset[Storage], frozenset[Form]]:
    """Every value is looked at once."""
    held: set[Storage] = set()
    common: set[Form] | None = None
    bad: set[Form] = set()
    bits = True
    rows = connection.execute(f"SELECT {quoted(name)} FROM {quoted(table)}")  # noqa: S608  # quoted
    for (value,) in rows:
        held.add(_storage(value))
        if isinstance(value, int):
            bits = bits and value in (0, 1)
        elif isinstance(value, float) and not math.isfinite(value):
            bad.add("infinite")
        elif isinstance(value, (str, Unreadable)):
            forms = _forms(value)
            bad |= forms & {"nul"}
            common = forms if common is None else common & forms
    found = (common or set()) | bad
    if bits and "integer" in held:
        found.add("bit")
    return frozenset(held), frozenset(found)


class Unreadable:
    """Text in a file that is not UTF-8."""


def _storage(value: object) -> Storage:
    names: dict[type, Storage] = {
        type(None): "null", int: "integer", float: "real", str: "text", bytes: "blob", Unreadable: "text",
    }  # fmt: skip
    return names[type(value)]


def _forms(value: str | Unreadable) -> set[Form]:
    if isinstance(value, Unreadable) or "\x00" in value:
        return {"nul"}
    found: set[Form] = set()
    with contextlib.suppress(ValueError):
        if DATE.fullmatch(value):
            date.fromisoformat(value)
            found.add("date")
        elif match := MOMENT.fullmatch(value):
            datetime.fromisoformat(value)
            found.add("timestamptz" if match[2] else "timestamp")
    with contextlib.suppress(ValueError, RecursionError):
        if (
            value[:1] in '{["'
            or value in ("true", "false", "null")
            or value[:1].isdigit()
            or value[:1] == "-"
        ):
            json.loads(value, parse_constant=_no_constant)
            found.add("json")
    return found


def _no_constant(text: str) -> None:
    raise ValueError(text)


def _indexes(connection: sqlite3.Connection, table: str) -> Iterator[SqliteIndex]:
    for _, name, unique, origin, partial_ in connection.execute(
        f"PRAGMA index_list({quoted(table)})"
    ).fetchall():
        parts = [
            part for part in connection.execute(f"PRAGMA index_xinfo({quoted(name)})").fetchall() if part[5]
        ]
        yield SqliteIndex(
            name=name,
            unique=bool(unique),
            made_by=origin,
            partial=bool(partial_),
            columns=tuple(part[2] for part in parts),
            descending=tuple(bool(part[3]) for part in parts),
            collations=tuple(part[4] for part in parts if part[4] != "BINARY"),
        )


def _keys(connection: sqlite3.Connection, table: str) -> Iterator[SqliteKey]:
    rows = connection.execute(f"PRAGMA foreign_key_list({quoted(table)})").fetchall()
    for number in sorted({row[0] for row in rows}, reverse=True):
        parts = sorted((row for row in rows if row[0] == number), key=lambda row: row[1])
        targets = tuple(row[4] for row in parts)
        yield SqliteKey(
            columns=tuple(row[3] for row in parts),
            other=parts[0][2],
            other_columns=() if None in targets else targets,
            on_update=parts[0][5],
            on_delete=parts[0][6],
        )


def _sequence(connection: sqlite3.Connection, table: str) -> int:
    with contextlib.suppress(sqlite3.OperationalError):
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
        return int(row[0]) if row else 0
    return 0


def _hold(source: SqliteFile) -> sqlite3.Connection:
    """Nobody writes to the file while this connection is open; reading goes on."""
    require_plain(source)
    connection = sqlite3.connect(
        f"{Path(source.path).as_uri()}?mode=rw",
        uri=True,
        timeout=5,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        connection.close()
        raise Conflict("others are writing to the SQLite database", next="Try again in a moment.") from None
    return connection


def _reading(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{Path(path).as_uri()}?mode=ro", uri=True, timeout=10, isolation_level=None)
    connection.text_factory = _text
    return connection


def _text(data: bytes) -> str | Unreadable:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Unreadable()


# -- bringing over -----------------------------------------------------------------------------------------


async def _batches(path: str, table: MappedTable) -> AsyncIterator[list[tuple[Any, ...]]]:
    values = await _in_thread(lambda: _values(path, table))
    while batch := await _in_thread(partial(_some, values)):
        yield batch


def _some(values: Iterator[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [row for _, row in zip(range(BATCH), values, strict=False)]


def _values(path: str, table: MappedTable) -> Iterator[tuple[Any, ...]]:
    connection = sqlite3.connect(
        f"{Path(path).as_uri()}?mode=ro", uri=True, timeout=10, isolation_level=None, check_same_thread=False
    )
    with contextlib.closing(connection):
        names = ", ".join(quoted(column.name) for column in table.columns)
        for row in connection.execute(f"SELECT {names} FROM {quoted(table.name)}"):  # noqa: S608  # quoted
            yield tuple(
                None if value is None else _as_postgres(value, column)
                for value, column in zip(row, table.columns, strict=True)
            )


def _as_postgres(value: Any, column: Mapped) -> Any:
    if column.type == "boolean":
        return bool(value)
    if column.type == "numeric":
        return Decimal(repr(value))
    if column.type == "date":
        return date.fromisoformat(value)
    if column.type in ("timestamp", "timestamptz"):
        return datetime.fromisoformat(value)
    return value


# -- comparing ---------------------------------------------------------------------------------------------


async def _postgres_sum(connection: Any, table: MappedTable) -> TableSum:
    names = ", ".join(quoted(column.name) for column in table.columns)
    total, count = 0, 0
    query = f"SELECT {names} FROM ONLY public.{quoted(table.name)}"  # noqa: S608  # quoted
    async for row in connection.cursor(query, prefetch=BATCH):
        total += _hash(tuple(row.values()), table)
        count += 1
    return TableSum(name=table.name, rows=count, hash=f"{total % 2**256:064x}")


def _sum(name: str, values: Iterator[tuple[Any, ...]], table: MappedTable) -> TableSum:
    total, count = 0, 0
    for row in values:
        total += _hash(row, table)
        count += 1
    return TableSum(name=name, rows=count, hash=f"{total % 2**256:064x}")


def _hash(row: Sequence[Any], table: MappedTable) -> int:
    canonical = tuple(
        None if value is None else _canonical(value, column)
        for value, column in zip(row, table.columns, strict=True)
    )
    return int.from_bytes(hashlib.sha256(repr(canonical).encode()).digest())


def _canonical(value: Any, column: Mapped) -> Any:
    if column.type == "numeric":
        return format(Decimal(value).normalize(), "f")
    if column.type == "timestamptz":
        return value.astimezone(UTC).isoformat()
    if column.type in ("timestamp", "date"):
        return value.isoformat()
    if column.type == "double precision":
        return repr(float(value))
    return value


async def _connected(login: Login) -> Any:
    import asyncpg

    try:
        return await asyncpg.connect(
            host=login.host,
            port=login.port,
            user=login.role,
            password=login.password.get_secret_value(),
            database=login.database,
            ssl=False,
            timeout=CONNECT_SECONDS,
            server_settings={"application_name": "quaymaster promotion", "timezone": "UTC"},
        )
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        why = type(error).__name__
    raise Unavailable(f"the database cannot be reached ({why})")


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        return await anyio.to_thread.run_sync(work)
    except QuaymasterError:
        raise
    except (OSError, sqlite3.Error) as error:
        code = getattr(error, "sqlite_errorname", "") or type(error).__name__
        raise Unavailable(f"the database's file cannot be used ({code})") from error
