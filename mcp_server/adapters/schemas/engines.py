"""The way to live databases by their addresses, and copies of them: scratch databases, clones, backups."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import anyio
from anyio.abc import Process

from mcp_server.adapters.schemas.sqlite import file_of, open_sqlite
from mcp_server.domain.errors import Corrupt, Invalid, Unavailable
from mcp_server.domain.schemas.addresses import login_of
from mcp_server.domain.schemas.dumped import plain, schema_options
from mcp_server.domain.schemas.statements import Engine
from mcp_server.ports.backups import Sink
from mcp_server.ports.schemas import Limits, Session

COPY_SECONDS = 3600
NO_LIMITS = Limits(lock_timeout=30.0, statement_timeout=0)
PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")


class LiveEngines:
    """`root` is where relative SQLite paths begin."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def engine_of(self, url: str) -> Engine:
        scheme = url.split(":", 1)[0].lower()
        if scheme in ("postgres", "postgresql"):
            return "postgres"
        if scheme in ("sqlite", "file"):
            return "sqlite"
        raise Invalid("an address begins with postgresql://, sqlite:/// or file:")

    def place_of(self, url: str) -> str:
        if self.engine_of(url) == "sqlite":
            return str(self._file(url))
        parts = urlsplit(url)
        return f"{parts.hostname or 'localhost'}:{parts.port or 5432}/{parts.path.lstrip('/')}"

    def open(self, url: str, limits: Limits, *, make: bool = False) -> AbstractAsyncContextManager[Session]:
        if self.engine_of(url) == "sqlite":
            return open_sqlite(f"file:{self._file(url)}", limits, make=make)  # type: ignore[return-value]
        from mcp_server.adapters.schemas.postgres import open_postgres

        return open_postgres(url, limits)  # type: ignore[return-value]

    def scratch(self, url: str, shadow_url: str | None) -> AbstractAsyncContextManager[str]:
        return _scratch_file() if self.engine_of(url) == "sqlite" else _scratch_database(shadow_url or url)

    async def clone(self, url: str, into: str) -> None:
        if self.engine_of(url) == "sqlite":
            await anyio.to_thread.run_sync(_copy_file, self._file(url), file_of(into))
            return
        with tempfile.TemporaryDirectory(prefix="quaymaster-clone-") as folder:
            path = Path(folder) / "dump"
            await self.backup(url, path)
            await self.restore(path, into)

    async def backup(self, url: str, path: Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            if self.engine_of(url) == "sqlite":
                await anyio.to_thread.run_sync(_copy_file, self._file(url), path)
            else:
                await _dump(url, "--format=custom", f"--file={path}")
        except BaseException:
            _remove(path)
            raise

    async def restore(self, path: Path, into: str) -> None:
        if self.engine_of(into) == "sqlite":
            await anyio.to_thread.run_sync(_check_file, path)
            await anyio.to_thread.run_sync(_copy_file, path, file_of(into))
            return
        arguments = ("--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction")
        await _run(into, "pg_restore", *arguments, f"--dbname={_database(into)}", str(path))

    async def fingerprints(self, url: str) -> Mapping[str, tuple[int, str]]:
        if self.engine_of(url) == "sqlite":
            return await anyio.to_thread.run_sync(_file_fingerprints, self._file(url))
        return await _database_fingerprints(url)

    async def schema_text(self, url: str, schemas: Sequence[str] = (), *, without: Sequence[str] = ()) -> str:
        if self.engine_of(url) == "sqlite":
            return await anyio.to_thread.run_sync(_file_schema, self._file(url), without)
        return plain(await _dump(url, "--schema-only", *schema_options(schemas, without=without)))

    async def dump(self, url: str, snapshot: str, sink: Sink) -> None:
        command = ["--format=custom", "--compress=6", f"--snapshot={snapshot}"]
        async with _running(url, "pg_dump", *command) as process:
            assert process.stdout is not None  # noqa: S101 - piped
            async for piece in process.stdout:
                await sink(piece)

    async def load(self, into: str, pieces: AsyncIterator[bytes]) -> None:
        arguments = ("--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction")
        async with _running(into, "pg_restore", *arguments, f"--dbname={_database(into)}") as process:
            assert process.stdin is not None  # noqa: S101 - piped
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                async for piece in pieces:
                    await process.stdin.send(piece)
            await process.stdin.aclose()

    def _file(self, url: str) -> Path:
        return self._root / file_of(url)


# -- PostgreSQL --------------------------------------------------------------------------------------


@asynccontextmanager
async def _scratch_database(url: str) -> AsyncIterator[str]:
    import asyncpg

    name = f"quaymaster_shadow_{secrets.token_hex(6)}"
    try:
        connection: Any = await asyncpg.connect(url, timeout=10, statement_cache_size=0)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise Unavailable(
            f"no shadow database: PostgreSQL cannot be reached ({type(error).__name__})"
        ) from error
    try:
        try:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        except asyncpg.InsufficientPrivilegeError as error:
            raise Unavailable(
                "no shadow database: this role may not create databases",
                next="ALTER ROLE ... CREATEDB, or set the variable that ends in _SHADOW_URL to a role that may.",
            ) from error
        parts = urlsplit(url)
        try:
            yield urlunsplit(parts._replace(path=f"/{name}"))
        finally:
            with (
                anyio.CancelScope(shield=True),
                anyio.move_on_after(30),
                suppress(OSError, *_asyncpg_errors()),
            ):
                await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(5), suppress(OSError, *_asyncpg_errors()):
            await connection.close(timeout=3)


def _asyncpg_errors() -> tuple[type[Exception], ...]:
    import asyncpg

    return (asyncpg.PostgresError, asyncpg.InterfaceError)


async def _database_fingerprints(url: str) -> dict[str, tuple[int, str]]:
    import asyncpg

    connection: Any = await asyncpg.connect(url, timeout=10, statement_cache_size=0)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            names = await connection.fetch(
                "SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c"
                " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r'"
                " AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' ORDER BY 1"
            )
            found = {}
            for row in names:
                total = "coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text"
                query = f"SELECT count(*) AS rows, {total} AS sum FROM {row['name']} t"  # noqa: S608 - quoted names
                counted = await connection.fetchrow(query)
                found[row["name"]] = (counted["rows"], counted["sum"])
            return found
    finally:
        await connection.close(timeout=3)


async def _dump(url: str, *arguments: str) -> str:
    return await _run(url, "pg_dump", *arguments)


async def _run(url: str, program: str, *arguments: str) -> str:
    """The output of a program of PostgreSQL's."""
    async with _running(url, program, *arguments) as process:
        assert process.stdout is not None  # noqa: S101 - piped
        return b"".join([piece async for piece in process.stdout]).decode("utf-8")


@asynccontextmanager
async def _running(url: str, program: str, *arguments: str) -> AsyncIterator[Process]:
    """A program of PostgreSQL's at its work, which must have gone well when the block ends. The password travels
    in the environment, never in an argument."""
    path = await anyio.to_thread.run_sync(_program, program, await _server_version(url))
    with anyio.fail_after(COPY_SECONDS), tempfile.TemporaryFile() as said:
        process = await anyio.open_process(
            [path, "--no-password", *arguments], env=_environment(url), stderr=said
        )
        try:
            yield process
            await process.wait()
        finally:
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    process.kill()
                await process.aclose()
        if process.returncode:
            said.seek(0)
            raise _failure(program, said.read(16_384).decode("utf-8", "replace"))


def _failure(program: str, words: str) -> Corrupt | Unavailable:
    lines = words.strip().splitlines()
    reason = next((line for line in lines if "error" in line), lines[-1] if lines else "failed")
    if program == "pg_restore":
        return Corrupt(f"the backup cannot be restored: {reason}", next="Make another backup.")
    return Unavailable(f"{program}: {reason}", next="Nothing has been changed.")


def _environment(url: str) -> dict[str, str]:
    login = login_of(url)
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": os.environ.get("HOME", "/"),
        "PGHOST": login.host,
        "PGPORT": str(login.port),
        "PGUSER": login.role,
        "PGPASSWORD": login.password.get_secret_value(),
        "PGDATABASE": login.database,
        "PGSSLMODE": login.ssl,
        "LC_ALL": "C.UTF-8",
    }


