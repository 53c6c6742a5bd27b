"""SQLite's catalogs as a shape."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import anyio.to_thread

from mcp_server.domain.errors import Unavailable
from mcp_server.domain.shapes import Column, ForeignKey, Shape, Table, quoted

ROWIDS = ("rowid", "_rowid_", "oid")


async def read(path: str) -> Shape:
    return await anyio.to_thread.run_sync(_read, path)


def shape_of(connection: sqlite3.Connection) -> Shape:
    listed = connection.execute(
        "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'view', 'virtual')"
        r" AND name NOT LIKE 'sqlite\_%' ESCAPE '\' AND name NOT LIKE 'quaymaster\_%' ESCAPE '\' ORDER BY name"
    ).fetchall()
    return Shape("sqlite", tuple(_table(connection, *row) for row in listed))


@contextlib.contextmanager
def opened(path: str, mode: str = "ro", seconds: float = 5.0) -> Iterator[sqlite3.Connection]:
    """A fresh connection in autocommit. Raises Unavailable; a file that is not there is not made."""
    try:
        connection = sqlite3.connect(
            f"{Path(os.path.abspath(path)).as_uri()}?mode={mode}",
            uri=True,
            timeout=seconds,
            isolation_level=None,
            check_same_thread=False,
        )
    except sqlite3.Error as error:
        raise Unavailable("the SQLite file cannot be opened") from error
    with contextlib.closing(connection):
        yield connection


def _read(path: str) -> Shape:
    with opened(path) as connection:
        try:
            return shape_of(connection)
        except sqlite3.DatabaseError as error:
            raise Unavailable("the file cannot be read as a SQLite database") from error


def _table(connection: sqlite3.Connection, name: str, kind: str, without_rowid: int) -> Table:
    rows = connection.execute(
        'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid',
        (name,),
    ).fetchall()
    rows = [row for row in rows if row[5] != 1]
    primary = tuple(row[0] for row in sorted((row for row in rows if row[4]), key=lambda row: row[4]))
    alias = _alias_of_rowid(rows, primary, without_rowid)
    columns = tuple(_column(row, row[0] == alias) for row in rows)
    is_table = kind != "view"
    free = [each for each in ROWIDS if each not in {column.name.lower() for column in columns}]
    return Table(
        name=name,
        sql=quoted(name),
        kind="table" if is_table else "view",
        columns=columns,
        key=primary or (_unique_key(connection, name, columns) if is_table else ()),
        foreign_keys=_foreign_keys(connection, name),
        rowid=free[0] if is_table and free and not without_rowid else "",
    )


def _alias_of_rowid(
    rows: list[tuple[object, ...]], primary: tuple[str, ...], without_rowid: int
) -> str | None:
    """An only primary key that is declared INTEGER is the rowid: SQLite draws it."""
    if len(primary) != 1 or without_rowid:
        return None
    declared = next(str(row[1]) for row in rows if row[0] == primary[0])
    return primary[0] if declared.upper() == "INTEGER" else None


def _column(row: tuple[object, ...], drawn: bool) -> Column:
    name, declared, not_null, default, primary, hidden = row
    return Column(
        name=str(name),
        type=str(declared),
        base=re.sub(r"\(.*", "", str(declared)).strip().upper(),
        not_null=bool(not_null or primary),
        default=drawn or default is not None,
        fixed=hidden in (2, 3),
    )


def _unique_key(connection: sqlite3.Connection, name: str, columns: tuple[Column, ...]) -> tuple[str, ...]:
    never_null = {column.name for column in columns if column.not_null}
    indexes = connection.execute(
        'SELECT name FROM pragma_index_list(?) WHERE "unique" AND NOT partial ORDER BY name', (name,)
    ).fetchall()
    for (index,) in indexes:
        parts = [row[0] for row in connection.execute("SELECT name FROM pragma_index_info(?)", (index,))]
        if never_null >= set(parts):
            return tuple(parts)
    return ()


def _foreign_keys(connection: sqlite3.Connection, name: str) -> tuple[ForeignKey, ...]:
    rows = connection.execute(
        'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?) ORDER BY id, seq', (name,)
    ).fetchall()
    found = []
    for number in sorted({row[0] for row in rows}):
        parts = [row for row in rows if row[0] == number]
        target = parts[0][1]
        theirs = tuple(part[3] for part in parts)
        if None in theirs:
            theirs = _primary(connection, target)
        if len(theirs) == len(parts):
            found.append(ForeignKey(tuple(part[2] for part in parts), target, theirs))
    return tuple(found)


def _primary(connection: sqlite3.Connection, name: str) -> tuple[str, ...]:
    rows = connection.execute("SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", (name,))
    return tuple(row[0] for row in rows)
