"""Locks between the processes of a host, on side files that are never replaced.

A lock is polled without blocking: a thread that blocks in flock(2) for a cancelled caller would keep the lock
for ever. The file
is opened for each acquisition, so that two users of one process exclude each other too.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio

from mcp_server.domain.errors import Unavailable

_FIRST_PAUSE = 0.0002
_LONGEST_PAUSE = 0.004
_TRIES = 10


class FairLock:
    """An exclusive lock. Whoever waits holds the turnstile, so that the present holder cannot come back
    before it.
    """

    def __init__(self, lock: Path, turn: Path) -> None:
        self._lock = lock
        self._turn = turn

    async def acquire(self, patience: float) -> int:
        """A descriptor to close. Raises Unavailable after `patience` seconds."""
        turn = await _poll(self._turn, fcntl.LOCK_EX, patience)
        try:
            return await _poll(self._lock, fcntl.LOCK_EX, patience)
        finally:
            os.close(turn)


class ModeLock:
    """Shared by all who work in a mode, exclusive to the one who changes it, who closes the turnstile to
    newcomers.

    A worker must not become a worker again inside: it would wait for the one who waits for it.
    """

    def __init__(self, lock: Path, turn: Path) -> None:
        self._lock = lock
        self._turn = turn
        self._turn_fd: int | None = None
        self._shared_fd: int | None = None
        self._workers = 0

    @asynccontextmanager
    async def working(self, patience: float) -> AsyncIterator[None]:
        deadline, pause = anyio.current_time() + patience, _FIRST_PAUSE
        while not self._join():
            pause = await _pause(self._lock, deadline, pause)
        try:
            yield
        finally:
            self._leave()

    @asynccontextmanager
    async def switching(self, patience: float) -> AsyncIterator[None]:
        turn = await _poll(self._turn, fcntl.LOCK_EX, patience)
        try:
            lock = await _poll(self._lock, fcntl.LOCK_EX, patience)
            try:
                yield
            finally:
                os.close(lock)
        finally:
            os.close(turn)

    def close(self) -> None:
        if self._turn_fd is not None:
            os.close(self._turn_fd)
            self._turn_fd = None

    def _join(self) -> bool:
        """Two system calls when this process works already: is the turnstile open?"""
        if not self._turnstile_open():
            return False
        if self._shared_fd is None:
            fd = open_lock(self._lock)
            if not try_lock(fd, fcntl.LOCK_SH):
                os.close(fd)
                return False
            self._shared_fd = fd
        self._workers += 1
        return True

    def _turnstile_open(self) -> bool:
        if self._turn_fd is None:
            self._turn_fd = open_lock(self._turn)
        if not try_lock(self._turn_fd, fcntl.LOCK_SH):
            return False
        fcntl.flock(self._turn_fd, fcntl.LOCK_UN)
        return True

    def _leave(self) -> None:
        self._workers -= 1
        if self._workers == 0 and self._shared_fd is not None:
            os.close(self._shared_fd)
            self._shared_fd = None


@asynccontextmanager
async def leading(lock: Path) -> AsyncIterator[bool]:
    """Tried once: True holds the lock to the end of the block, False means that another has it."""
    fd = open_lock(lock)
    try:
        yield try_lock(fd, fcntl.LOCK_EX)
    finally:
        os.close(fd)


class Flag:
    """Raised by any of several processes, seen by all; it falls with the process. Needs no room on the disk."""

    def __init__(self, lock: Path) -> None:
        self._fd: int | None = None
        self._lock = lock
        with suppress(Unavailable):  # a copy that takes no writes
            os.close(open_lock(lock))  # later the disk may have no room for a file

    async def set(self, raised: bool) -> None:
        """Best effort: whoever looks just now is in the way for a moment, and another that raised it for as long."""
        if not raised:
            self.close()
        for _ in range(_TRIES if raised and self._fd is None else 0):
            fd = open_lock(self._lock)
            if try_lock(fd, fcntl.LOCK_EX):
                self._fd = fd
                return
            os.close(fd)
            await anyio.sleep(_FIRST_PAUSE)

    def raised(self) -> bool:
        """By whichever process; not where nobody can lock anything."""
        try:
            fd = open_lock(self._lock)
        except Unavailable:
            return False
        try:
            return not try_lock(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def open_lock(path: Path) -> int:
    """Raises Unavailable when the file cannot be opened."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"cannot open {path}: {error.strerror}") from error


def try_lock(fd: int, operation: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
        return True
    return False


async def _poll(path: Path, operation: int, patience: float) -> int:
    deadline, pause = anyio.current_time() + patience, _FIRST_PAUSE
    fd = open_lock(path)
    try:
        while not try_lock(fd, operation):
            pause = await _pause(path, deadline, pause)
    except BaseException:
        os.close(fd)
        raise
    return fd


async def _pause(path: Path, deadline: float, pause: float) -> float:
    if anyio.current_time() >= deadline:
        raise held_for_too_long(path)
    await anyio.sleep(pause)
    return min(pause * 1.5, _LONGEST_PAUSE)


def held_for_too_long(path: Path) -> Unavailable:
    """A process that is stopped in the middle of a call is the usual reason, and the one that a person can mend."""
    holders = holders_of(path)
    stopped = [pid for pid in holders if _is_stopped(pid)]
    if stopped:
        pids = " ".join(str(pid) for pid in stopped)
        return Unavailable(
            f"{path.name} is held by a process that is stopped (pid {pids})",
            next=f"Let it go on (kill -CONT {pids}) or end it (kill -KILL {pids}); nothing that it acknowledged is lost.",
        )
    named = f" (pid {' '.join(str(pid) for pid in holders)})" if holders else ""
    return Unavailable(
        f"{path} is held by another process for too long{named}",
        next="Try again; see who holds it with fuser.",
    )


def holders_of(path: Path) -> list[int]:
    """The processes that have locked the file, as far as the system tells: other than this one, each once."""
    found: dict[int, None] = {}
    with suppress(OSError):
        status = path.stat()
        file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if "FLOCK" in fields and "->" not in fields and file in fields:
                found[int(fields[fields.index(file) - 1])] = None
    return [pid for pid in found if pid != os.getpid()]


def _is_stopped(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    return False
