"""PostgreSQL as a database whose schema is looked after: one direct connection, its ledger and its lock.

The lock is an advisory lock of the session, so it ends with the connection. Who holds it is written beside the
ledger, for those who wait. Everything of ours lies in the schema `quaymaster`.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import asyncpg

from mcp_server.adapters import faults
from mcp_server.adapters.schemas.footprints import QUESTIONS, footprint_of
from mcp_server.adapters.schemas.pg_catalog import read_catalog
from mcp_server.domain.errors import Invalid, Locked, Unavailable
from mcp_server.domain.schemas.catalogs import Catalog, within
from mcp_server.domain.schemas.failures import StatementFailed
from mcp_server.domain.schemas.losses import MOST
from mcp_server.domain.schemas.migrations import Applied
from mcp_server.domain.schemas.names import literal
from mcp_server.domain.schemas.statements import Statement
from mcp_server.ports.schemas import Footprint, Ledger, Limits, Rows, Witness

CONNECT_SECONDS = 10.0
POLL_SECONDS = 0.1
DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError)
LOCK_KEY = 0x7175_6179_6D64_62
WATCH_CLIENT = "SET client_connection_check_interval = 1000"
"""So that the statement of a killed client ends with it."""
OURSELVES = ("RESET SESSION AUTHORIZATION", "RESET ROLE")
"""A script may make its tables as another role, who knows nothing of the ledger."""
MAKE_LEDGER = """
    CREATE SCHEMA IF NOT EXISTS quaymaster;
    CREATE TABLE IF NOT EXISTS quaymaster.migrations (
        version numeric(18) PRIMARY KEY, label text NOT NULL, name text NOT NULL, checksum text NOT NULL,
        stage text NOT NULL, done integer NOT NULL, begun boolean NOT NULL,
        applied_by text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE TABLE IF NOT EXISTS quaymaster.migration_lock (
        id integer PRIMARY KEY CHECK (id = 1), owner text NOT NULL, since timestamptz NOT NULL
    );
"""
OUTSIDE = re.compile(
    r"concurrently|^(vacuum|call|do|reindex|cluster|alter system|(create|drop) (database|tablespace|subscription))\b"
)
INDEX = re.compile(
    r"^\s*(create\s+(?:unique\s+)?|drop\s+)index\s+concurrently\s+(?:if\s+(?:not\s+)?exists\s+)?"
    r"((?:\"[^\"]+\"|[\w$]+)(?:\.(?:\"[^\"]+\"|[\w$]+))?)(\s+on\s+(?:only\s+)?((?:\"[^\"]+\"|[\w$]+)\.)?)?",
    re.IGNORECASE,
)


@asynccontextmanager
async def open_postgres(url: str, limits: Limits) -> AsyncIterator[PostgresSession]:
    try:
        connection = await asyncpg.connect(
            url,
            timeout=CONNECT_SECONDS,
            statement_cache_size=0,
            server_settings={"application_name": "quaymaster db"},
        )
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise Unavailable(f"PostgreSQL cannot be reached: {reason}", next="Check the address.") from error
    try:
        yield PostgresSession(connection, limits, url)
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(5), suppress(OSError, *DRIVER_ERRORS):
            await connection.close(timeout=3)
        if not connection.is_closed():
            connection.terminate()


class PostgresSession:
    engine = "postgres"

    def __init__(self, connection: Any, limits: Limits, url: str) -> None:
        self._connection = connection
        self._limits = limits
        self._url = url
        self._locked = False
        self._watches_clients: bool | None = None

    @asynccontextmanager
    async def lock(self, owner: str, wait: float) -> AsyncIterator[None]:
        await self._limit()
        deadline = time.monotonic() + wait
        while not await self._connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_KEY):
            if time.monotonic() >= deadline:
                raise Locked(
                    await self._holder(), next="Wait until it has ended, then run the command again."
                )
            await anyio.sleep(POLL_SECONDS)
        self._locked = True
        try:
            await self._note(owner)
            yield
        finally:
            self._locked = False
            with anyio.CancelScope(shield=True), anyio.move_on_after(5), suppress(OSError, *DRIVER_ERRORS):
                await self._connection.fetchval("SELECT pg_advisory_unlock($1)", LOCK_KEY)

    async def witness(self) -> Witness | None:
        key = LOCK_KEY if self._locked else secrets.randbits(62)
        if not self._locked:
            await self._connection.fetchval("SELECT pg_advisory_lock($1)", key)
        pid = await self._connection.fetchval("SELECT pg_backend_pid()")
        return Witness(self._url, _held(str(int(pid)), key), "1", is_file=False)

    async def ledger(self) -> tuple[Applied, ...]:
        if await self._connection.fetchval("SELECT to_regclass('quaymaster.migrations')") is None:
            return ()
        rows = await self._connection.fetch(
            "SELECT label, name, checksum, stage, done, begun, applied_by, applied_at"
            " FROM quaymaster.migrations ORDER BY version"
        )
        return tuple(Applied(*row) for row in rows)

    async def transaction(
        self, statements: Sequence[Statement], ledger: Ledger | None, *, where: str = "", watch: bool = False
    ) -> Footprint:
        """Two messages beside the statements: limits, lock and BEGIN; the ledger's row and COMMIT."""
        with _told(where, None):  # deferred constraints are looked at when it is committed
            try:
                await self._ready("BEGIN")
                before = await self._answers() if watch else {}
                for statement in statements:
                    await self._execute(statement, where)
                footprint = footprint_of(before, await self._answers()) if watch else Footprint()
                faults.at("schemas.before_commit")
                await self._connection.execute("; ".join([*OURSELVES, *_account(ledger), "COMMIT"]))
            except BaseException:
                await self._roll_back()
                raise
        faults.at("schemas.committed")
        return footprint

    async def alone(self, statement: Statement, row: Applied, *, where: str = "") -> None:
        after = row._replace(done=row.done + 1, begun=False)
        if not OUTSIDE.search(" ".join(statement.words)):
            await self.transaction([statement], Ledger(put=after), where=where)
            return
        await self._ready(*_account(Ledger(put=row._replace(begun=True))))
        await self._execute(statement, where)
        faults.at("schemas.executed")
        await self._connection.execute("; ".join(_account(Ledger(put=after))))

    async def outcome(self, statement: Statement) -> bool | None:
        if statement.words[:1] == ("vacuum",):
            return False
        found = INDEX.match(statement.text)
        if found is None:
            return None
        name = found[2] if "." in found[2] or not found[4] else f"{found[4]}{found[2]}"
        valid = await self._connection.fetchval(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)", name
        )
        if found[1].lower().startswith("drop"):
            return valid is None
        if valid is False:
            await self._execute(Statement(f"DROP INDEX CONCURRENTLY {name}", 1, ("drop", "index")), "")
        return valid is True

    async def write(self, ledger: Ledger) -> None:
        await self._ready(*_account(ledger))

    async def catalog(self) -> Catalog:
        found = await read_catalog(self._connection)
        named = {
            await self._connection.fetchval("SELECT quote_ident($1)", each) for each in self._limits.schemas
        }
        return within(found, named) if named else found

    async def count(self, table: str, column: str = "") -> int:
        await self._limit()
        which = f" WHERE {column} IS NOT NULL" if column else ""
        with _told("", None):
            rows = f"(SELECT 1 FROM {table}{which} LIMIT {MOST + 1})"  # noqa: S608 - names are the catalog's
            return int(await self._connection.fetchval(f"SELECT count(*) FROM {rows} AS counted"))  # noqa: S608

    async def query(self, statement: Statement, *, write: bool, limit: int) -> Rows:
        await self._limit()
        with _told("", statement):
            async with self._connection.transaction(readonly=not write):
                prepared = await self._connection.prepare(statement.text)
                columns = tuple(each.name for each in prepared.get_attributes())
                if not columns:
                    await prepared.fetch()
                    return Rows((), (), prepared.get_statusmsg())
                cursor = await prepared.cursor()
                rows = await cursor.fetch(limit + 1)
                if write:
                    while await cursor.fetch(1000):
                        pass
                kept = tuple(tuple(row) for row in rows[:limit])
                return Rows(columns, kept, prepared.get_statusmsg() or "", more=len(rows) > limit)

    async def erase(self) -> None:
        await self._ready()
        async with self._connection.transaction():
            for sql in await self._drops():
                await self._connection.execute(sql)
            await self._connection.execute("DELETE FROM quaymaster.migrations")
            faults.at("schemas.before_commit")

    # -- steps ------------------------------------------------------------------------------------

    async def _ready(self, *then: str) -> None:
        """Forget what the last script has set, and make sure that the lock is this very session's: all in one
        message, because this stands before every migration."""
        if not self._locked:
            await self._limit(*then)
            return
        try:
            await self._limit(f"SELECT 1 / ({_held('pg_backend_pid()', LOCK_KEY)})", *then)
        except asyncpg.DivisionByZeroError as error:
            raise Unavailable(
                "the lock of this run was lost: the connection goes through a pooler",
                next="Set the variable that ends in _DIRECT_URL to the database's own address.",
            ) from error

    async def _limit(self, *more: str) -> None:
        if self._watches_clients is None:
            self._watches_clients = await self._knows(WATCH_CLIENT)
        lock, statement = (int(each * 1000) for each in self._limits[:2])
        settings = [
            "RESET ALL",
            f"SET lock_timeout = {lock}",
            f"SET statement_timeout = {statement}",
            *([WATCH_CLIENT] if self._watches_clients else []),
        ]
        await self._connection.execute("; ".join([*settings, *more]))

    async def _knows(self, setting: str) -> bool:
        """Whether this server, on its system, has the setting."""
        try:
            await self._connection.execute(setting)
        except asyncpg.PostgresError:
            return False
        return True

    async def _execute(self, statement: Statement, where: str) -> None:
        faults.at("schemas.statement")
        with _told(where, statement):
            await self._connection.execute(statement.text)

    async def _roll_back(self) -> None:
        with anyio.CancelScope(shield=True), anyio.move_on_after(5), suppress(OSError, *DRIVER_ERRORS):
            await self._connection.execute("ROLLBACK")

    async def _note(self, owner: str) -> None:
        with _told("the ledger", None):
            await self._connection.execute(MAKE_LEDGER)
            await self._connection.execute(
                "INSERT INTO quaymaster.migration_lock (id, owner, since) VALUES (1, $1, clock_timestamp())"
                " ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, since = excluded.since",
                f"{owner}, process {os.getpid()}",
            )

    async def _holder(self) -> str:
        with suppress(asyncpg.PostgresError):
            row = await self._connection.fetchrow("SELECT owner, since FROM quaymaster.migration_lock")
            if row is not None:
                return (
                    f"another run holds the lock: {row['owner']}, since {row['since']:%Y-%m-%d %H:%M:%S} UTC"
                )
        return "another run holds the lock"

    async def _answers(self) -> dict[str, Any]:
        return {name: await self._connection.fetch(question) for name, question in QUESTIONS.items()}

    async def _drops(self) -> list[str]:
        """Everything in the schemas that are looked after; `public` stays, empty."""
        rows = await self._connection.fetch(
            "SELECT nspname, quote_ident(nspname) AS name FROM pg_namespace"
            " WHERE nspname NOT LIKE 'pg\\_%' AND nspname NOT IN ('information_schema', 'quaymaster')"
            " AND NOT EXISTS (SELECT 1 FROM pg_depend WHERE objid = pg_namespace.oid AND deptype = 'e')"
            " AND (cardinality($1::text[]) = 0 OR nspname = ANY ($1::text[]))"
            " ORDER BY nspname",
            list(self._limits.schemas),
        )
        drops = [f"DROP SCHEMA {row['name']} CASCADE" for row in rows if row["nspname"] != "public"]
        public = any(row["nspname"] == "public" for row in rows)
        return [*(await self._public_drops() if public else ()), *drops]

    async def _public_drops(self) -> list[str]:
        rows = await self._connection.fetch(
            """
            WITH own AS (SELECT 'public'::regnamespace AS schema)
            SELECT CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                   WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'c' THEN 'TYPE' ELSE 'TABLE' END AS kind,
                   format('%I.%I', 'public', relname) AS name, 1 AS place
            FROM pg_class c, own WHERE relnamespace = own.schema AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')
              AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('e', 'i'))
            UNION ALL
            SELECT 'ROUTINE', p.oid::regprocedure::text, 2 FROM pg_proc p, own
            WHERE pronamespace = own.schema
              AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
            UNION ALL
            SELECT CASE typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, format('%I.%I', 'public', typname), 3
            FROM pg_type t, own WHERE typnamespace = own.schema AND typtype IN ('e', 'd', 'r')
              AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')
            ORDER BY place, name
            """
        )
        return [f"DROP {row['kind']} IF EXISTS {row['name']} CASCADE" for row in rows]


