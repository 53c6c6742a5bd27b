"""The Cache port on Redis, and on a standby while Redis does not answer."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Self, TypeVar, cast

import anyio
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError

from mcp_server.ports.cache import Cache

log = logging.getLogger(__name__)
T = TypeVar("T")
PATIENCE = 0.2
"""Seconds that a command may take, waiting for a connection and making it included."""
CONNECTIONS = 8
"""Of one process: callers that come at once wait for one of these instead of connecting all at once."""
FIRST_REST = 0.25
LONGEST_REST = 8.0
"""Seconds between two questions whether Redis is back; each rest is twice as long as the one before."""
REMEMBERED = 10_000
"""Keys written beside Redis that are removed from it one by one; when there were more, all values are."""
TIDY_SECONDS = 10.0
CLOSE_SECONDS = 2.0
_FAILURES = (RedisError, OSError, TimeoutError)


class RedisCache:
    """What many servers share. Made by `open`; every key lies below `scope`, so that installations may share a Redis.

    The command that finds Redis silent costs `PATIENCE`, the ones after it nothing: they go to a standby, which
    begins empty each time. A watcher takes Redis back when it answers; what was written meanwhile is removed from it first, so
    that no older value comes back.
    """

    def __init__(self, client: Redis, standby: Callable[[], Cache], *, scope: str, patience: float) -> None:
        self._client = client
        self._patience = patience
        self._make_standby = standby
        self._standby = standby()
        self._scope = f"quaymaster:{scope}"
        self._trouble: str | None = None
        self._lost = anyio.Event()
        self._outdated: set[str] = set()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, standby: Callable[[], Cache], *, scope: str, patience: float = PATIENCE
    ) -> AsyncIterator[Self]:
        """Connects at the first command. `standby` makes the cache that serves while Redis is away."""
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=None,
            retry=Retry(NoBackoff(), 0),
            client_name="quaymaster",
        )
        client = Redis.from_pool(pool)
        cache = cls(client, standby, scope=scope, patience=patience)
        try:
            async with anyio.create_task_group() as beside:
                beside.start_soon(cache._watch)
                yield cache
                beside.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_SECONDS):
                await client.aclose()

    @property
    def place(self) -> str:
        return "Redis" if self._trouble is None else "the memory of this process"

    @property
    def trouble(self) -> str | None:
        return self._trouble

    async def get(self, key: str) -> bytes | None:
        async def ask() -> bytes | None:
            return cast(bytes | None, await self._client.get(self._value(key)))

        return await self._either(ask, lambda: self._standby.get(key))

    async def set(self, key: str, value: bytes, *, ttl: float = 300) -> None:
        """`ttl` in seconds; zero or less keeps nothing."""

        async def ask() -> None:
            milliseconds = round(ttl * 1000)
            if milliseconds > 0:
                await self._client.set(self._value(key), value, px=milliseconds)
            else:
                await self._client.delete(self._value(key))

        await self._either(ask, lambda: self._standby.set(key, value, ttl=ttl), outdates=(self._value(key),))

    async def delete(self, key: str) -> None:
        names = (self._value(key), self._counter(key))

        async def ask() -> None:
            await self._client.delete(*names)

        await self._either(ask, lambda: self._standby.delete(key), outdates=names)

    async def count(self, key: str, *, window: float) -> tuple[int, float]:
        """The window begins with the first count and does not move."""

        async def ask() -> tuple[int, float]:
            name = self._counter(key)
            async with self._client.pipeline(transaction=True) as steps:
                steps.execute_command("SET", name, 0, "PX", max(1, round(window * 1000)), "NX")
                steps.execute_command("INCR", name)
                steps.execute_command("PTTL", name)
                _, count, left = await steps.execute()
            return count, max(left, 0) / 1000

        return await self._either(ask, lambda: self._standby.count(key, window=window))

    # -- which of the two

    async def _either(
        self,
        ask: Callable[[], Awaitable[T]],
        instead: Callable[[], Awaitable[T]],
        *,
        outdates: tuple[str, ...] = (),
    ) -> T:
        """What Redis says or, while it is away, what the standby says. `outdates` names what Redis then has wrong."""
        if self._trouble is None:
            try:
                with anyio.fail_after(self._patience):
                    return await ask()
            except _FAILURES as error:
                self._lose(error)
        if len(self._outdated) <= REMEMBERED:
            self._outdated.update(outdates)
        return await instead()

    def _lose(self, error: Exception) -> None:
        if self._trouble is not None:
            return
        self._trouble = self._sentence(error)
        self._standby = self._make_standby()
        self._lost.set()
        log.warning("%s; the memory of this process serves meanwhile", self._trouble)

    async def _watch(self) -> None:
        """Wait until Redis is lost, then until it is back, and so on."""
        while True:
            await self._lost.wait()
            rest = FIRST_REST
            while self._trouble is not None:
                await anyio.sleep(rest)
                rest = min(rest * 2, LONGEST_REST)
                await self._take_back()

    async def _take_back(self) -> None:
        try:
            with anyio.fail_after(self._patience):
                await self._client.ping()
            with anyio.fail_after(TIDY_SECONDS):
                while self._outdated:
                    await self._forget_outdated()
        except _FAILURES as error:
            self._trouble = self._sentence(error)
            return
        self._trouble = None
        self._lost = anyio.Event()
        log.info("Redis answers again")

    async def _forget_outdated(self) -> None:
        outdated = set(self._outdated)
        names: list[str | bytes] = list(outdated)
        if len(outdated) > REMEMBERED:
            names = [name async for name in self._client.scan_iter(self._value("*"), count=1000)]
        if names:
            await self._client.unlink(*names)
        self._outdated -= outdated

    def _value(self, key: str) -> str:
        return f"{self._scope}:value:{key}"

    def _counter(self, key: str) -> str:
        return f"{self._scope}:count:{key}"

    def _sentence(self, error: Exception) -> str:
        """What is wrong, without the driver's words: they may name an address with its password."""
        if isinstance(error, AuthenticationError):
            return "Redis refuses the user or the password of QUAYMASTER_REDIS_URL"
        if isinstance(error, TimeoutError):
            return f"Redis gave no answer within {self._patience:g} s"
        return f"Redis does not serve ({type(error).__name__})"
