"""One statement on SQLite, in a thread, with the same promises as on PostgreSQL.

A read opens the file for reading and lets the authorizer pass nothing but reading; a write is kept only after its
effects were counted. SQLite says what a statement does while it compiles it: no text is looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mcp_server.adapters.project_sql.sessions import too_slow
from mcp_server.adapters.project_sql.threads import Threads
from mcp_server.domain.errors import Invalid, Unavailable
from mcp_server.domain.queries import (
    Bounds,
    Collected,
    Column,
    Effects,
    Rows,
    SqliteFile,
    Statement,
    Written,
)

# What SQLite says where its authorizer refused; of DDL it gives SQLITE_SCHEMA as the code.
NOT_AUTHORIZED = "not authorized"
LARGEST_VALUE = 8 * 1024 * 1024
STEPS = 2000
BATCH = 50

READS = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
NEVER = frozenset(
    {sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT}
)
LOOKING = frozenset(
    {
        *("table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo"),
        *("foreign_key_list", "foreign_key_check", "database_list", "collation_list", "function_list"),
        *("page_count", "page_size", "freelist_count", "integrity_check", "quick_check"),
    }
)
"""Pragmas that only tell, with or without an argument."""

SHUT_OUT = frozenset({"load_extension", "fts3_tokenizer", "writefile", "readfile", "edit"})


async def read(threads: Threads, target: SqliteFile, statement: Statement, bounds: Bounds) -> Rows:
    return await threads.read(
        target.path, lambda stop: _read(target, statement, bounds, stop), bounds.seconds
    )


async def write(
    threads: Threads, target: SqliteFile, statement: Statement, bounds: Bounds, confirmed: Effects | None
) -> Written:
    return await threads.write(lambda stop: _write(target, statement, bounds, confirmed, stop))


def _read(target: SqliteFile, statement: Statement, bounds: Bounds, stop: threading.Event) -> Rows:
    with opened(target, "ro", bounds, stop) as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        connection.set_authorizer(_only_reading)
        return _run(connection, statement, bounds, to_the_end=False)


def _write(
    target: SqliteFile, statement: Statement, bounds: Bounds, confirmed: Effects | None, stop: threading.Event
) -> Written:
    with opened(target, "rw", bounds, stop) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")
        before, so_far = _tables(connection), connection.total_changes
        connection.set_authorizer(_no_way_out)
        rows = _run(connection, statement, bounds, to_the_end=True)
        connection.set_authorizer(None)
        effects = Effects(changed=connection.total_changes - so_far, lost=_lost(before, _tables(connection)))
        allowed = not effects.needs_plan(bounds) if confirmed is None else effects.within(confirmed)
        if not allowed:
            connection.execute("ROLLBACK")
            return Written(rows=Rows(), effects=effects, kept=False)
        connection.set_progress_handler(None, 0)
        connection.execute("COMMIT")
        return Written(rows=rows, effects=effects, kept=True)


@contextlib.contextmanager
def opened(
    target: SqliteFile, mode: str, bounds: Bounds, stop: threading.Event
) -> Iterator[sqlite3.Connection]:
    """Raises what the port says; whatever was not committed is gone afterwards."""
    require_plain(target)
    deadline = time.monotonic() + bounds.seconds
    try:
        connection = sqlite3.connect(
            f"{Path(target.path).as_uri()}?mode={mode}", uri=True, timeout=bounds.seconds, isolation_level=None,
            check_same_thread=False,
        )  # fmt: skip
    except sqlite3.Error as error:
        raise _unavailable(error) from error
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        connection.set_progress_handler(lambda: stop.is_set() or time.monotonic() > deadline, STEPS)
        yield connection
    except sqlite3.Error as error:
        raise _refusal(error, bounds, reading=mode == "ro") from None
    except sqlite3.Warning:
        raise _several() from None
    finally:
        with contextlib.suppress(sqlite3.Error):
            connection.set_authorizer(None)
            connection.close()


def require_plain(target: SqliteFile) -> None:
    """No link on the way from the root to the file."""
    step = Path(target.root)
    for part in Path(target.path).relative_to(target.root).parts:
        step = step / part
        if os.path.islink(step):
            raise Invalid("a symbolic link stands on the way to the database's file; it is not followed")


def _run(connection: sqlite3.Connection, statement: Statement, bounds: Bounds, *, to_the_end: bool) -> Rows:
    collected = Collected(bounds)
    cursor = connection.execute(statement.sql, [_bound(value) for value in statement.parameters])
    columns = tuple(Column(name=each[0], type="") for each in cursor.description or ())
    kinds: list[str] = [""] * len(columns)
    wanted = True
    while wanted or to_the_end:
        batch = cursor.fetchmany(BATCH)
        for row in batch:
            wanted = collected.add(row)
            kinds = [kind or _kind(value) for kind, value in zip(kinds, row, strict=True)]
            if not wanted and not to_the_end:
                break
        if len(batch) < BATCH:
            break
    typed = tuple(column.change(type=kind) for column, kind in zip(columns, kinds, strict=True))
    return Rows(columns=typed, rows=tuple(collected.rows), truncated=collected.truncated)


def _kind(value: Any) -> str:
    """SQLite's own name of the type of a value; a column may hold several."""
    return {int: "integer", float: "real", str: "text", bytes: "blob"}.get(type(value), "")


