"""The schema, brought up to date by numbered SQL files.

One runner works at a time: it holds an advisory lock on a connection of its own, under a name that says who
it is. Each file is one transaction together with its row in `schema_migrations`, so that a runner that is
killed leaves nothing half done.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import asyncpg

from mcp_server.adapters.postgres.connections import Connection, Connections
from mcp_server.domain.errors import Corrupt, Invalid, Unavailable

LOCK = (0x51756179, 1)
"""Two numbers that nobody else in the database takes for an advisory lock."""

_LONG = 3600.0
_NUMBERED = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_BOOKKEEPING = "schema_migrations.sql"


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Applied:
    """A row of `schema_migrations`. Rows of the seed's server have neither name nor checksum. `duration` in
    milliseconds."""

    version: int
    name: str | None
    checksum: str | None
    applied_at: datetime | None
    duration: int | None
    applied_by: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """`changed`: names of applied files that differ from what was applied; `missing`: applied ones that are not
    on disk; `newer`: versions above all files."""

    applied: Sequence[Applied]
    pending: Sequence[Migration]
    changed: Sequence[str]
    missing: Sequence[str]
    newer: Sequence[int]

    def refuse(self) -> None:
        """Raise Corrupt when files and database do not tell the same story."""
        if self.changed:
            raise Corrupt(
                f"migration {', '.join(self.changed)} was changed after it was applied",
                next="Restore the file as it was; a change of the schema is a new file.",
                files=list(self.changed),
            )
        if self.newer:
            raise Corrupt(
                f"the database has migration {max(self.newer)}, which this version does not know",
                next="Start the version that migrated it, or a later one.",
                versions=list(self.newer),
            )
        if self.missing:
            raise Corrupt(
                f"migration {', '.join(self.missing)} was applied, but its file is gone",
                next="Restore the file.",
                files=list(self.missing),
            )


def folder() -> Path:
    """Inside an installed package its own copy, in a checkout `migrations/`."""
    package = Path(__file__).parents[2]
    installed = package / "_data" / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def read(directory: Path) -> Sequence[Migration]:
    """The numbered files in order. Raises Corrupt for a number that comes twice, and when there are none.

    Numbers may be left out: they are reserved by subject."""
    files = sorted(path for path in directory.glob("*.sql") if path.name != _BOOKKEEPING)
    found = []
    for path in files:
        match = _NUMBERED.fullmatch(path.name)
        if match is None:
            raise Corrupt(f"{path.name} is not named NNNN_name.sql", next="Rename the file.")
        found.append(Migration(int(match[1]), path.name, path.read_text(encoding="utf-8")))
    for earlier, migration in pairwise(found):
        if migration.version == earlier.version:
            raise Corrupt(f"{migration.name} has the number of {earlier.name}", next="Give each number once.")
    if not found:
        raise Corrupt(f"there are no migrations in {directory}", next="Install the package again.")
    return found


class Migrations:
    """Raises Outage and Invalid as every use of `Connections` does."""

    def __init__(self, connections: Connections, *, directory: Path | None = None) -> None:
        self._connections = connections
        self._directory = directory or folder()

    async def status(self) -> Status:
        files = read(self._directory)
        async with self._connections.fresh("migrate status") as connection:
            return compare(files, await _applied(connection))

    async def up(self) -> Sequence[Migration]:
        """Apply what is pending and return it. Raises Corrupt as `Status.refuse`, Unavailable when another
        runner holds the
        lock for longer than the setting allows, Invalid when a file cannot be applied."""
        files = read(self._directory)
        async with self._locked() as holder:
            applied = await _applied(holder)
            status = compare(files, applied)
            status.refuse()
            if not status.pending:
                return []
            async with self._connections.fresh(_who(), patience=_LONG) as connection:
                await connection.execute((self._directory / _BOOKKEEPING).read_text(encoding="utf-8"))
                for migration in status.pending:
                    await _apply(connection, migration)
        return status.pending

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[Connection]:
        wait = self._connections.settings.migration_wait
        async with self._connections.fresh(_who(), patience=wait + 10) as connection:
            await connection.execute(f"SET lock_timeout = {int(wait * 1000)}")
            try:
                await connection.execute(f"SELECT pg_advisory_lock({LOCK[0]}, {LOCK[1]})")
            except asyncpg.LockNotAvailableError as error:
                raise await _held_by_another(connection, wait) from error
            yield connection


def compare(files: Sequence[Migration], applied: Sequence[Applied]) -> Status:
    """What the files and the database say of each other. A row without a checksum is taken as it is."""
    known = {file.version: file for file in files}
    rows = {row.version: row for row in applied}
    last = max(known, default=0)
    return Status(
        applied=applied,
        pending=[file for file in files if file.version not in rows],
        changed=[
            file.name
            for file in files
            if (row := rows.get(file.version)) and row.checksum not in (None, file.checksum)
        ],
        missing=[
            row.name or str(row.version)
            for row in applied
            if row.version <= last and row.version not in known
        ],
        newer=[row.version for row in applied if row.version > last],
    )


async def _applied(connection: Connection) -> Sequence[Applied]:
    if not await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL"):
        return []
    rows = await connection.fetch(
        "SELECT to_jsonb(m) AS row, m.applied_at FROM schema_migrations m ORDER BY m.version"
    )
    return [
        Applied(
            version=row["row"]["version"],
            name=row["row"].get("name"),
            checksum=row["row"].get("checksum"),
            applied_at=row["applied_at"],
            duration=row["row"].get("duration"),
            applied_by=row["row"].get("applied_by"),
        )
        for row in rows
    ]


async def _apply(connection: Connection, migration: Migration) -> None:
    started = time.monotonic()
    try:
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO schema_migrations (version, name, checksum, applied_by) VALUES ($1, $2, $3, $4)",
                migration.version,
                migration.name,
                migration.checksum,
                _who(),
            )
            await connection.execute(migration.sql)
            await connection.execute(
                """
                UPDATE schema_migrations SET duration = $2, applied_at = clock_timestamp()
                WHERE version = $1
                """,
                migration.version,
                int((time.monotonic() - started) * 1000),
            )
    except asyncpg.PostgresError as error:
        state = error.sqlstate or ""
        if state[:2] in {"08", "53", "57"} or state in {"25006", "42501"}:
            raise
        raise Invalid(
            f"migration {migration.name} could not be applied: {error.args[0]}",
            next="Nothing of this file was changed. Correct what the message names, then start again.",
        ) from error


async def _held_by_another(connection: Connection, wait: float) -> Unavailable:
    owner = await connection.fetchrow(
        """
        SELECT a.pid, a.application_name, a.backend_start
        FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND l.classid = $1::BIGINT::OID AND l.objid = $2::BIGINT::OID
        """,
        *LOCK,
    )
    if owner is None:
        return Unavailable(f"another process migrated the database for {wait:g} s, and has just ended")
    since = owner["backend_start"].isoformat(timespec="seconds")
    return Unavailable(
        f"'{owner['application_name']}' (process {owner['pid']} of PostgreSQL) migrates since {since}",
        next="Wait for it, or when its owner is gone end it: SELECT pg_terminate_backend(PID).",
        pid=owner["pid"],
        application=owner["application_name"],
        since=since,
    )


def _who() -> str:
    return f"migrate {os.getpid()}@{socket.gethostname()}"
