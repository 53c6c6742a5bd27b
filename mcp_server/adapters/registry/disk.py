"""Slow steps on the disk: in a thread, to their end, and the disk's refusals in our words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TypeVar

from anyio import CancelScope

from mcp_server.domain.errors import Unavailable

T = TypeVar("T")


async def to_the_end(work: Callable[[], T], executor: Executor | None = None) -> T:
    """What `work` returns, run in a thread.

    However the caller is cancelled, this ends only when the thread has: a lock that is held around it is not
    let go
    while the thread still writes.
    """
    future = asyncio.get_running_loop().run_in_executor(executor, work)
    cancelled: asyncio.CancelledError | None = None
    with CancelScope(shield=True):
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        future.exception()
        raise cancelled
    return future.result()


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Raises Unavailable, saying `what` failed, in place of OSError."""
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"{what}: {error.strerror}", next="Look at the disk (space, permissions), then try again."
        ) from error
