"""PostgreSQL through asyncpg. Placeholders are `$1`, `$2`, ..."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg

from mcp_server.databases.drivers import Row

_LOSSES = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)


class PostgresDriver:
    def __init__(self, url: str, statement_seconds: float) -> None:
        self._url = url
        self._statement_seconds = statement_seconds

    async def connect(self, seconds: float) -> asyncpg.Connection[Any]:
        async with asyncio.timeout(seconds):
            return await asyncpg.connect(self._url, timeout=seconds, command_timeout=self._statement_seconds)

    async def probe(self, raw: asyncpg.Connection[Any]) -> None:
        await raw.fetchval("SELECT 1")

    async def fetch(self, raw: asyncpg.Connection[Any], sql: str, args: Sequence[Any]) -> list[Row]:
        return [dict(record) for record in await raw.fetch(sql, *args)]

    async def execute(self, raw: asyncpg.Connection[Any], sql: str, args: Sequence[Any]) -> int:
        tag = (await raw.execute(sql, *args)).rsplit(" ", 1)[-1]
        return int(tag) if tag.isdigit() else -1

    async def begin(self, raw: asyncpg.Connection[Any], *, readonly: bool) -> None:
        await raw.execute("BEGIN READ ONLY" if readonly else "BEGIN")

    async def commit(self, raw: asyncpg.Connection[Any]) -> None:
        await raw.execute("COMMIT")

    async def reset(self, raw: asyncpg.Connection[Any]) -> None:
        if raw.is_in_transaction():
            await raw.execute("ROLLBACK")
        await raw.reset()

    def is_usable(self, raw: asyncpg.Connection[Any]) -> bool:
        return not raw.is_closed()

    async def close(self, raw: asyncpg.Connection[Any]) -> None:
        raw.terminate()

    def is_loss(self, error: BaseException) -> bool:
        if isinstance(error, asyncpg.InterfaceError):
            return "closed" in str(error)
        return isinstance(error, _LOSSES) or (
            isinstance(error, OSError) and not isinstance(error, TimeoutError)
        )
