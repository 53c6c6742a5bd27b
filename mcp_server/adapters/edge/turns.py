"""Servers of one home, one after the other: what only one of them at a time may do to their common proxy."""

from __future__ import annotations

import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import anyio

from mcp_server.domain.errors import Unavailable

BETWEEN_LOOKS = 0.05


@asynccontextmanager
async def turn(path: Path, seconds: float) -> AsyncIterator[None]:
    """Alone inside, by a lock on this file that ends with the process. Raises Unavailable after `seconds`."""
    with open(path, "a") as file:  # noqa: ASYNC230 - a local file, made empty
        with anyio.move_on_after(seconds) as waiting:
            while not _locked(file):  # noqa: ASYNC110 - the system tells nobody that a lock is free
                await anyio.sleep(BETWEEN_LOOKS)
        if waiting.cancelled_caught:
            raise Unavailable("Another server of this home is still busy with the edge's container.")
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
