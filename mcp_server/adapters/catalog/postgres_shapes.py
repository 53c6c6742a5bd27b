"""PostgreSQL's catalogs as a shape."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from mcp_server.domain.errors import Unavailable
from mcp_server.domain.shapes import Column, ForeignKey, Shape, Table, quoted

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
TABLES = """
    SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
      AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND n.nspname <> 'quaymaster'
      AND (cardinality($1::text[]) = 0 OR n.nspname = ANY ($1::text[]))
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass
                      AND d.deptype = 'e')
    ORDER BY n.nspname, c.relname
"""
COLUMNS = """
    SELECT a.attrelid AS oid, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
           a.atttypid AS type_oid, a.attnotnull AS not_null, a.atthasdef OR a.attidentity <> '' AS has_default,
           a.attgenerated <> '' OR a.attidentity = 'a' AS fixed
    FROM pg_attribute a
    WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attrelid, a.attnum
"""
KEYS = """
    SELECT i.indrelid AS oid, i.indisprimary AS is_primary,
           (SELECT array_agg(a.attname::text ORDER BY k.place)
            FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k (number, place)
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number) AS columns
    FROM pg_index i
    WHERE i.indrelid = ANY ($1::oid[]) AND i.indisunique AND i.indisvalid AND i.indimmediate
      AND i.indpred IS NULL AND i.indexprs IS NULL
    ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, i.indexrelid::regclass::text
"""
FOREIGN_KEYS = """
    SELECT c.conrelid AS oid, c.confrelid AS target,
           (SELECT array_agg(a.attname::text ORDER BY k.place) FROM unnest(c.conkey) WITH ORDINALITY AS k (number, place)
            JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number) AS columns,
           (SELECT array_agg(a.attname::text ORDER BY k.place) FROM unnest(c.confkey) WITH ORDINALITY AS k (number, place)
            JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.number) AS target_columns
    FROM pg_constraint c
    WHERE c.contype = 'f' AND c.conrelid = ANY ($1::oid[]) AND c.confrelid = ANY ($1::oid[])
    ORDER BY c.conrelid, c.conname
"""
TYPES = """
    SELECT t.oid, t.typname AS name, t.typtype::text AS kind, t.typbasetype AS behind, t.typelem AS element,
           t.typcategory = 'A' AND t.typelem <> 0 AS is_array, n.nspname = 'pg_catalog' AS is_builtin,
           (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder)
            FROM pg_enum e WHERE e.enumtypid = t.oid) AS labels
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typtype IN ('b', 'd', 'e', 'r', 'm')
"""


async def read(url: str, schemas: tuple[str, ...]) -> Shape:
    async with session(url) as connection:
        return await shape_of(connection, schemas)


async def shape_of(
    connection: asyncpg.Connection[Any], schemas: tuple[str, ...], *, alone: bool = True
) -> Shape:
    """One snapshot of all catalogs; `alone` is False inside a transaction of the caller's."""
    if alone:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await shape_of(connection, schemas, alone=False)
    tables = await connection.fetch(TABLES, list(schemas))
    oids = [row["oid"] for row in tables]
    types = {row["oid"]: row for row in await connection.fetch(TYPES)}
    columns = _grouped(await connection.fetch(COLUMNS, oids))
    keys = _grouped(await connection.fetch(KEYS, oids))
    foreign = _grouped(await connection.fetch(FOREIGN_KEYS, oids))
    first = schemas[0] if schemas else "public"
    names = {row["oid"]: _name(row, first) for row in tables}
    found = (
        _table(row, names, _columns(columns[row["oid"]], types), keys[row["oid"]], foreign[row["oid"]])
        for row in tables
    )
    return Shape("postgres", tuple(sorted(found, key=lambda table: ("." in table.name, table.name))))


@asynccontextmanager
async def session(url: str, seconds: float = READ_SECONDS) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A fresh connection. Raises Unavailable."""
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS, command_timeout=seconds)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise Unavailable(f"PostgreSQL cannot be reached ({type(error).__name__})") from error
    try:
        yield connection
    finally:
        connection.terminate()


def _grouped(rows: Iterable[asyncpg.Record]) -> dict[int, list[asyncpg.Record]]:
    groups: dict[int, list[asyncpg.Record]] = defaultdict(list)
    for row in rows:
        groups[row["oid"]].append(row)
    return groups


def _name(row: asyncpg.Record, first: str) -> str:
    return str(row["name"]) if row["schema"] == first else f"{row['schema']}.{row['name']}"


def _columns(rows: list[asyncpg.Record], types: dict[int, asyncpg.Record]) -> tuple[Column, ...]:
    return tuple(_column(row, types) for row in rows)


def _column(row: asyncpg.Record, types: dict[int, asyncpg.Record]) -> Column:
    plain = _behind(types.get(row["type_oid"]), types)
    array = plain is not None and plain["is_array"]
    if plain is not None and array:
        plain = _behind(types.get(plain["element"]), types)
    labels = tuple(plain["labels"] or ()) if plain is not None else ()
    known = plain is not None and (plain["is_builtin"] or labels or plain["name"] == "citext")
    return Column(
        name=row["name"],
        type=row["type"],
        base=("enum" if labels else str(plain["name"])) if plain is not None and known else "",
        not_null=row["not_null"],
        default=row["has_default"],
        fixed=row["fixed"],
        array=array,
        labels=labels,
    )


def _behind(found: asyncpg.Record | None, types: dict[int, asyncpg.Record]) -> asyncpg.Record | None:
    """The type that a domain, or a domain over a domain, is made of."""
    while found is not None and found["kind"] == "d":
        found = types.get(found["behind"])
    return found


def _table(
    row: asyncpg.Record,
    names: dict[int, str],
    columns: tuple[Column, ...],
    keys: list[asyncpg.Record],
    foreign: list[asyncpg.Record],
) -> Table:
    is_table = row["kind"] in ("r", "p", "f")
    return Table(
        name=names[row["oid"]],
        sql=f"{quoted(row['schema'])}.{quoted(row['name'])}",
        kind="table" if is_table else "view",
        columns=columns,
        key=_key(keys, columns),
        foreign_keys=tuple(
            ForeignKey(tuple(each["columns"]), names[each["target"]], tuple(each["target_columns"]))
            for each in foreign
        ),
        rowid="ctid" if row["kind"] in ("r", "m") else "",
    )


def _key(keys: list[asyncpg.Record], columns: tuple[Column, ...]) -> tuple[str, ...]:
    never_null = {column.name for column in columns if column.not_null}
    usable = (
        tuple(each["columns"]) for each in keys if each["is_primary"] or never_null >= set(each["columns"])
    )
    return next(usable, ())