def _database(url: str) -> str:
    return login_of(url).database


async def _server_version(url: str) -> int:
    import asyncpg

    try:
        connection: Any = await asyncpg.connect(url, timeout=10, statement_cache_size=0)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise Unavailable(f"PostgreSQL cannot be reached: {type(error).__name__}") from error
    try:
        return int(connection.get_server_version().major)
    finally:
        await connection.close(timeout=3)


def _program(name: str, least: int) -> str:
    """The oldest version of the program that understands the server."""
    found: list[tuple[int, str]] = []
    for pattern in PLACES:
        for folder in Path("/").glob(pattern.lstrip("/")):
            if (folder / name).exists():
                found.append((_version(str(folder / name)), str(folder / name)))
    if (first := shutil.which(name)) is not None:
        found.append((_version(first), first))
    fitting = sorted(each for each in found if each[0] >= least)
    if not fitting:
        raise Unavailable(
            f"{name} of PostgreSQL {least} or newer is needed and not installed",
            next=f"Install PostgreSQL's client programs of version {least}.",
        )
    return fitting[0][1]


def _version(program: str) -> int:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    number = re.search(r"(\d+)(?:\.\d+)?", said.stdout)
    return int(number[1]) if number else 0


# -- SQLite ------------------------------------------------------------------------------------------


