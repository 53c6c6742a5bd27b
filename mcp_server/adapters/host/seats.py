"""A bounded number of seats for all processes of a home: each is a file that whoever has it holds a lock on.

The lock ends with the process, however it ends; a frozen process keeps its seat.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from mcp_server.adapters.host.workers import FOLDER


class HomeSeats:
    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER

    def take(self, most: int) -> HomeSeat | None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(most):
            descriptor = os.open(
                self._folder / f"start-{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
            else:
                return HomeSeat(descriptor)
        return None


class HomeSeat:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def leave(self) -> None:
        os.close(self._descriptor)
