"""Work that outlives the call that began it: it belongs to the server, and callers only follow it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from mcp_server.domain.errors import Unavailable

log = logging.getLogger(__name__)
Tell = Callable[[str], Awaitable[None]]
"""Told one short line of progress at a time."""


async def nobody(line: str) -> None:
    """Where nobody listens."""


class Work:
    """One piece of work. `line` is its newest word of progress."""

    def __init__(self) -> None:
        self.line = ""
        self._scope = anyio.CancelScope()
        self._moved = anyio.Event()
        self._over = False

    async def tell(self, line: str) -> None:
        self.line = line
        self._stir()

    def cancel(self) -> None:
        """It ends soon, after it has tidied up."""
        self._scope.cancel()

    async def follow(self, seconds: float, tell: Tell = nobody) -> bool:
        """Pass its words on until it ends, at most this long; whether it ended."""
        with anyio.move_on_after(seconds):
            said = ""
            while not self._over:
                moved = self._moved
                if self.line != said:
                    said = self.line
                    await tell(said)
                elif moved is self._moved:
                    await moved.wait()
        return self._over

    async def run(self, body: Callable[[Work], Awaitable[None]]) -> None:
        try:
            with self._scope:
                await body(self)
        finally:
            self._over = True
            self._stir()

    def _stir(self) -> None:
        moved, self._moved = self._moved, anyio.Event()
        moved.set()


class Works:
    """What this process is at work on, by key."""

    def __init__(self) -> None:
        self._group: TaskGroup | None = None
        self._running: dict[str, Work] = {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Work may begin inside; on leaving what runs is cancelled, and has tidied up when this returns."""
        async with anyio.create_task_group() as group:
            self._group = group
            try:
                yield
            finally:
                self._group = None
                group.cancel_scope.cancel()

    def get(self, key: str) -> Work | None:
        return self._running.get(key)

    def begin(self, key: str, body: Callable[[Work], Awaitable[None]]) -> Work:
        """The work of this key: what runs already, else this. Raises Unavailable while the server stops."""
        if key in self._running:
            return self._running[key]
        if self._group is None:
            raise Unavailable("the server is stopping")
        work = self._running[key] = Work()
        self._group.start_soon(self._run, key, work, body)
        return work

    async def _run(self, key: str, work: Work, body: Callable[[Work], Awaitable[None]]) -> None:
        """What the body did not foresee ends with it: one failure must not end the server's other work."""
        try:
            await work.run(body)
        except Exception:
            log.exception("work failed", extra={"work": key})
        finally:
            self._running.pop(key, None)
