"""A transaction tried again while the store is busy: what was made on the engine is not undone for that."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from mcp_server.domain.errors import Busy

T = TypeVar("T")
PATIENCE = 15.0
FIRST_PAUSE, LAST_PAUSE = 0.05, 1.0


async def patiently(transaction: Callable[[], Awaitable[T]], seconds: float = PATIENCE) -> T:
    """Its result. Nothing has happened when the store is busy, so that it may be tried again; raises Busy when none of the
    tries that began within `seconds` came through."""
    deadline, pause = time.monotonic() + seconds, FIRST_PAUSE
    while True:
        try:
            return await transaction()
        except Busy:
            if time.monotonic() >= deadline:
                raise
        await anyio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  # others wait for the same
        pause = min(2 * pause, LAST_PAUSE)