def _account(ledger: Ledger | None) -> list[str]:
    """The statements that bring the ledger up to date. Its values stand in the text, because arguments would take two
    more round trips and could not travel together with what comes before and after."""
    if ledger is None:
        return []
    if ledger.put is None:
        return [f"DELETE FROM quaymaster.migrations WHERE version = {int(ledger.drop or 0)}"]  # noqa: S608 - a number
    row = ledger.put
    texts = ", ".join(literal(each) for each in (row.version, row.name, row.checksum, row.stage))
    insert = (
        "INSERT INTO quaymaster.migrations"  # noqa: S608 - numbers and literals
        " (version, label, name, checksum, stage, done, begun, applied_by)"
        f" VALUES ({int(row.version)}, {texts}, {int(row.done)}, {bool(row.begun)}, {literal(row.applied_by)})"
        " ON CONFLICT (version) DO UPDATE SET label = excluded.label, name = excluded.name,"
        " checksum = excluded.checksum, stage = excluded.stage, done = excluded.done,"
        " begun = excluded.begun, applied_by = excluded.applied_by, applied_at = clock_timestamp()"
    )
    return [insert]


def _held(pid: str, key: int) -> str:
    """How often a process of this very database's server holds an advisory lock on it."""
    return (
        f"SELECT count(*) FROM pg_locks WHERE pid = {pid} AND locktype = 'advisory'"  # noqa: S608 - numbers
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        f" AND classid::bigint = {key >> 32} AND objid::bigint = {key & 0xFFFF_FFFF} AND granted"
    )


class _told:
    """Turns what PostgreSQL says into our own errors, with the place in the file."""

    def __init__(self, where: str, statement: Statement | None) -> None:
        line = f", line {statement.line}" if statement is not None and where else ""
        self._where = f"{where}{line}: " if where else ""
        self._text = statement.text if statement is not None else ""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, asyncpg.PostgresConnectionError | OSError):
            raise Unavailable(f"{self._where}the connection to PostgreSQL was lost") from error
        if isinstance(error, asyncpg.InterfaceError) and "closed" in str(error):
            raise Unavailable(f"{self._where}the connection to PostgreSQL was lost") from error
        if isinstance(error, asyncpg.PostgresSyntaxError) and "cannot insert multiple commands" in str(error):
            raise Invalid("one statement at a time") from error
        if isinstance(error, asyncpg.PostgresError):
            hint = getattr(error, "hint", None)
            raise StatementFailed(
                f"{self._where}{str(error).splitlines()[0]}",
                next=hint or None,
                sqlstate=error.sqlstate,
                statement=" ".join(self._text.split())[:200],
            ) from error
