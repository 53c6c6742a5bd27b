"""Who of all servers on one PostgreSQL does what only one has to do: an advisory lock on a connection of its own."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from mcp_server.adapters.postgres.connections import Connection, Connections

SPACE = 0x51756180
"""A number that nobody else in the database takes for an advisory lock."""


class Turns:
    """A server that is killed, or cut off, frees its turns with its connection; a stopped one keeps them."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._held: dict[str, tuple[Connection, AsyncExitStack]] = {}
        self._asking = asyncio.Lock()

    async def leads(self, what: str) -> bool:
        """Whether the turn is this server's, from now until the connection ends. Raises Outage."""
        async with self._asking:
            if what in self._held:
                if await self._still(what):
                    return True
                await self._held.pop(what)[1].aclose()
            return await self._take(what)

    async def close(self) -> None:
        held, self._held = self._held, {}
        for _, kept in held.values():
            await kept.aclose()

    async def _still(self, what: str) -> bool:
        connection, _ = self._held[what]
        try:
            return bool(await connection.fetchval("SELECT true", timeout=2))
        except Exception:
            return False

    async def _take(self, what: str) -> bool:
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(self._connections.fresh(what))
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1, hashtext($2))", SPACE, what):
                return False
            self._held[what] = (connection, stack.pop_all())
        return True