def _bound(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise Invalid.field("parameters", "integers of 64 bits")
    return value


def _only_reading(action: int, first: str | None, second: str | None, *_: Any) -> int:
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_DENY if (second or "").lower() in SHUT_OUT else sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA:
        return _looking(first)
    return sqlite3.SQLITE_OK if action in READS else sqlite3.SQLITE_DENY


def _no_way_out(action: int, first: str | None, second: str | None, *_: Any) -> int:
    if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in SHUT_OUT:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_PRAGMA:
        return _looking(first)
    return sqlite3.SQLITE_DENY if action in NEVER else sqlite3.SQLITE_OK


def _looking(pragma: str | None) -> int:
    return sqlite3.SQLITE_OK if (pragma or "").lower() in LOOKING else sqlite3.SQLITE_DENY


def _tables(connection: sqlite3.Connection) -> dict[str, frozenset[str]]:
    """The columns by table."""
    found = connection.execute(
        "SELECT m.name, c.name FROM sqlite_master m, pragma_table_xinfo(m.name) c"
        " WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY 1, 2"
    )
    tables: dict[str, set[str]] = {}
    for table, column in found:
        tables.setdefault(table, set()).add(column)
    return {name: frozenset(columns) for name, columns in tables.items()}


def _lost(before: dict[str, frozenset[str]], after: dict[str, frozenset[str]]) -> tuple[str, ...]:
    lost: list[str] = []
    for name, columns in before.items():
        if name not in after:
            lost.append(f"table {name}")
        else:
            lost += [f"column {column} of {name}" for column in sorted(columns - after[name])]
    return tuple(lost[:100])


def _refusal(error: sqlite3.Error, bounds: Bounds, *, reading: bool) -> Exception:
    """SQLite's words go into the details: they may quote data, and messages are kept in the audit log."""
    code = getattr(error, "sqlite_errorname", "")
    if code == "SQLITE_INTERRUPT":
        return too_slow(bounds.seconds)
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Unavailable("the database is being written to by others")
    if code.startswith(("SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_FULL", "SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return _unavailable(error)
    words = str(error)[:1000]
    if isinstance(error, sqlite3.ProgrammingError) and not code:
        if "one statement" in words:
            return _several()
        return Invalid.field(
            "parameters", "as many as the statement has places, each null, number, text or list"
        )
    if reading and (code in ("SQLITE_AUTH", "SQLITE_READONLY") or words == NOT_AUTHORIZED):
        return Invalid(
            "SQLite refused the statement: a read changes nothing",
            next="To change data pass write=true (role member).",
            fault="read_only",
            server_message=words,
        )
    return Invalid(
        f"SQLite refused the statement ({code or type(error).__name__})",
        next="Correct the statement; server_message has SQLite's words.",
        server_message=words,
    )


def _several() -> Invalid:
    return Invalid("SQLite refused the statement: there are several", next="Send one statement a call.")


def _unavailable(error: sqlite3.Error) -> Unavailable:
    code = getattr(error, "sqlite_errorname", "") or type(error).__name__
    return Unavailable(f"the database's file cannot be used ({code})", next="get_database says how it is.")
