"""The cache as the settings name it: this process's memory, or Redis with that memory as its standby."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp_server.adapters.memory.cache import MemoryCache
from mcp_server.config import Settings
from mcp_server.ports.cache import Cache


@asynccontextmanager
async def cache_of(settings: Settings, installation: str) -> AsyncIterator[Cache]:
    """Nothing is connected yet, and no failure of Redis stops a start."""
    if settings.redis_url is None:
        yield MemoryCache()
        return
    from mcp_server.adapters.redis.cache import RedisCache

    url = settings.redis_url.get_secret_value()
    async with RedisCache.open(url, MemoryCache, scope=installation) as cache:
        yield cache
