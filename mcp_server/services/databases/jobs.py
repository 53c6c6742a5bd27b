"""Work that outlives the call that began it: it belongs to the server, and a caller only waits for it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from mcp_server.domain.errors import QuaymasterError, Unavailable

log = logging.getLogger(__name__)
Work = Callable[["Job"], Awaitable[None]]


class Job:
    """One piece of work. `line` is its newest word of progress."""

    def __init__(self) -> None:
        self.line = ""
        self.error: QuaymasterError | None = None
        self._done = anyio.Event()

    async def tell(self, line: str) -> None:
        self.line = line

    async def wait(self, seconds: float) -> bool:
        """Whether it ended within `seconds`."""
        with anyio.move_on_after(seconds):
            await self._done.wait()
        return self._done.is_set()

    def end(self) -> None:
        self._done.set()


class Jobs:
    """The running jobs of this process by key."""

    def __init__(self) -> None:
        self._group: TaskGroup | None = None
        self._running: dict[str, Job] = {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Jobs may be started inside; on leaving they are cancelled, and clean up before it returns."""
        async with anyio.create_task_group() as group:
            self._group = group
            try:
                yield
            finally:
                self._group = None
                group.cancel_scope.cancel()

    def get(self, key: str) -> Job | None:
        return self._running.get(key)

    def start(self, key: str, work: Work) -> Job:
        """The job of this key: the one that runs already, else a new one. Raises Unavailable while stopping."""
        if key in self._running:
            return self._running[key]
        if self._group is None:
            raise Unavailable("the server is stopping")
        job = self._running[key] = Job()
        self._group.start_soon(self._run, key, job, work)
        return job

    async def _run(self, key: str, job: Job, work: Work) -> None:
        try:
            await work(job)
        except QuaymasterError as error:
            job.error = error
        except Exception:
            log.exception("work on a database failed", extra={"job": key})
            job.error = Unavailable(
                "the server failed at this work", next="The operator finds why in the log."
            )
        except BaseException:
            job.error = Unavailable("the server stopped before this was done")
            raise
        finally:
            self._running.pop(key, None)
            job.end()
