"""Work that outlives the call that began it: it belongs to the server, and callers only follow it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from copy import copy
from functools import partial

import anyio
from anyio.abc import TaskGroup

from mcp_server.domain.errors import QuaymasterError, Unavailable

log = logging.getLogger(__name__)
Tell = Callable[[str], Awaitable[None]]
"""Told one short line of progress at a time."""

BETWEEN_TRIES = 2.0
KEPT = 50
"""As many words of progress wait for a slow listener."""


async def nobody(line: str) -> None:
    """Where nobody listens."""


class Work:
    """One piece of work. `line` is its newest word of progress, `error` why it failed, once it has."""

    def __init__(self) -> None:
        self.line = ""
        self.error: QuaymasterError | None = None
        self._said: deque[str] = deque(maxlen=KEPT)
        self._count = 0
        self._scope = anyio.CancelScope()
        self._moved = anyio.Event()
        self._over = False

    async def tell(self, line: str) -> None:
        if line != self.line:
            self.line = line
            self._said.append(line)
            self._count += 1
        self._stir()

    def cancel(self) -> None:
        """It ends soon, after it has tidied up."""
        self._scope.cancel()

    async def follow(self, seconds: float, tell: Tell = nobody) -> bool:
        """Pass its words on until it ends, at most this long; whether it ended. Who comes late hears the newest
        word first; who is slow, the newest ones."""
        with anyio.move_on_after(seconds):
            heard = max(0, self._count - 1)
            while True:
                moved = self._moved
                behind = min(self._count - heard, len(self._said))
                heard = self._count
                for line in list(self._said)[len(self._said) - behind :]:
                    await tell(line)
                if self._over and heard == self._count:
                    break
                if moved is self._moved:
                    await moved.wait()
        return self._over

    async def run(self, body: Callable[[Work], Awaitable[None]]) -> None:
        try:
            with self._scope:
                await body(self)
        except QuaymasterError as error:
            self.error = error
        except Exception:
            self.error = Unavailable(
                "the server failed at this work", next="The operator finds why in the log."
            )
            raise
        except BaseException:
            self.error = Unavailable("the server stopped before this was done")
            raise
        finally:
            self._over = True
            self._stir()

    def failed(self) -> QuaymasterError | None:
        """`error` for one of its callers: each raises one of its own, with a traceback of its own."""
        return None if self.error is None else copy(self.error)

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

    async def insist(self, key: str, end: Callable[[], Awaitable[object]]) -> None:
        """The end of something, written down now or by and by: with a full disk it cannot be, and a record that stays
        marked as this living process's would be refused to everybody until it ends. `end` may be carried out again."""
        try:
            await end()
        except Unavailable as error:
            log.info("written down later: %s", error.message, extra={"work": key})
            with suppress(Unavailable):
                self.begin(key, partial(_until_done, end=end))

    async def _run(self, key: str, work: Work, body: Callable[[Work], Awaitable[None]]) -> None:
        """What the body did not foresee ends with it: one failure must not end the server's other work."""
        try:
            await work.run(body)
            if work.error is not None:
                log.info("work ended: %s", work.error.message, extra={"work": key})
        except Exception:
            log.exception("work failed", extra={"work": key})
        finally:
            self._running.pop(key, None)


async def _until_done(work: Work, *, end: Callable[[], Awaitable[object]]) -> None:
    while True:
        await anyio.sleep(BETWEEN_TRIES)
        try:
            await end()
        except Unavailable as error:
            await work.tell(error.message)
        else:
            return
