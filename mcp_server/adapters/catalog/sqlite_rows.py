"""SQLite's rows, as text, page by page."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import anyio.to_thread

from mcp_server.adapters.catalog.sqlite_shapes import opened, shape_of
from mcp_server.domain.browsing import (
    COUNTED,
    LARGEST_VALUE,
    SHOWN,
    Cell,
    Counted,
    Filter,
    PageFound,
    PageRow,
    PageWanted,
)
from mcp_server.domain.errors import Conflict, Invalid, Unavailable
from mcp_server.domain.shapes import Shape, Table, quoted

T = TypeVar("T")
SECONDS = 15.0
STEPS = 5000
NEXT = {"ro": "Look at the filters.", "rw": "Nothing was changed."}
NEVER = frozenset({sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH})


class SqliteBrowser:
    def __init__(self, path: str) -> None:
        self._path = path

    async def shape(self) -> Shape:
        return await self._read(shape_of)

    async def counts(self, shape: Shape) -> dict[str, Counted]:
        def count(connection: sqlite3.Connection) -> dict[str, Counted]:
            return {table.name: _count(connection, table) for table in shape.tables if table.kind == "table"}

        return await self._read(count)

    async def page(self, wanted: PageWanted) -> PageFound:
        sql, arguments = page_sql(wanted)
        rows = await self._read(lambda connection: connection.execute(sql, arguments).fetchall())
        found = tuple(_row(row, len(wanted.order)) for row in rows[: wanted.limit])
        return PageFound(found[::-1] if wanted.backwards else found, len(rows) > wanted.limit)

    async def value(self, table: Table, key: tuple[str, ...], column: str) -> Cell | None:
        sql = f"SELECT {_cut(column, LARGEST_VALUE)} FROM {table.sql} WHERE {_matches(table)}"  # noqa: S608
        row = await self._read(lambda connection: connection.execute(sql, key).fetchone())
        return None if row is None else Cell(row[0], row[1] or 0)

    async def change(
        self, table: Table, key: tuple[str, ...], column: str, before: str | None, after: str | None
    ) -> None:
        plain = quoted(column)
        sql = (
            f"UPDATE {table.sql} SET {plain} = CASE WHEN typeof({plain}) = 'blob' THEN ? ELSE ? END"  # noqa: S608
            f" WHERE {_matches(table)} AND {_text(plain)} IS ?"
        )
        await self._write(sql, (_binary(after), _kept(table, column, after), *key, before))

    async def add(self, table: Table, values: Mapping[str, str | None]) -> None:
        names, marks = ", ".join(quoted(name) for name in values), ", ".join("?" for _ in values)
        what = f"({names}) VALUES ({marks})" if values else "DEFAULT VALUES"
        arguments = tuple(_kept(table, name, value) for name, value in values.items())
        await self._write(f"INSERT INTO {table.sql} {what}", arguments)

    async def remove(self, table: Table, key: tuple[str, ...]) -> None:
        await self._write(f"DELETE FROM {table.sql} WHERE {_matches(table)}", key)  # noqa: S608

    async def _read(self, work: Callable[[sqlite3.Connection], T], seconds: float = SECONDS) -> T:
        def read(connection: sqlite3.Connection) -> T:
            connection.execute("PRAGMA query_only = ON")
            return work(connection)

        return await anyio.to_thread.run_sync(_with_connection, self._path, "ro", read, seconds)

    async def _write(self, sql: str, arguments: tuple[Any, ...]) -> None:
        def write(connection: sqlite3.Connection) -> None:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute(sql, arguments).rowcount != 1:
                raise Conflict("the row was changed or removed by somebody else", next="Load the page again.")
            connection.execute("COMMIT")

        await anyio.to_thread.run_sync(_with_connection, self._path, "rw", write, SECONDS)


def _with_connection(path: str, mode: str, work: Callable[[sqlite3.Connection], T], seconds: float) -> T:
    until = time.monotonic() + seconds
    with opened(path, mode) as connection:
        connection.set_progress_handler(lambda: int(time.monotonic() > until), STEPS)
        connection.set_authorizer(
            lambda action, *_: sqlite3.SQLITE_DENY if action in NEVER else sqlite3.SQLITE_OK
        )
        try:
            return work(connection)
        except sqlite3.OperationalError as error:
            if time.monotonic() > until:
                raise Invalid(f"it took longer than {seconds:g} s", next="Narrow it down.") from error
            if "unable to open" in str(error) or "disk I/O" in str(error):
                raise Unavailable("the SQLite file cannot be opened") from error
            raise Invalid(f"SQLite: {error}", next=NEXT[mode]) from error
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise Invalid(f"SQLite: {error}", next=NEXT[mode]) from error


def page_sql(wanted: PageWanted) -> tuple[str, list[str]]:
    """The statement of a page, and its arguments."""
    table, order = wanted.table, wanted.order
    arguments: list[str] = []
    conditions = [_condition(each, arguments) for each in wanted.filters]
    names = ", ".join(quoted(name) for name in order)
    if wanted.after:
        marks = [_mark(table, name) for name in order]
        arguments += wanted.after
        conditions.append(f"({names}) {'<' if wanted.backwards else '>'} ({', '.join(marks)})")
    selected = [_text(quoted(name)) for name in order] + [
        _cut(column.name, SHOWN) for column in table.columns
    ]
    direction = " DESC" if wanted.backwards else ""
    sql = f"SELECT {', '.join(selected)} FROM {table.sql}"  # noqa: S608 - names are quoted, values are arguments
    if conditions:
        sql += f" WHERE {' AND '.join(conditions)}"
    if order:
        sql += f" ORDER BY {', '.join(quoted(name) + direction for name in order)}"
    return f"{sql} LIMIT {wanted.limit + 1}", arguments


def _condition(wanted: Filter, arguments: list[str]) -> str:
    name = quoted(wanted.column)
    if wanted.comparison in ("null", "not null"):
        return f"{name} IS {wanted.comparison.upper()}"
    if wanted.comparison in ("contains", "starts"):
        plain = wanted.value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        arguments.append(f"%{plain}%" if wanted.comparison == "contains" else f"{plain}%")
        return f"CAST({name} AS TEXT) LIKE ? ESCAPE '\\'"
    arguments.append(wanted.value)
    # The column's affinity makes the text a number where the column holds numbers.
    return f"{name} {wanted.comparison} ?"


def _row(row: tuple[Any, ...], keys: int) -> PageRow:
    cells = [Cell(row[place], row[place + 1] or 0) for place in range(keys, len(row), 2)]
    return PageRow(tuple(str(value) for value in row[:keys]), tuple(cells))


def _cut(name: str, length: int) -> str:
    """Two columns: the beginning of a value as text, and how long it is."""
    plain = quoted(name)
    blob = f"'\\x' || lower(hex(substr({plain}, 1, {length // 2})))"
    text = f"substr(CAST({plain} AS TEXT), 1, {length})"
    return (
        f"CASE typeof({plain}) WHEN 'null' THEN NULL WHEN 'blob' THEN {blob} ELSE {text} END, length({plain})"
    )


def _text(plain: str) -> str:
    return (
        f"CASE typeof({plain}) WHEN 'blob' THEN '\\x' || lower(hex({plain})) ELSE CAST({plain} AS TEXT) END"
    )


def _kept(table: Table, name: str, value: str | None) -> str | bytes | None:
    """A value as it is stored: bytes where they were declared and are written as they are shown."""
    column = table.column(name)
    return _binary(value) if column is not None and "BLOB" in column.type.upper() else value


def _binary(value: str | None) -> str | bytes | None:
    """The bytes that are shown as `\\x` and hexadecimal digits; any other text as it is."""
    if value is None or not value.startswith("\\x"):
        return value
    try:
        return bytes.fromhex(value[2:])
    except ValueError:
        return value


def _mark(table: Table, name: str) -> str:
    """A column without a type has no affinity; its numbers must not be compared as text."""
    column = table.column(name)
    return "?" if column is None or column.type else "CAST(? AS NUMERIC)"


def _matches(table: Table) -> str:
    names = table.key or (table.rowid,)
    return " AND ".join(f"{quoted(name)} = ?" for name in names)


def _count(connection: sqlite3.Connection, table: Table) -> Counted:
    sql = f"SELECT count(*) FROM (SELECT 1 FROM {table.sql} LIMIT {COUNTED + 1})"  # noqa: S608
    rows = int(connection.execute(sql).fetchone()[0])
    return Counted(min(rows, COUNTED), exact=rows <= COUNTED)
