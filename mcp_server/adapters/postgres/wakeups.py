"""Notifications between servers: a wake-up that something was committed, never the news itself."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack, suppress

from mcp_server.adapters.postgres.connections import Connection, Connections
from mcp_server.adapters.postgres.errors import DRIVER
from mcp_server.domain.errors import QuaymasterError
from mcp_server.ports.mirror import Outage

CHANNEL = "quaymaster_changed"
PAUSE = 0.05
"""Seconds between two notifications of one process."""


class WakeUps:
    """Sent outside the transactions, best effort; a process does not wake itself."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._own = uuid.uuid4().hex
        self._sending: asyncio.Task[None] | None = None
        self._due = False
        self._heard = asyncio.Event()
        self._ear: Connection | None = None
        self._ears = AsyncExitStack()
        self._turn = asyncio.Lock()

    def announce(self) -> None:
        """Wake the others soon."""
        self._due = True
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def heard(self, seconds: float) -> None:
        """Return at the next wake-up, or after `seconds`. Raises Outage when nothing can be heard."""
        await self._listen()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._heard.wait()
        self._heard.clear()

    async def close(self) -> None:
        """What is due is still sent, within a second."""
        if self._sending is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._sending, 1)
        await self._ears.aclose()
        self._ear = None

    # -- steps

    async def _send(self) -> None:
        while self._due:
            self._due = False
            with suppress(Outage, QuaymasterError, *DRIVER):
                async with self._connections.use() as connection:
                    await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, self._own)
            await asyncio.sleep(PAUSE)

    async def _listen(self) -> None:
        async with self._turn:
            if self._ear is not None and not self._ear.is_closed():
                return
            await self._ears.aclose()
            self._ear = await self._ears.enter_async_context(self._connections.fresh("listen"))
            await self._ear.add_listener(CHANNEL, self._hear)

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        if payload != self._own:
            self._heard.set()
