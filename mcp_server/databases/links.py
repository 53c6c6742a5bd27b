"""One database as the application sees it: is it there, and if not, since when and until when."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from mcp_server.databases.breakers import Standing
from mcp_server.databases.drivers import Driver
from mcp_server.databases.errors import ConnectionLost, DatabasesError, DatabaseUnavailable
from mcp_server.databases.pools import Limits, Pool

log = logging.getLogger(__name__)
OnError = Callable[[str, BaseException], Awaitable[None] | None]
OnReconnect = Callable[[str], Awaitable[None] | None]
T = TypeVar("T")
FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Health:
    """`age` and `retry_after` in seconds; `age` is None before the first good check."""

    name: str
    status: Literal["healthy", "unhealthy"]
    age: float | None
    failures: int
    retry_after: float


class Hooks(Protocol):
    async def failed(self, name: str, error: BaseException) -> None: ...

    async def returned(self, name: str) -> None: ...


class Link:
    """The standing of one database and its pool. Used from one event loop at a time; another begins anew."""

    def __init__(self, name: str, driver: Driver[Any], limits: Limits, hooks: Hooks) -> None:
        self.name = name
        self.driver = driver
        self.limits = limits
        self._hooks = hooks
        self._standing = Standing()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: Pool[Any] | None = None
        self._flight: asyncio.Task[BaseException | None] | None = None

    async def ready(self, within: float = FOREVER) -> None:
        """Returns when the last good check is no older than `within` seconds, after making one where needed.

        However many ask, one check runs. Raises DatabaseUnavailable: at once while the breaker is open.
        """
        self._follow_loop()
        now = time.monotonic()
        if self._standing.is_good(now, within):
            return
        error: BaseException | None = None
        if self._flight is not None or self._standing.may_probe(now):
            error = await self._check()
            if error is None:
                return
        raise self._unavailable() from error

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """A connection for the caller alone. Raises DatabaseUnavailable: nothing was sent yet."""
        await self.ready()
        got = False
        try:
            async with self._pool_now().connection() as raw:
                got = True
                yield raw
        except DatabasesError:
            raise
        except Exception as error:
            if got:
                raise
            self._standing = self._standing.in_doubt()
            raise DatabaseUnavailable(self.name, _kind(error), 0.0) from error

    async def ask(self, work: Awaitable[T]) -> T:
        """Await one call of the driver; ConnectionLost when it broke under way."""
        try:
            return await work
        except Exception as error:
            lost = self.driver.is_loss(error)
            if lost or isinstance(error, TimeoutError):
                self._standing = self._standing.in_doubt()
            if lost:
                raise ConnectionLost(self.name, _kind(error)) from error
            raise

    def health(self) -> Health:
        now, standing = time.monotonic(), self._standing
        return Health(
            name=self.name,
            status="healthy" if standing.is_good(now, FOREVER) else "unhealthy",
            age=None if standing.good_at is None else now - standing.good_at,
            failures=standing.failures,
            retry_after=standing.retry_after(now),
        )

    async def close(self) -> None:
        self._follow_loop()
        if self._flight is not None:
            self._flight.cancel()
        if self._pool is not None:
            await self._pool.renew()
        self._pool, self._flight, self._standing = None, None, Standing()

    async def _check(self) -> BaseException | None:
        if self._flight is None:
            self._flight = asyncio.get_running_loop().create_task(self._probe())
            self._flight.add_done_callback(self._landed)
        return await asyncio.shield(self._flight)

    def _landed(self, flight: asyncio.Task[BaseException | None]) -> None:
        if self._flight is flight:
            self._flight = None

    async def _probe(self) -> BaseException | None:
        before = self._standing
        try:
            await self._pool_now().probe()
        except Exception as error:
            await self._pool_now().renew()
            self._standing = before.failed(time.monotonic(), _kind(error), random.random())  # noqa: S311
            await self._hooks.failed(self.name, error)
            return error
        self._standing = before.succeeded(time.monotonic())
        if before.failures:
            await self._hooks.returned(self.name)
        return None

    def _pool_now(self) -> Pool[Any]:
        if self._pool is None:
            self._pool = Pool(self.name, self.driver, self.limits)
        return self._pool

    def _follow_loop(self) -> None:
        """Connections cannot move to another event loop (`asyncio.run` for each call of a function makes one)."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._pool, self._flight, self._standing = loop, None, None, Standing()

    def _unavailable(self) -> DatabaseUnavailable:
        return DatabaseUnavailable(
            self.name, self._standing.reason, self._standing.retry_after(time.monotonic())
        )


class ApplicationHooks:
    """The application's functions, plain or async. One that fails is logged and harms nobody."""

    def __init__(self, on_error: OnError | None = None, on_reconnect: OnReconnect | None = None) -> None:
        self._on_error = [on_error] if on_error else []
        self._on_reconnect = [on_reconnect] if on_reconnect else []

    def add(self, on_error: OnError | None, on_reconnect: OnReconnect | None) -> None:
        self._on_error += [on_error] if on_error else []
        self._on_reconnect += [on_reconnect] if on_reconnect else []

    async def failed(self, name: str, error: BaseException) -> None:
        for hook in self._on_error:
            await _call(hook, name, error)

    async def returned(self, name: str) -> None:
        for hook in self._on_reconnect:
            await _call(hook, name)


async def _call(hook: Callable[..., Awaitable[None] | None], *args: object) -> None:
    try:
        outcome = hook(*args)
        if inspect.isawaitable(outcome):
            await outcome
    except Exception:
        log.exception("a hook of the application failed")


def _kind(error: BaseException) -> str:
    """Names the failure without the driver's text, which may hold a URL."""
    return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
