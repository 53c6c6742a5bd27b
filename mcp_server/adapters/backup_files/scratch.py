"""Directories for a moment, in the home, for its owner only."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from mcp_server.domain.errors import Unavailable

PIECE = 1024 * 1024


class HomeScratch:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @asynccontextmanager
    async def folder(self) -> AsyncIterator[str]:
        try:
            place = await anyio.to_thread.run_sync(self._make)
        except OSError as error:
            raise Unavailable(f"no scratch directory can be made ({type(error).__name__})") from error
        try:
            yield place
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(partial(shutil.rmtree, place, ignore_errors=True))

    async def write(self, path: str, pieces: AsyncIterator[bytes]) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                async for piece in pieces:
                    await anyio.to_thread.run_sync(file.write, piece)
                file.flush()
                await anyio.to_thread.run_sync(os.fsync, file.fileno())
        except OSError as error:
            raise Unavailable(f"the disk refuses ({error.strerror or type(error).__name__})") from error

    async def read(self, path: str) -> AsyncIterator[bytes]:
        try:
            with open(path, "rb") as file:  # noqa: ASYNC230  # opened only; what takes time runs in threads
                while piece := await anyio.to_thread.run_sync(file.read, PIECE):
                    yield piece
        except OSError as error:
            raise Unavailable(f"the disk refuses ({error.strerror or type(error).__name__})") from error

    def _make(self) -> str:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return tempfile.mkdtemp(prefix="s-", dir=self._folder)
