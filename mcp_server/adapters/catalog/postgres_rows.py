"""PostgreSQL's rows, as text, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from mcp_server.adapters.catalog.postgres_shapes import session, shape_of
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

SECONDS = 15.0
SPARE_SECONDS = 2.0
NEXT = {"READ ONLY": "Look at the filters.", "READ WRITE": "Nothing was changed."}


class PostgresBrowser:
    def __init__(self, url: str, schemas: tuple[str, ...] = ()) -> None:
        self._url = url
        self._schemas = schemas

    async def shape(self) -> Shape:
        async with self._reading() as connection:
            return await shape_of(connection, self._schemas, alone=False)

    async def counts(self, shape: Shape) -> dict[str, Counted]:
        """The planner's estimate for a large table, a bounded count for others."""
        async with self._reading() as connection:
            return {
                table.name: await _count(connection, table) for table in shape.tables if table.kind == "table"
            }

    async def page(self, wanted: PageWanted) -> PageFound:
        sql, arguments = page_sql(wanted)
        async with self._reading() as connection:
            rows = await connection.fetch(sql, *arguments)
        found = tuple(_row(row, wanted) for row in rows[: wanted.limit])
        return PageFound(found[::-1] if wanted.backwards else found, len(rows) > wanted.limit)

    async def value(self, table: Table, key: tuple[str, ...], column: str) -> Cell | None:
        sql = f"SELECT {_cut(table, column, LARGEST_VALUE)} FROM {table.sql} WHERE {_matches(table, 1)}"  # noqa: S608
        async with self._reading() as connection:
            row = await connection.fetchrow(sql, *key)
        return None if row is None else Cell(row[0], row[1] or 0)

    async def change(
        self, table: Table, key: tuple[str, ...], column: str, before: str | None, after: str | None
    ) -> None:
        place = len(key) + 1
        sql = (
            f"UPDATE {table.sql} SET {quoted(column)} = {_value(table, column, place)}"  # noqa: S608
            f" WHERE {_matches(table, 1)} AND {quoted(column)}::text IS NOT DISTINCT FROM ${place + 1}::text"
        )
        await self._write(sql, *key, after, before)

    async def add(self, table: Table, values: Mapping[str, str | None]) -> None:
        names = ", ".join(quoted(name) for name in values)
        marks = ", ".join(_value(table, name, place) for place, name in enumerate(values, 1))
        what = f"({names}) VALUES ({marks})" if values else "DEFAULT VALUES"
        await self._write(f"INSERT INTO {table.sql} {what}", *values.values())

    async def remove(self, table: Table, key: tuple[str, ...]) -> None:
        await self._write(f"DELETE FROM {table.sql} WHERE {_matches(table, 1)}", *key)  # noqa: S608

    async def _write(self, sql: str, *arguments: Any) -> None:
        async with self._session("READ WRITE", SECONDS) as connection:
            done = await connection.execute(sql, *arguments)
            if not done.endswith(" 1"):
                raise Conflict("the row was changed or removed by somebody else", next="Load the page again.")
            await connection.execute("COMMIT")

    def _reading(self, seconds: float = SECONDS) -> Any:
        return self._session("READ ONLY", seconds)

    @asynccontextmanager
    async def _session(self, mode: str, seconds: float) -> AsyncIterator[asyncpg.Connection[Any]]:
        async with session(self._url, seconds + SPARE_SECONDS) as connection:
            try:
                await connection.execute(f"SET statement_timeout = {int(seconds * 1000)}; BEGIN {mode}")
                yield connection
            except asyncpg.QueryCanceledError as error:
                raise Invalid(f"it took longer than {seconds:g} s", next="Narrow it down.") from error
            except (asyncpg.PostgresConnectionError, OSError) as error:
                raise Unavailable(f"PostgreSQL went away ({type(error).__name__})") from error
            except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                raise Invalid(f"PostgreSQL: {error}", next=NEXT[mode]) from error


