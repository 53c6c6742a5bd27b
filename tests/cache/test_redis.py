"""Redis shared by servers, and what happens while it is away: killed, frozen, or refusing the password."""

import asyncio
import logging
import time
from contextlib import AbstractAsyncContextManager

import pytest

from mcp_server.adapters.memory.cache import MemoryCache
from mcp_server.adapters.redis import cache as module
from mcp_server.adapters.redis.cache import RedisCache
from tests.services.redis import RedisServer


def opened(
    redis: RedisServer, scope: str = "here", *, patience: float = 20
) -> AbstractAsyncContextManager[RedisCache]:
    """Patient, so that a busy machine does not look like a Redis that is away."""
    return RedisCache.open(redis.url, MemoryCache, scope=scope, patience=patience)


async def taken_back(cache: RedisCache) -> None:
    async with asyncio.timeout(30):
        while cache.trouble is not None:
            await asyncio.sleep(0.01)


async def test_what_one_server_counts_and_keeps_another_finds(redis: RedisServer):
    async with opened(redis) as cache, opened(redis) as other:
        await cache.set("a", b"1")
        assert await other.get("a") == b"1"
        assert (await cache.count("n", window=60))[0] == 1
        assert (await other.count("n", window=60))[0] == 2


async def test_installations_that_share_a_redis_do_not_see_each_other(redis: RedisServer):
    async with opened(redis) as cache, opened(redis, "elsewhere") as other:
        await cache.set("a", b"1")
        assert await other.get("a") is None


async def test_every_key_in_redis_ends_by_itself(redis: RedisServer):
    async with opened(redis) as cache:
        await cache.set("a", b"1", ttl=40)
        await cache.count("a", window=50)
        for kind in ("value", "count"):
            left = int(redis.say(f"TTL quaymaster:here:{kind}:a").split(b":")[-1])
            assert 0 < left <= 50


async def test_while_redis_is_gone_memory_serves_and_the_first_call_alone_waits(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
):
    async with opened(redis) as cache:
        caplog.set_level(logging.INFO, module.__name__)
        await cache.set("a", b"redis")
        redis.kill()
        assert await cache.get("a") is None
        assert cache.trouble is not None
        assert cache.place == "the memory of this process"
        await cache.set("a", b"memory")
        assert await cache.get("a") == b"memory"
        assert [(await cache.count("n", window=60))[0] for _ in range(3)] == [1, 2, 3]
        redis.start()
        await taken_back(cache)
        assert cache.place == "Redis"
        await cache.set("a", b"back")
        assert b"back" in redis.say("GET quaymaster:here:value:a")
        assert "Redis answers again" in caplog.text


async def test_a_redis_that_is_silent_is_left_within_the_patience_of_one_call(redis: RedisServer):
    async with opened(redis, patience=1) as cache:
        await cache.set("a", b"1")
        redis.freeze()
        try:
            began = time.monotonic()
            assert await cache.get("a") is None
            assert time.monotonic() - began < 10
            assert cache.trouble == "Redis gave no answer within 1 s"
            await asyncio.wait_for(cache.set("b", b"2"), 10)
            assert await cache.get("b") == b"2"
        finally:
            redis.thaw()
        await taken_back(cache)


async def test_what_was_written_meanwhile_does_not_come_back_in_its_older_form(redis: RedisServer):
    async with opened(redis, patience=1) as cache:
        for key in ("changed", "deleted", "untouched"):
            await cache.set(key, b"old")
        redis.freeze()
        try:
            await cache.set("changed", b"new")
            await cache.delete("deleted")
        finally:
            redis.thaw()
        await taken_back(cache)
        assert await cache.get("changed") is None
        assert await cache.get("deleted") is None
        assert await cache.get("untouched") == b"old"


async def test_when_too_much_was_written_to_remember_all_values_are_let_go(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
):
    async with opened(redis, patience=1) as cache:
        monkeypatch.setattr(module, "REMEMBERED", 3)
        await cache.set("old", b"1")
        await cache.set("untouched", b"1")
        await cache.count("n", window=60)
        redis.say("SET stranger 1")
        redis.freeze()
        try:
            for number in range(10):
                await cache.set(str(number), b"x")
            await cache.delete("old")
        finally:
            redis.thaw()
        await taken_back(cache)
        assert await cache.get("old") is None
        assert await cache.get("untouched") is None
        assert (await cache.count("n", window=60))[0] == 2
        assert b"1" in redis.say("GET stranger").split(b"$")[-1]


async def test_a_standby_begins_empty_at_each_outage(redis: RedisServer):
    async with opened(redis) as cache:
        redis.kill()
        await cache.set("a", b"first outage")
        redis.start()
        await taken_back(cache)
        redis.kill()
        assert await cache.get("a") is None


async def test_a_wrong_password_is_named_and_shown_nowhere(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
):
    async with RedisCache.open(redis.url_with("canary-9f31"), MemoryCache, scope="here") as cache:
        await cache.set("a", b"1")
        assert await cache.get("a") == b"1"
        assert cache.trouble == "Redis refuses the user or the password of QUAYMASTER_REDIS_URL"
    assert "canary-9f31" not in caplog.text


async def test_a_redis_that_is_not_there_at_the_start_is_taken_when_it_comes(redis: RedisServer):
    redis.kill()
    async with RedisCache.open(redis.url, MemoryCache, scope="here") as cache:
        await cache.set("a", b"1")
        assert cache.trouble is not None
        redis.start()
        await taken_back(cache)
        await cache.set("a", b"2")
        assert await cache.get("a") == b"2"
