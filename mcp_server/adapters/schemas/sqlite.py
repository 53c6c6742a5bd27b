"""SQLite as a database whose schema is looked after.

The lock is a file lock beside the database, which the kernel gives back when its holder dies. Everything of ours
lies in tables whose names begin with `quaymaster_`.
"""

from __future__ import annotations

import fcntl
import os
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import anyio

from mcp_server.adapters import faults
from mcp_server.domain.errors import Locked, Unavailable
from mcp_server.domain.schemas.catalogs import Catalog, Column, Index, Table, Trigger, View
from mcp_server.domain.schemas.failures import StatementFailed
from mcp_server.domain.schemas.losses import MOST
from mcp_server.domain.schemas.migrations import Applied
from mcp_server.domain.schemas.statements import Statement
from mcp_server.ports.schemas import Footprint, Ledger, Limits, Rows, Witness

T = TypeVar("T")
POLL_SECONDS = 0.05
STEPS = 20_000
"""Steps of SQLite's machine between two looks at the clock."""
MAKE_LEDGER = """
    CREATE TABLE IF NOT EXISTS quaymaster_migrations (
        version INTEGER PRIMARY KEY, label TEXT NOT NULL, name TEXT NOT NULL, checksum TEXT NOT NULL,
        stage TEXT NOT NULL, done INTEGER NOT NULL, begun INTEGER NOT NULL,
        applied_by TEXT NOT NULL, applied_at TEXT NOT NULL
    )
"""
OUTSIDE = {"vacuum", "pragma", "attach", "detach"}
TOKEN = re.compile(
    r"(?P<drop>--[^\n]*|/\*.*?\*/|\s+)"
    r"|(?P<keep>[xX]?'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\]"
    r"|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\w+|[<>=!|&]+|.)",
    re.DOTALL,
)
HEAD = re.compile(r"^(create (?:\w+ )?table) [\"`\[](\w+)[\"`\]]", re.IGNORECASE)


def file_of(url: str) -> Path:
    """`sqlite:///relative`, `sqlite:////absolute`, `file:PATH`."""
    path = url.split("?", 1)[0]
    for prefix in ("sqlite:///", "sqlite:", "file://", "file:"):
        if path.startswith(prefix):
            return Path(path.removeprefix(prefix))
    return Path(path)


@asynccontextmanager
async def open_sqlite(url: str, limits: Limits, *, make: bool = False) -> AsyncIterator[SqliteSession]:
    path = file_of(url)
    try:
        connection = await anyio.to_thread.run_sync(_connect, path, limits, make)
    except (sqlite3.Error, OSError) as error:
        raise Unavailable(f"{path.name} cannot be opened as a SQLite database: {error}") from error
    try:
        yield SqliteSession(path, connection, limits)
    finally:
        connection.close()


def _connect(path: Path, limits: Limits, make: bool) -> sqlite3.Connection:
    """A file that is not there is made, or else looked at as the empty database that it would be."""
    if make:
        path.parent.mkdir(parents=True, exist_ok=True)
    there = make or path.exists()
    connection = sqlite3.connect(
        path if there else ":memory:",
        timeout=limits.lock_timeout,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):  # then somebody writes, and the lock will say who
            connection.close()
            raise
    except BaseException:
        connection.close()
        raise
    return connection