def page_sql(wanted: PageWanted) -> tuple[str, list[str]]:
    """The statement of a page, and its arguments."""
    table, order = wanted.table, wanted.order
    arguments: list[str] = []
    conditions = [_condition(table, each, arguments) for each in wanted.filters]
    names = ", ".join(_sorted_by(name) for name in order)
    if wanted.after:
        marks = []
        for name, value in zip(order, wanted.after, strict=True):
            arguments.append(value)
            marks.append(_mark(table, name, len(arguments)))
        conditions.append(f"({names}) {'<' if wanted.backwards else '>'} ({', '.join(marks)})")
    selected = [f"{_sorted_by(name)}::text" for name in order]
    selected += [_cut(table, column.name, SHOWN) for column in table.columns]
    direction = " DESC" if wanted.backwards else ""
    sql = f"SELECT {', '.join(selected) or '1'} FROM {table.sql} AS t"  # noqa: S608 - names are quoted, values are arguments
    if conditions:
        sql += f" WHERE {' AND '.join(conditions)}"
    if order:
        sql += f" ORDER BY {', '.join(_sorted_by(name) + direction for name in order)}"
    return f"{sql} LIMIT {wanted.limit + 1}", arguments


def _condition(table: Table, wanted: Filter, arguments: list[str]) -> str:
    name = quoted(wanted.column)
    if wanted.comparison in ("null", "not null"):
        return f"{name} IS {wanted.comparison.upper()}"
    if wanted.comparison in ("contains", "starts"):
        plain = wanted.value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        arguments.append(f"%{plain}%" if wanted.comparison == "contains" else f"{plain}%")
        return f"{name}::text ILIKE ${len(arguments)}::text"
    arguments.append(wanted.value)
    return f"{name} {wanted.comparison} {_mark(table, wanted.column, len(arguments))}"


def _row(row: asyncpg.Record, wanted: PageWanted) -> PageRow:
    keys = len(wanted.order)
    cells = [
        Cell(row[place], row[place + 1] or 0)
        for place in range(keys, keys + 2 * len(wanted.table.columns), 2)
    ]
    return PageRow(tuple(row[place] for place in range(keys)), tuple(cells))


def _cut(table: Table, name: str, length: int) -> str:
    """Two columns: the beginning of a value, and how long it is. Of a binary value only the beginning is read."""
    column = table.column(name)
    plain = quoted(name)
    if column is not None and column.base == "bytea" and not column.array:
        return f"'\\x' || encode(substring({plain} FROM 1 FOR {length // 2}), 'hex'), octet_length({plain})"
    return f"left({plain}::text, {length}), length({plain}::text)"


def _sorted_by(name: str) -> str:
    """Qualified: alone it would mean the selected text of the same name, which sorts otherwise."""
    return f"t.{_order(name)}"


def _order(name: str) -> str:
    return name if name == "ctid" else quoted(name)


def _mark(table: Table, name: str, place: int) -> str:
    """An argument for a comparison: text cast to the column's type, so that an index can be used."""
    column = table.column(name)
    return f"CAST(${place}::text AS {column.type if column else 'tid'})"


def _value(table: Table, name: str, place: int) -> str:
    """An argument to be kept. A cast to a type with a length would cut in silence; assignment refuses instead."""
    column = table.column(name)
    if column is not None and column.base in ("varchar", "bpchar") and not column.array:
        return f"${place}::text"
    return _mark(table, name, place)


def _matches(table: Table, start: int) -> str:
    names = table.key or (table.rowid,)
    return " AND ".join(
        f"{_order(name)} = {_mark(table, name, place)}" for place, name in enumerate(names, start)
    )


async def _count(connection: asyncpg.Connection[Any], table: Table) -> Counted:
    estimate = await connection.fetchval(
        "SELECT reltuples::bigint FROM pg_class WHERE oid = $1::text::regclass", table.sql
    )
    if estimate > COUNTED:
        return Counted(int(estimate), exact=False)
    sql = f"SELECT count(*) FROM (SELECT FROM {table.sql} LIMIT {COUNTED + 1}) AS counted"  # noqa: S608
    rows = int(await connection.fetchval(sql))
    return Counted(min(rows, COUNTED), exact=rows <= COUNTED)
