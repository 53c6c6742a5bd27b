"""Servers that share what they count through Redis, and go on without it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mcp import Client

from tests.acceptance.wire import done, make_key, over_http, refused
from tests.services.processes import ServerProcess
from tests.services.redis import RedisServer


async def cache_part(client: Client, condition: str) -> str:
    """The reason that infrastructure_status gives once the cache is in this condition."""
    async with asyncio.timeout(30):
        while True:
            status = await done(client, "infrastructure_status")
            part = next(part for part in status["parts"] if part["name"] == "cache")
            if part["condition"] == condition:
                return str(part["reason"])
            await asyncio.sleep(0.1)


async def test_the_requests_of_a_key_are_counted_over_all_servers(redis: RedisServer, home: Path):
    # Six calls, and the list of tools that each client asks for by itself.
    settings = {"QUAYMASTER_REDIS_URL": redis.url, "QUAYMASTER_RATE_LIMIT": "8"}
    key = make_key(home)
    with (
        ServerProcess.serve(home=home, settings=settings) as one,
        ServerProcess.serve(home=home, settings=settings) as other,
    ):
        async with over_http(one, key) as first, over_http(other, key) as second:
            for client in (first, second) * 3:
                await done(client, "list_projects")
            for client in (first, second):
                error = await refused(client, "list_projects")
                assert error["code"] == "RATE_LIMITED"
                assert 0 < error["retry_after"] <= 60


async def test_calls_go_on_while_redis_is_away_and_it_is_used_again_when_it_is_back(
    redis: RedisServer, home: Path
):
    key = make_key(home)
    with ServerProcess.serve(home=home, settings={"QUAYMASTER_REDIS_URL": redis.url}) as server:
        async with over_http(server, key) as client:
            assert await cache_part(client, "healthy") == "in Redis"
            redis.kill()
            await done(client, "create_project", name="shop")
            reason = await cache_part(client, "degraded")
            assert reason.endswith("the memory of this process serves meanwhile")
            assert redis.url not in reason
            redis.start()
            assert await cache_part(client, "healthy") == "in Redis"
            assert (await done(client, "get_project", name="shop"))["name"] == "shop"
        assert server.terminate() == 0
    assert redis.url not in server.stderr