@asynccontextmanager
async def _scratch_file() -> AsyncIterator[str]:
    folder = tempfile.mkdtemp(prefix="quaymaster-shadow-")
    try:
        yield f"file:{folder}/shadow.db"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _reading(path: Path) -> sqlite3.Connection:
    """A file that is not there is an empty database, and is not made."""
    return sqlite3.connect(path if path.exists() else ":memory:")


def _copy_file(source: Path, target: Path) -> None:
    reading, writing = _reading(source), sqlite3.connect(target)
    try:
        reading.backup(writing)
    except sqlite3.Error as error:
        raise Unavailable(f"{source.name} cannot be copied: {error}") from error
    finally:
        reading.close()
        writing.close()


def _check_file(path: Path) -> None:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        said = connection.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.Error as error:
        raise Corrupt(f"the backup is no database: {error}", next="Make another backup.") from error
    finally:
        connection.close()
    if said != ("ok",):
        raise Corrupt("the backup is damaged", next="Make another backup.")


def _file_fingerprints(path: Path) -> dict[str, tuple[int, str]]:
    connection = _reading(path)
    try:
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY 1"
        ).fetchall()
        found = {}
        for (name,) in names:
            quoted = '"' + name.replace('"', '""') + '"'
            total, rows = 0, 0
            for row in connection.execute(f"SELECT * FROM {quoted}"):  # noqa: S608 - a quoted name
                rows += 1
                digest = hashlib.blake2b(repr(row).encode("utf-8", "surrogatepass"), digest_size=8).digest()
                total = (total + int.from_bytes(digest, "big")) % (1 << 64)
            found[name] = (rows, str(total))
        return found
    finally:
        connection.close()


def _file_schema(path: Path, without: Sequence[str]) -> str:
    connection = _reading(path)
    try:
        rows = connection.execute(
            "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
            " AND tbl_name NOT LIKE 'quaymaster\\_%' ESCAPE '\\' AND tbl_name NOT IN (SELECT value FROM json_each(?))"
            " ORDER BY CASE type WHEN 'table' THEN 1 WHEN 'index' THEN 2 WHEN 'view' THEN 3 ELSE 4 END, rowid",
            (json.dumps(list(without)),),
        ).fetchall()
    finally:
        connection.close()
    return "".join(f"{sql};\n\n" for (sql,) in rows).rstrip("\n") + ("\n" if rows else "")
