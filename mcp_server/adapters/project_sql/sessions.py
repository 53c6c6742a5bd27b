"""Sessions on a project's PostgreSQL: opened for one piece of work, bounded in time and in what they take in."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

import anyio

from mcp_server.domain.databases import Login
from mcp_server.domain.errors import Invalid, Unavailable

if TYPE_CHECKING:
    import asyncpg

CONNECT_SECONDS = 5.0
SPARE_SECONDS = 2.0
"""How long the server's own time-out may be late before the session is cut off."""

MOST_BYTES = 16 * 1024 * 1024
"""What a session takes in before it is cut off, whatever was asked: one value can be a gigabyte."""

DEEPEST = 100
"""Levels of a JSON value that are passed on as such."""

HALF = re.compile(r"\\u[dD][89a-fA-F]")
AS_TEXT = (
    *("numeric", "money", "date", "time", "timetz", "timestamp", "timestamptz", "interval"),
    *("uuid", "bytea", "inet", "cidr", "macaddr", "macaddr8", "bit", "varbit", "xml"),
    *("point", "line", "lseg", "box", "path", "polygon", "circle"),
)
"""Types that JSON has nothing for travel in PostgreSQL's own text, both ways."""


class Meter(asyncio.Protocol):
    """Counts what a session receives, and ends the session when it is too much."""

    def __init__(self, inner: asyncio.Protocol, transport: asyncio.Transport, budget: int) -> None:
        self._inner = inner
        self._transport = transport
        self._left = budget
        self.exceeded = False

    def data_received(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left >= 0:
            self._inner.data_received(data)
        elif not self.exceeded:
            self.exceeded = True
            self._transport.abort()

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._inner.connection_lost(error)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


@asynccontextmanager
async def session(
    login: Login, *, seconds: float, read_only: bool, most_bytes: int = MOST_BYTES
) -> AsyncIterator[asyncpg.Connection]:
    """A fresh session; nothing of it is left afterwards. Raises Unavailable when there is none to be had, Invalid
    when it took too long or too much came."""
    import asyncpg

    connection = await _connected(login, seconds, read_only)
    try:
        meter = _metered(connection, most_bytes)
        try:
            with anyio.fail_after(seconds + SPARE_SECONDS):
                for name in AS_TEXT:
                    await connection.set_type_codec(
                        name, schema="pg_catalog", encoder=str, decoder=str, format="text"
                    )
                for name in ("json", "jsonb"):
                    await connection.set_type_codec(
                        name, schema="pg_catalog", encoder=str, decoder=_parsed, format="text"
                    )
                try:
                    yield connection
                except asyncio.CancelledError:
                    await _end_at_server(login, connection.get_server_pid())
                    raise
        except TimeoutError as error:
            raise too_slow(seconds) from error
        except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError) as error:
            if meter.exceeded:
                raise Invalid(
                    f"the answer is larger than {most_bytes // (1024 * 1024)} MiB",
                    next="Ask for fewer columns or rows, or for a part of the large value.",
                    fault="too_large",
                ) from None
            raise Unavailable(f"the connection to the database broke ({type(error).__name__})") from error
    finally:
        connection.terminate()


def too_slow(seconds: float) -> Invalid:
    return Invalid(
        f"the statement ran longer than {seconds:g} s and was ended",
        next="Narrow it down, or look at its plan with database_stats(explain=...).",
        fault="too_slow",
    )


async def _end_at_server(login: Login, pid: int) -> None:
    """A statement may have switched its time-out off, or catch it; then the server does not notice that nobody
    listens any more. Its session cannot refuse to be ended by its own role."""
    import asyncpg

    refusals = (Unavailable, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
    with anyio.move_on_after(CONNECT_SECONDS, shield=True), suppress(*refusals):
        other = await _connected(login, SPARE_SECONDS, read_only=True)
        try:
            await other.fetchval("SELECT pg_catalog.pg_terminate_backend($1)", pid)
        finally:
            other.terminate()


def _parsed(text: str) -> Any:
    """Numbers that a float would change stay text, and so does a whole value that is too deep to be passed on, or
    that holds a number without end or half a character."""
    try:
        value = json.loads(text, parse_float=_exact)
        if HALF.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return text
    return value if _is_shallow(value) else text


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            item
            for each in level
            if isinstance(each, (dict, list))
            for item in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return True
    return False


def _exact(text: str) -> float | str:
    value = float(text)
    return value if repr(value) == text else text


async def _connected(login: Login, seconds: float, read_only: bool) -> asyncpg.Connection:
    import asyncpg

    milliseconds = str(max(1, round(seconds * 1000)))
    try:
        return await asyncpg.connect(
            host=login.host,
            port=login.port,
            user=login.role,
            password=login.password.get_secret_value(),
            database=login.database,
            ssl=False if login.ssl == "disable" else login.ssl,
            timeout=CONNECT_SECONDS,
            statement_cache_size=0,
            server_settings={
                "application_name": "quaymaster query",
                "default_transaction_read_only": "on" if read_only else "off",
                "statement_timeout": milliseconds,
                "lock_timeout": milliseconds,
                "idle_in_transaction_session_timeout": milliseconds,
                "timezone": "UTC",
                "datestyle": "ISO, YMD",
                "intervalstyle": "iso_8601",
                "bytea_output": "hex",
                "client_min_messages": "error",
            },
        )
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        why = (
            f"SQLSTATE {error.sqlstate}" if isinstance(error, asyncpg.PostgresError) else type(error).__name__
        )
    # Outside the handler: a driver's error may hold the address.
    raise Unavailable(f"the database cannot be reached ({why})", next="get_database says how it is.")


def _metered(connection: asyncpg.Connection, most_bytes: int) -> Meter:
    transport: asyncio.Transport = cast(Any, connection)._transport
    meter = Meter(cast(asyncio.Protocol, transport.get_protocol()), transport, most_bytes)
    transport.set_protocol(meter)
    return meter
