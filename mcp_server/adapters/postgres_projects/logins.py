"""Logins on projects' servers: whether one works, and a password of one's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from mcp_server.domain.database_setup import VERIFIER
from mcp_server.domain.databases import Login
from mcp_server.domain.errors import Unavailable

if TYPE_CHECKING:
    import asyncpg


class AsyncpgLogins:
    async def answers(self, login: Login, *, seconds: float) -> str | None:
        import asyncpg

        try:
            with anyio.fail_after(seconds):
                async with _connected(login, seconds) as connection:
                    await connection.fetchval("SELECT 1")
        except TimeoutError:
            return "no answer in time"
        except asyncpg.PostgresError as error:
            return f"SQLSTATE {error.sqlstate}"
        except (OSError, asyncpg.InterfaceError) as error:
            return type(error).__name__
        return None

    async def change_password(self, login: Login, verifier: str, *, seconds: float) -> None:
        import asyncpg

        if not VERIFIER.fullmatch(verifier):
            raise ValueError("not a verifier")
        try:
            with anyio.fail_after(seconds):
                async with _connected(login, seconds) as connection:
                    # ALTER ROLE takes no parameters; a verifier has no quotes.
                    await connection.execute(f"ALTER ROLE CURRENT_USER PASSWORD '{verifier}'")
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            # Outside the handler: a driver's error may quote the statement.
            failed = True
        else:
            failed = False
        if failed:
            raise Unavailable("the database's server did not take a new password")


@asynccontextmanager
async def _connected(login: Login, seconds: float) -> AsyncIterator[asyncpg.Connection]:
    import asyncpg

    connection = await asyncpg.connect(
        host=login.host,
        port=login.port,
        user=login.role,
        password=login.password.get_secret_value(),
        database=login.database,
        ssl=False,
        timeout=seconds,
        statement_cache_size=0,
        server_settings={"application_name": "quaymaster"},
    )
    try:
        yield connection
    finally:
        connection.terminate()
