"""Quaymaster's own PostgreSQL, dumped as of one moment and restored beside itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from mcp_server.adapters.control_plane.programs import ProgramsOfVersion
from mcp_server.domain.backups import TableSum
from mcp_server.domain.errors import Conflict, Unavailable
from mcp_server.domain.installation_backups import Address, new_database
from mcp_server.ports.backups import Seen, Sink
from mcp_server.ports.installation_backups import Pieces

if TYPE_CHECKING:
    import asyncpg

CONNECT_SECONDS = 10.0
STATEMENT_SECONDS = 3600.0
TIDY_SECONDS = 60.0

Sums = Callable[[Any], Awaitable[Sequence[TableSum]]]
"""What the database of an asyncpg connection holds, inside its transaction."""


class ControlPlaneDatabase:
    """`url` is its address, with the password."""

    def __init__(
        self,
        url: str,
        address: Address,
        programs: ProgramsOfVersion,
        sums: Sums,
        alive: Callable[[str | None], bool],
    ) -> None:
        self._url = url
        self._address = address
        self._programs = programs
        self._sums = sums
        self._alive = alive

    @asynccontextmanager
    async def moment(self) -> AsyncIterator[Seen]:
        async with self._session() as connection:
            async with _told():
                await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                seen = Seen(
                    snapshot=await connection.fetchval("SELECT pg_export_snapshot()"),
                    tables=await self._sums(connection),
                    extensions=(),
                    version=await connection.fetchval("SHOW server_version"),
                    bytes=await connection.fetchval("SELECT pg_database_size(current_database())"),
                )
            yield seen

    async def dump(self, seen: Seen, sink: Sink) -> None:
        arguments = [
            *("--format=custom", "--compress=6", "--no-password", f"--snapshot={seen.snapshot}"),
            f"--dbname={self._address.url}",
        ]
        async with self._programs.of(_major(seen.version)) as programs:
            await programs.run("pg_dump", arguments, stdout=sink)

    async def restore(self, name: str, pieces: Pieces) -> None:
        async with self._session() as connection, _told():
            version = await connection.fetchval("SHOW server_version")
            # The programs first: without them no database is made.
            async with self._programs.of(_major(version)) as programs:
                await _create(connection, new_database(name))
                try:
                    arguments = [
                        *("--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"),
                        *("--no-comments", "--no-password", f"--dbname={self._address.of(name)}"),
                    ]
                    await programs.run("pg_restore", arguments, stdin=pieces())
                except BaseException:
                    with anyio.move_on_after(TIDY_SECONDS, shield=True):
                        await self.drop(name)
                    raise

    async def tables(self, name: str) -> Sequence[TableSum]:
        async with self._session(name) as connection, _told():
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return await self._sums(connection)

    async def drop(self, name: str) -> None:
        async with self._session() as connection, _told():
            await connection.execute(f'DROP DATABASE IF EXISTS "{new_database(name)}" WITH (FORCE)')

    async def clear(self) -> None:
        await self._programs.clear(self._alive)

    @asynccontextmanager
    async def _session(self, database: str | None = None) -> AsyncIterator[asyncpg.Connection]:
        """With settings of its own: two databases are said alike, whatever their defaults."""
        import asyncpg

        async with _told():
            connection = await asyncpg.connect(
                self._url,
                database=database,
                timeout=CONNECT_SECONDS,
                command_timeout=STATEMENT_SECONDS,
                statement_cache_size=0,
                server_settings={
                    "application_name": "quaymaster backup",
                    "statement_timeout": "0",
                    "lock_timeout": "60s",
                    "idle_in_transaction_session_timeout": "0",
                    "timezone": "UTC",
                    "datestyle": "ISO, YMD",
                    "intervalstyle": "iso_8601",
                    "bytea_output": "hex",
                    "client_min_messages": "error",
                },
            )
        try:
            yield connection
        finally:
            connection.terminate()


async def _create(connection: asyncpg.Connection, name: str) -> None:
    import asyncpg

    row = await connection.fetchrow(
        """
        SELECT pg_encoding_to_char(encoding) AS encoding, datcollate, datctype
        FROM pg_database WHERE datname = current_database()
        """
    )
    assert row is not None  # noqa: S101  # the database that we are in
    made = await connection.fetchval(
        """
        SELECT format('CREATE DATABASE %I TEMPLATE template0 ENCODING %L LC_COLLATE %L LC_CTYPE %L',
          $1::TEXT, $2::TEXT, $3::TEXT, $4::TEXT)
        """,
        name,
        row["encoding"],
        row["datcollate"],
        row["datctype"],
    )
    try:
        await connection.execute(made)
    except asyncpg.DuplicateDatabaseError as error:
        raise Conflict(f"there is a database '{name}' already", next="Name one that is not there.") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise Unavailable(
            "the role may not make a database, in which a backup is proved",
            next="Let it: ALTER ROLE ... CREATEDB.",
        ) from error
    await connection.execute(f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC')


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    """The driver's errors in our words: they may hold the address."""
    import asyncpg

    try:
        yield
        return
    except asyncpg.PostgresError as error:
        why = f"SQLSTATE {error.sqlstate}"
    except (OSError, TimeoutError, asyncpg.InterfaceError) as error:
        why = type(error).__name__
    raise Unavailable(f"Quaymaster's own PostgreSQL could not be used ({why})")


def _major(version: str) -> int:
    return int(version.split()[0].split(".")[0])
