"""SQLite through aiosqlite. Placeholders are `?` or `?1`, `?2`, ..."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiosqlite

from mcp_server.databases.drivers import Row

MEMORY = ":memory:"
NOWHERE = (0, 0)
_LOSSES = ("unable to open database file", "disk i/o error", "file is gone")


class SqliteDriver:
    """The file must exist; a URL that is mistyped makes no empty database.

    A file that was replaced or removed under an open connection counts as lost: what is written to it would be
    gone with the connection.
    """

    def __init__(self, path: str, statement_seconds: float) -> None:
        self._path = path if path == MEMORY else os.path.abspath(path)
        self._statement_seconds = statement_seconds
        self._files: dict[int, tuple[int, int]] = {}

    async def connect(self, seconds: float) -> aiosqlite.Connection:
        if self._file() == NOWHERE:
            raise sqlite3.OperationalError("the database's file is gone")
        target = MEMORY if self._path == MEMORY else f"{Path(self._path).as_uri()}?mode=rw"
        raw = aiosqlite.connect(target, uri=True, isolation_level=None, timeout=self._statement_seconds)
        # An application that forgets to close must still be able to exit.
        getattr(raw, "_thread").daemon = True  # noqa: B009 - no public name
        async with asyncio.timeout(seconds):
            raw = await raw
            await raw.execute("PRAGMA foreign_keys = ON")
        self._files[id(raw)] = self._file()
        return raw

    async def probe(self, raw: aiosqlite.Connection) -> None:
        if not self.is_usable(raw):
            raise sqlite3.OperationalError("the database's file is gone or another one")
        async with raw.execute("SELECT count(*) FROM sqlite_master") as cursor:
            await cursor.fetchone()

    async def fetch(self, raw: aiosqlite.Connection, sql: str, args: Sequence[Any]) -> list[Row]:
        async with asyncio.timeout(self._statement_seconds), raw.execute(sql, args) as cursor:
            rows = await cursor.fetchall()
            names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in rows]

    async def execute(self, raw: aiosqlite.Connection, sql: str, args: Sequence[Any]) -> int:
        async with asyncio.timeout(self._statement_seconds), raw.execute(sql, args) as cursor:
            return cursor.rowcount

    async def begin(self, raw: aiosqlite.Connection, *, readonly: bool) -> None:
        """A writer takes its lock at once: one that takes it later can fail in the middle."""
        if readonly:
            await raw.execute("PRAGMA query_only = ON")
        await raw.execute("BEGIN" if readonly else "BEGIN IMMEDIATE")

    async def commit(self, raw: aiosqlite.Connection) -> None:
        await raw.execute("COMMIT")

    async def reset(self, raw: aiosqlite.Connection) -> None:
        if raw.in_transaction:
            await raw.rollback()
        await raw.execute("PRAGMA query_only = OFF")
        await raw.execute("PRAGMA foreign_keys = ON")

    def is_usable(self, raw: aiosqlite.Connection) -> bool:
        return self._files.get(id(raw)) == self._file() != NOWHERE

    async def close(self, raw: aiosqlite.Connection) -> None:
        self._files.pop(id(raw), None)
        await raw.interrupt()
        await raw.close()

    def is_loss(self, error: BaseException) -> bool:
        return isinstance(error, sqlite3.OperationalError) and any(
            sign in str(error).lower() for sign in _LOSSES
        )

    def _file(self) -> tuple[int, int]:
        """Which file the path names now."""
        if self._path == MEMORY:
            return (1, 1)
        try:
            found = os.stat(self._path)
        except OSError:
            return NOWHERE
        return (found.st_dev, found.st_ino)
