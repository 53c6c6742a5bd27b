"""What every cache does, in memory and on Redis."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from mcp_server.adapters.memory.cache import MemoryCache
from mcp_server.adapters.redis.cache import RedisCache
from mcp_server.ports.cache import Cache

Opened = Callable[[], AbstractAsyncContextManager[Cache]]


@pytest.fixture(params=["memory", "redis"])
def opened(request: pytest.FixtureRequest) -> Opened:
    """Opens an empty cache within the test's own task."""
    url = request.getfixturevalue("redis").url if request.param == "redis" else None

    @asynccontextmanager
    async def opening() -> AsyncIterator[Cache]:
        if url is None:
            yield MemoryCache()
            return
        async with RedisCache.open(url, MemoryCache, scope=uuid.uuid4().hex, patience=20) as cache:
            yield cache
            assert cache.trouble is None

    return opening


async def gone(cache: Cache, key: str) -> bool:
    async with asyncio.timeout(20):
        while await cache.get(key) is not None:
            await asyncio.sleep(0.01)
    return True


async def test_a_value_is_there_until_its_time_is_over(opened: Opened):
    async with opened() as cache:
        await cache.set("long", b"1")
        await cache.set("short", b"2", ttl=0.05)
        assert await gone(cache, "short")
        assert await cache.get("long") == b"1"


async def test_any_bytes_come_back_as_they_were(opened: Opened):
    async with opened() as cache:
        for value in (b"", b"\x00\xff\r\n", b"x" * 100_000):
            await cache.set("a", value)
            assert await cache.get("a") == value


async def test_setting_without_time_keeps_nothing(opened: Opened):
    async with opened() as cache:
        await cache.set("a", b"1")
        await cache.set("a", b"2", ttl=0)
        assert await cache.get("a") is None


async def test_a_deleted_key_has_neither_value_nor_count(opened: Opened):
    async with opened() as cache:
        await cache.set("a", b"1")
        await cache.count("a", window=60)
        await cache.delete("a")
        assert await cache.get("a") is None
        assert (await cache.count("a", window=60))[0] == 1


async def test_values_and_counters_of_one_name_are_two_things(opened: Opened):
    async with opened() as cache:
        await cache.set("a", b"1")
        assert (await cache.count("a", window=60))[0] == 1
        assert await cache.get("a") == b"1"


async def test_a_counter_counts_within_a_window_that_does_not_move(opened: Opened):
    async with opened() as cache:
        first, left = await cache.count("a", window=60)
        assert first == 1
        assert 59 < left <= 60
        second, less = await cache.count("a", window=600)
        assert second == 2
        assert less <= left


async def test_after_its_window_a_counter_begins_anew(opened: Opened):
    async with opened() as cache:
        await cache.count("a", window=0.05)
        async with asyncio.timeout(20):
            while (await cache.count("a", window=0.05))[0] != 1:
                await asyncio.sleep(0.02)


async def test_of_many_callers_at_once_each_gets_a_number_of_its_own(opened: Opened):
    async with opened() as cache:
        counted = await asyncio.gather(*(cache.count("a", window=60) for _ in range(50)))
        assert sorted(number for number, _ in counted) == list(range(1, 51))