class SqliteSession:
    engine = "sqlite"

    def __init__(self, path: Path, connection: sqlite3.Connection, limits: Limits) -> None:
        self._path = path
        self._connection = connection
        self._limits = limits

    @asynccontextmanager
    async def lock(self, owner: str, wait: float) -> AsyncIterator[None]:
        side = self._path.with_name(f"{self._path.name}.migrate-lock")
        handle = os.open(side, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + wait
            while not _try_lock(handle):
                if time.monotonic() >= deadline:
                    holder = os.pread(handle, 1000, 0).decode("utf-8", "replace") or "somebody"
                    raise Locked(
                        f"another run holds the lock: {holder}",
                        next="Wait until it has ended, then run the command again.",
                    )
                await anyio.sleep(POLL_SECONDS)
            os.ftruncate(handle, 0)
            os.pwrite(
                handle, f"{owner}, process {os.getpid()}, since {_now():%Y-%m-%d %H:%M:%S} UTC".encode(), 0
            )
            await self._in_thread(lambda: self._connection.execute(MAKE_LEDGER))
            yield
        finally:
            os.close(handle)

    async def witness(self) -> Witness | None:
        if not self._path.exists():
            return None
        path = self._path.absolute()
        sql = "SELECT file FROM pragma_database_list WHERE name = 'main'"
        return Witness(f"sqlite:///{path}", sql, str(path), is_file=True)

    async def ledger(self) -> tuple[Applied, ...]:
        return await self._in_thread(self._ledger)

    async def transaction(
        self, statements: Sequence[Statement], ledger: Ledger | None, *, where: str = "", watch: bool = False
    ) -> Footprint:
        return await self._in_thread(lambda: self._transaction(statements, ledger, where, watch))

    async def alone(self, statement: Statement, row: Applied, *, where: str = "") -> None:
        after = row._replace(done=row.done + 1, begun=False)
        if not set(statement.words[:1]) & OUTSIDE:
            await self.transaction([statement], Ledger(put=after), where=where)
            return

        def outside() -> None:
            self._write(Ledger(put=row._replace(begun=True)))
            with self._bounded():
                self._execute(statement, where)
            faults.at("schemas.executed")
            self._write(Ledger(put=after))

        await self._in_thread(outside)

    async def outcome(self, statement: Statement) -> bool | None:
        return False

    async def write(self, ledger: Ledger) -> None:
        await self._in_thread(lambda: self._write(ledger))

    async def catalog(self) -> Catalog:
        return await self._in_thread(lambda: read_catalog(self._connection))

    async def count(self, table: str, column: str = "") -> int:
        return await self._in_thread(lambda: self._count(table, column))

    async def query(self, statement: Statement, *, write: bool, limit: int) -> Rows:
        return await self._in_thread(lambda: self._query(statement, write, limit))

    async def erase(self) -> None:
        await self._in_thread(self._erase)

    # -- steps, in a thread ------------------------------------------------------------------------

    async def _in_thread(self, step: Callable[[], T]) -> T:
        """A cancelled caller interrupts the statement, and waits until it has ended."""
        try:
            async with anyio.create_task_group() as beside:
                beside.start_soon(self._interrupt_when_cancelled)
                try:
                    with anyio.CancelScope(shield=True):
                        return await anyio.to_thread.run_sync(step)
                finally:
                    beside.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            raise error from error.__cause__
        raise AssertionError("unreachable")

    async def _interrupt_when_cancelled(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self._connection.interrupt()

    def _ledger(self) -> tuple[Applied, ...]:
        there = self._connection.execute(
            "SELECT 1 FROM sqlite_master WHERE name = 'quaymaster_migrations'"
        ).fetchone()
        if there is None:
            return ()
        rows = self._connection.execute(
            "SELECT label, name, checksum, stage, done, begun, applied_by, applied_at"
            " FROM quaymaster_migrations ORDER BY version"
        )
        return tuple(
            Applied(
                row[0], row[1], row[2], row[3], row[4], bool(row[5]), row[6], datetime.fromisoformat(row[7])
            )
            for row in rows
        )

    def _transaction(
        self, statements: Sequence[Statement], ledger: Ledger | None, where: str, watch: bool
    ) -> Footprint:
        with _told(where, None):
            self._connection.execute("PRAGMA query_only = OFF")
            self._connection.execute("PRAGMA foreign_keys = OFF")
            self._connection.execute("BEGIN IMMEDIATE")
        changes = self._connection.total_changes
        try:
            broken = self._broken()
            with self._bounded():
                for statement in statements:
                    self._execute(statement, where)
                if statements and not self._broken() <= broken:
                    raise StatementFailed(
                        f"{where}: rows would refer to rows that are not there".lstrip(": ")
                    )
            changes = self._connection.total_changes - changes
            if ledger is not None:
                self._write(ledger)
            faults.at("schemas.before_commit")
            with _told(where, None):
                self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise
        faults.at("schemas.committed")
        return Footprint(touched={"all tables": changes} if watch and changes else {})

    def _broken(self) -> set[tuple[object, ...]]:
        with _told("", None):
            return set(self._connection.execute("PRAGMA foreign_key_check"))

    def _execute(self, statement: Statement, where: str) -> None:
        faults.at("schemas.statement")
        with _told(where, statement):
            self._connection.execute(statement.text).fetchall()

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        limit = self._limits.statement_timeout
        if not limit:
            yield
            return
        deadline = time.monotonic() + limit
        self._connection.set_progress_handler(lambda: int(time.monotonic() > deadline), STEPS)
        try:
            yield
        finally:
            self._connection.set_progress_handler(None, 0)

    def _write(self, ledger: Ledger) -> None:
        if ledger.drop is not None:
            self._connection.execute(
                "DELETE FROM quaymaster_migrations WHERE version = ?", (int(ledger.drop),)
            )
        if ledger.put is not None:
            row = ledger.put
            values = (
                int(row.version),
                row.version,
                row.name,
                row.checksum,
                row.stage,
                row.done,
                row.begun,
                row.applied_by,
                _now().isoformat(),
            )
            self._connection.execute(
                "INSERT OR REPLACE INTO quaymaster_migrations"
                " (version, label, name, checksum, stage, done, begun, applied_by, applied_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )

    def _count(self, table: str, column: str) -> int:
        which = f" WHERE {_quoted(column)} IS NOT NULL" if column else ""
        rows = f"SELECT 1 FROM {_quoted(table)}{which} LIMIT {MOST + 1}"  # noqa: S608 - quoted names
        with _told("", None), self._bounded():
            return int(self._connection.execute(f"SELECT count(*) FROM ({rows})").fetchone()[0])  # noqa: S608

    def _query(self, statement: Statement, write: bool, limit: int) -> Rows:
        self._connection.execute(f"PRAGMA query_only = {'OFF' if write else 'ON'}")
        with _told("", statement), self._bounded():
            self._connection.execute("PRAGMA foreign_keys = ON")
            changes = self._connection.total_changes
            cursor = self._connection.execute(statement.text)
            rows = cursor.fetchmany(limit + 1)
            columns = tuple(each[0] for each in cursor.description or ())
            if write:
                cursor.fetchall()
            changed = self._connection.total_changes - changes
            return Rows(columns, tuple(rows[:limit]), f"{changed} rows changed", more=len(rows) > limit)

    def _erase(self) -> None:
        drops = [
            Statement(f"DROP {kind.upper()} IF EXISTS {_quoted(name)}", 1, ("drop",))
            for kind in ("trigger", "view", "table")
            for (name,) in self._connection.execute(
                "SELECT name FROM sqlite_master WHERE type = ? AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
                " AND name NOT LIKE 'quaymaster\\_%' ESCAPE '\\' ORDER BY name",
                (kind,),
            )
        ]
        drops.append(Statement("DELETE FROM quaymaster_migrations", 1, ("delete",)))
        self._transaction(drops, None, "", watch=False)


def read_catalog(connection: sqlite3.Connection) -> Catalog:
    tables, indexes, views, triggers = {}, {}, {}, {}
    rows = connection.execute(
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL"
        " AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND tbl_name NOT LIKE 'quaymaster\\_%' ESCAPE '\\' ORDER BY name"
    ).fetchall()
    virtual = [
        name for kind, name, _, sql in rows if kind == "table" and "virtual" in sql.lower().split()[:2]
    ]
    for kind, name, table, sql in rows:
        if any(name.startswith(f"{each}_") for each in virtual) and kind == "table":
            continue
        if kind == "table":
            tables[name] = Table(name, _columns(connection, name), normal(sql), sql)
        elif kind == "index":
            indexes[name] = Index(name, table, normal(sql), sql)
        elif kind == "view":
            views[name] = View(name, "VIEW", normal(sql), text=sql)
        else:
            triggers[name] = Trigger(table, name, normal(sql), sql)
    return Catalog(engine="sqlite", tables=tables, indexes=indexes, views=views, triggers=triggers)


def normal(sql: str) -> str:
    """The text without comments and the shape of its spaces; a renamed table's name is not quoted."""
    text = " ".join(match["keep"] for match in TOKEN.finditer(sql) if not match["drop"])
    return HEAD.sub(r"\1 \2", text)


def _columns(connection: sqlite3.Connection, table: str) -> tuple[Column, ...]:
    """Hidden ones of virtual tables are left out; computed ones are marked."""
    rows = connection.execute(
        'SELECT name, type, "notnull", dflt_value, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid',
        (table,),
    )
    return tuple(
        Column(
            name,
            kind,
            not_null=bool(not_null),
            default=default or "",
            identity="PRIMARY KEY" if key else "",
            generated="yes" if hidden in (2, 3) else "",
        )
        for name, kind, not_null, default, key, hidden in rows
        if hidden != 1
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _now() -> datetime:
    return datetime.now(UTC)


class _told:
    def __init__(self, where: str, statement: Statement | None) -> None:
        line = f", line {statement.line}" if statement is not None and where else ""
        self._where = f"{where}{line}: " if where else ""
        self._text = statement.text if statement is not None else ""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.OperationalError) and "database is locked" in str(error):
            raise Unavailable(f"{self._where}another program is writing to the database") from error
        if isinstance(error, sqlite3.Error | sqlite3.Warning):
            message = "took longer than statement_timeout" if str(error) == "interrupted" else str(error)
            raise StatementFailed(
                f"{self._where}{message}", statement=" ".join(self._text.split())[:200]
            ) from error
