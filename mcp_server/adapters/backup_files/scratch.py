"""Directories for a moment, in the home, for its owner only.

Each is locked by its process as long as it is in use: the lock ends with the process, whatever ended that.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from mcp_server.domain.errors import Unavailable

PIECE = 1024 * 1024
LOCK = ".lock"


class HomeScratch:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @asynccontextmanager
    async def folder(self) -> AsyncIterator[str]:
        try:
            place, lock = await anyio.to_thread.run_sync(self._make)
        except OSError as error:
            raise Unavailable(f"no scratch directory can be made ({type(error).__name__})") from error
        try:
            yield place
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(partial(shutil.rmtree, place, ignore_errors=True))
                os.close(lock)

    async def clear(self) -> None:
        with contextlib.suppress(OSError):
            await anyio.to_thread.run_sync(self._clear)

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

    def _make(self) -> tuple[str, int]:
        """The directory and the descriptor of its lock."""
        with self._alone():
            place = tempfile.mkdtemp(prefix="s-", dir=self._folder)
            lock = os.open(f"{place}/{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return place, lock

    def _clear(self) -> None:
        with self._alone():
            for place in self._folder.glob("s-*"):
                if not _in_use(place):
                    shutil.rmtree(place, ignore_errors=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody sees a directory that has no lock yet."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _in_use(place: Path) -> bool:
    """Opened anew: our own lock would not stop us otherwise."""
    try:
        lock = os.open(place / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
