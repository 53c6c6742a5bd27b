"""Where statements on SQLite files run: in threads that are not taken from the rest of the server.

One step of SQLite's, `instr` of two large values for example, can take minutes, and nothing ends it. A read that is in
one is given up after its time; the thread ends when it will, and few such are borne for a file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from mcp_server.adapters.project_sql.sessions import too_slow
from mcp_server.domain.errors import Unavailable

T = TypeVar("T")
Work = Callable[[threading.Event], T]
"""Ends soon once the event is set, where it can."""

AT_ONCE = 16
MOST_LATE = 4
SPARE_SECONDS = 2.0
"""How long a statement's own limit may be late before it is given up."""


class Threads:
    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(AT_ONCE)
        self._late: dict[str, list[threading.Event]] = {}

    async def read(self, path: str, work: Work[T], seconds: float) -> T:
        """A caller that goes away ends it at once. Raises Invalid when it took too long, Unavailable while too many
        that were given up still run on this file."""
        self._require_few_late(path)
        stop, begun, ended = threading.Event(), threading.Event(), threading.Event()

        def run() -> T:
            begun.set()
            try:
                return work(stop)
            finally:
                ended.set()

        try:
            with anyio.fail_after(seconds + SPARE_SECONDS):
                return await anyio.to_thread.run_sync(run, abandon_on_cancel=True, limiter=self._limiter)
        except TimeoutError as error:
            raise too_slow(seconds) from error
        finally:
            stop.set()
            if begun.is_set() and not ended.is_set():
                self._late.setdefault(path, []).append(ended)

    async def write(self, work: Work[T]) -> T:
        """Once it has begun it is waited for, whatever becomes of the caller: it must be known how it ended."""
        return await anyio.to_thread.run_sync(work, threading.Event(), limiter=self._limiter)

    def _require_few_late(self, path: str) -> None:
        late = [each for each in self._late.pop(path, ()) if not each.is_set()]
        if late:
            self._late[path] = late
        if len(late) >= MOST_LATE:
            raise Unavailable(
                "statements that took too long still run on this database", next="Try again in some minutes."
            )
