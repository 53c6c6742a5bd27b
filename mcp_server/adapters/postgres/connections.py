"""Connections to one PostgreSQL: a bounded pool, fresh ones, and what a failure on them means."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast

import asyncpg

from mcp_server.adapters.postgres.errors import DRIVER, setting, translated
from mcp_server.domain.errors import Unavailable
from mcp_server.ports.mirror import Outage

_ALARM = 10.0

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """All times in seconds. `command_timeout` is the longest silence that is not asked about on a fresh
    connection."""

    dsn: str = field(repr=False)
    pool_max: int = 20
    pool_min: int = 0
    pool_idle: float = 30.0
    connect_timeout: float = 5.0
    acquire_timeout: float = 5.0
    command_timeout: float = 2.5
    probe_timeout: float = 2.0
    migration_wait: float = 30.0
    application_name: str = "quaymaster"

    def session(self, *, bounded: bool) -> dict[str, str]:
        """What each session asks of the server: a lost client must free its rows, a bounded one must not
        wait long.

        The server gives up a little before the client does: then the answer is known without a probe.
        """
        wanted = {
            "application_name": self.application_name,
            "idle_in_transaction_session_timeout": "10s",
            "tcp_user_timeout": "10s",
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "3",
            "tcp_keepalives_count": "3",
            "TimeZone": "UTC",
        }
        if bounded:
            patience = f"{int(self.command_timeout * 1000 * 0.9)}ms"
            wanted |= {"lock_timeout": patience, "statement_timeout": patience}
        return wanted


class Connections:
    """The pool is made at its first use; nothing is opened before."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening = asyncio.Lock()
        self._free = asyncio.Semaphore(settings.pool_max)
        self._waiting = 0
        self._witness = Witness()

    def expect(self, installation: str) -> None:
        """From now on a new connection that finds another installation, or none, is an outage."""
        self._witness = Witness(installation)

    def seen(self, seq: int) -> None:
        """The log reaches to here: a new connection that finds less is an outage."""
        self._witness.seq = max(self._witness.seq, seq)

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Connection]:
        """A pooled connection, clean and bounded. Raises what `errors` lists."""
        await self._wait_for_a_free_one()
        try:
            async with self._pooled() as connection:
                yield connection
        finally:
            self._free.release()

    @asynccontextmanager
    async def fresh(self, purpose: str, *, patience: float = 10.0) -> AsyncIterator[Connection]:
        """A connection of its own, closed afterwards. `patience` is for each of its statements."""
        name = f"{self.settings.application_name} {purpose}"
        settings = replace(self.settings, application_name=name)
        try:
            connection: Connection = await asyncpg.connect(
                settings.dsn,
                timeout=settings.connect_timeout,
                command_timeout=patience,
                server_settings=settings.session(bounded=False),
            )
        except Exception as error:
            told = _unreachable(error)
            if told is error:
                raise
            raise told from error
        try:
            await _know_json(connection)
            yield connection
        except TimeoutError as error:
            connection.terminate()
            raise Outage(f"PostgreSQL was silent for {patience:g} s") from error
        except Exception as error:
            judged = translated(error)
            if judged is None:
                raise
            raise judged from error
        finally:
            await _close(connection)

    async def outage(self, error: BaseException) -> Exception | None:
        """`errors.translated`, with a silent command judged by a fresh connection."""
        if not isinstance(error, TimeoutError):
            return translated(error)
        try:
            async with (
                asyncio.timeout(self.settings.probe_timeout),
                self.fresh("probe") as connection,
            ):
                await connection.fetchval("SELECT 1")
        except (TimeoutError, Outage):
            return Outage("PostgreSQL is silent", probed=True)
        except Exception as refused:
            return refused
        return Unavailable("PostgreSQL took too long to answer one command")

    def gauges(self) -> Mapping[str, float]:
        pool = self._pool
        return {
            "pool_total": 0 if pool is None else pool.get_size(),
            "pool_idle": 0 if pool is None else pool.get_idle_size(),
            "pool_waiting": self._waiting,
        }

    async def renew(self) -> None:
        """Connections of before are not used again."""
        if self._pool is not None:
            await self._pool.expire_connections()

    async def close(self) -> None:
        """Bounded: what is still running after two seconds is cut off."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(2):
                await pool.close()
        except DRIVER:  # TimeoutError is an OSError
            pool.terminate()

    # -- steps

    async def _wait_for_a_free_one(self) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        self._waiting += 1
        try:
            async with asyncio.timeout(self.settings.acquire_timeout):
                await self._free.acquire()
        except TimeoutError as error:
            raise Unavailable(f"all {self.settings.pool_max} connections to PostgreSQL are in use") from error
        finally:
            self._waiting -= 1

    @asynccontextmanager
    async def _pooled(self) -> AsyncIterator[Connection]:
        try:
            pool = await self._opened()
            # The pool hands out a proxy that speaks like the connection behind it.
            connection = cast("Connection", await pool.acquire())
        except Exception as error:
            told = _unreachable(error)
            if told is error:
                raise
            raise told from error
        try:
            yield connection
        except Exception as error:
            if isinstance(error, TimeoutError | asyncpg.InternalClientError) or gone(connection):
                drop(connection)
            judged = await self.outage(error)
            if judged is None or judged is error:
                raise
            raise judged from error
        except BaseException:
            drop(connection)  # cancelled: a rollback might have to wait for the command
            raise
        finally:
            with suppress(*DRIVER):
                await pool.release(cast("Any", connection))

    async def _opened(self) -> asyncpg.Pool[asyncpg.Record]:
        if self._pool is not None:
            return self._pool
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self.settings.dsn,
                    min_size=self.settings.pool_min,
                    max_size=self.settings.pool_max,
                    max_inactive_connection_lifetime=self.settings.pool_idle,
                    timeout=self.settings.connect_timeout,
                    command_timeout=self.settings.command_timeout,
                    statement_cache_size=256,
                    server_settings=self.settings.session(bounded=True),
                    init=self._greet,
                    reset=_nothing_to_reset,
                )
            return self._pool

    async def _greet(self, connection: Connection) -> None:
        """A server may come back as another one between two calls: see it before the first statement."""
        await _know_json(connection)
        witness = self._witness
        if witness.installation is not None:
            known = witness.seq  # what is committed while it answers, it need not know
            row = await connection.fetchrow(
                """
                SELECT id, greatest(trimmed_seq, (SELECT max(seq) FROM change_log)) AS seq FROM installation
                """
            )
            installation, seq = (None, 0) if row is None else (row["id"], row["seq"])
            witness.question(installation, seq, known=known)


@dataclass(slots=True)
class Witness:
    """What this process knows of the PostgreSQL that it works on.

    A contradiction is an outage, so that the home looks closely before it goes on. Ten seconds later it has
    looked, and what it then works on is what is expected.
    """

    installation: str | None = None
    seq: int = 0
    alarmed: float | None = None

    def question(self, installation: str | None, seq: int, *, known: int) -> None:
        """Raises Outage when this is not what was there before. `known` is `seq` as of when it was asked."""
        if installation == self.installation and seq >= known:
            return
        now = time.monotonic()
        self.alarmed = self.alarmed or now
        if now - self.alarmed < _ALARM:
            raise Outage("PostgreSQL came back as another or an older one", probed=True)
        self.installation, self.seq, self.alarmed = installation, seq, None


@asynccontextmanager
async def atomic(connection: Connection) -> AsyncIterator[None]:
    """A transaction that asks nothing more of a connection that is silent or broken."""
    await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
    try:
        yield
    except Exception as error:
        await undo(connection, error)
        raise
    await connection.execute("COMMIT")


async def undo(connection: Connection, error: Exception) -> None:
    """Roll back, or drop the connection: the server undoes what it hears no more of."""
    if isinstance(error, TimeoutError) or gone(connection):
        drop(connection)
        return
    try:
        await connection.execute("ROLLBACK", timeout=1)
    except DRIVER:
        drop(connection)


def gone(connection: Connection) -> bool:
    """A pooled connection that ended has left its pool, and then answers no question."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


def drop(connection: Connection) -> None:
    with suppress(asyncpg.InterfaceError):
        connection.terminate()


async def _know_json(connection: Connection) -> None:
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=to_json, decoder=json.loads)


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


async def _nothing_to_reset(_: object) -> None:
    """No statement on a pooled connection changes its session, so giving it back costs no round trip."""


async def _close(connection: Connection) -> None:
    try:
        await connection.close(timeout=1)
    except Exception:
        connection.terminate()
    except BaseException:
        connection.terminate()
        raise  # cancelled: whoever took it for a slow end would go on for ever


def _unreachable(error: BaseException) -> BaseException:
    """What a failed attempt to connect means. It was a fresh connection, so an outage needs no further
    probe."""
    if isinstance(error, TimeoutError):
        return Outage("PostgreSQL does not answer", probed=True)
    told = translated(error)
    if isinstance(told, Outage):
        return Outage(told.reason, probed=True)
    if told is None and isinstance(error, ValueError):
        return setting("PostgreSQL's address is not one")  # its parts are read by the standard library
    return told or error
