"""Bringing a SQLite file into PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from mcp_server.domain.backups import TableSum
from mcp_server.domain.databases import Login
from mcp_server.domain.queries import SqliteFile
from mcp_server.domain.typemap import MappedTable, SqliteSchema


class Promoter(Protocol):
    """Raises Unavailable when either side cannot be used."""

    async def schema(self, path: str) -> SqliteSchema:
        """What the file holds; every value is looked at."""
        ...

    def held(self, source: SqliteFile) -> AbstractAsyncContextManager[None]:
        """Nobody writes to the file inside; reading goes on. Raises Conflict while others write."""
        ...

    async def load(self, path: str, login: Login, tables: Sequence[MappedTable]) -> None:
        """Tables, rows, keys, indexes and numbers, in one transaction."""
        ...

    async def sqlite_sums(self, path: str, tables: Sequence[MappedTable]) -> Sequence[TableSum]:
        """Rows and hashes in the form that `postgres_sums` has for the same contents."""
        ...

    async def postgres_sums(self, login: Login, tables: Sequence[MappedTable]) -> Sequence[TableSum]:
        """Also every other table or view that is there, so that a difference shows."""
        ...
