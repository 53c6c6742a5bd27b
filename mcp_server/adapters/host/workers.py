"""Who is still at work: each process holds a lock on a file of its own for as long as it lives.

The lock ends with the process, however it ends; a frozen process keeps it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
from pathlib import Path
from typing import Self

FOLDER = "workers"
LEADER = "leader"
TOKEN = re.compile(r"w[0-9a-f]{24}")


class HomeWorkers:
    """Made by `open`, ended by `close`."""

    def __init__(self, folder: Path, token: str, descriptor: int) -> None:
        self._folder = folder
        self._descriptor = descriptor
        self._leading: int | None = None
        self.me = token

    @classmethod
    def open(cls, home: Path) -> Self:
        """Join the home; what dead processes left is cleared away."""
        folder = home / FOLDER
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in folder.iterdir():
            if TOKEN.fullmatch(path.name) and not _locked(path):
                path.unlink(missing_ok=True)
        token = f"w{secrets.token_hex(12)}"
        aside = folder / f"{token}.new"
        descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        aside.rename(folder / token)
        return cls(folder, token, descriptor)

    def alive(self, worker: str | None) -> bool:
        if worker is None or not TOKEN.fullmatch(worker):
            return False
        return worker == self.me or _locked(self._folder / worker)

    def lead(self) -> bool:
        """Whether this process leads the home from now on, until `close` or its end; one does at a time."""
        if self._leading is None:
            descriptor = os.open(self._folder / LEADER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            self._leading = descriptor
        return True

    def close(self) -> None:
        if self._leading is not None:
            os.close(self._leading)
            self._leading = None
        with contextlib.suppress(OSError):
            (self._folder / self.me).unlink(missing_ok=True)
            os.close(self._descriptor)


def _locked(path: Path) -> bool:
    """Whether somebody holds it. Opened anew: our own lock would not stop us otherwise."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
