"""The cache in memory: bounded, forgetful on time, and counting in fixed windows."""

import pytest

from mcp_server.adapters.memory.cache import MemoryCache


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> MemoryCache:
    return MemoryCache(capacity=3, clock=clock)


async def test_a_value_is_there_until_its_seconds_are_over(cache: MemoryCache, clock: Clock):
    await cache.set("a", b"1", ttl=10)
    clock.now = 9.9
    assert await cache.get("a") == b"1"
    clock.now = 10
    assert await cache.get("a") is None


async def test_an_empty_value_is_a_value(cache: MemoryCache):
    await cache.set("a", b"")
    assert await cache.get("a") == b""


async def test_setting_again_replaces_value_and_time(cache: MemoryCache, clock: Clock):
    await cache.set("a", b"1", ttl=1)
    await cache.set("a", b"2", ttl=10)
    clock.now = 5
    assert await cache.get("a") == b"2"
    await cache.set("a", b"3", ttl=0)
    assert await cache.get("a") is None


async def test_the_value_used_longest_ago_makes_room(cache: MemoryCache):
    for key in "abc":
        await cache.set(key, key.encode())
    await cache.get("a")
    await cache.set("d", b"d")
    assert [await cache.get(key) for key in "abcd"] == [b"a", None, b"c", b"d"]


async def test_a_deleted_key_is_gone_and_deleting_nothing_is_no_error(cache: MemoryCache):
    await cache.set("a", b"1")
    await cache.count("a", window=60)
    await cache.delete("a")
    await cache.delete("a")
    assert await cache.get("a") is None
    assert (await cache.count("a", window=60))[0] == 1


async def test_a_window_begins_with_the_first_count_and_does_not_move(cache: MemoryCache, clock: Clock):
    assert await cache.count("a", window=60) == (1, 60)
    clock.now = 59
    assert await cache.count("a", window=60) == (2, 1)
    clock.now = 60
    assert await cache.count("a", window=60) == (1, 60)


async def test_counters_are_bounded_and_values_do_not_push_them_out(cache: MemoryCache):
    await cache.count("a", window=60)
    for number in range(10):
        await cache.set(str(number), b"x")
    assert (await cache.count("a", window=60))[0] == 2
    for number in range(3):
        await cache.count(str(number), window=60)
    assert (await cache.count("a", window=60))[0] == 1
