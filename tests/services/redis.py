"""A real Redis server that a test may kill, freeze and start again. Synchronous; all waits are bounded."""

import contextlib
import shutil
import signal
import socket
import subprocess
from types import TracebackType
from typing import Self

from .ports import ReservedPort
from .waiting import wait_until

PASSWORD = "redis-test-only"


class RedisMissing(Exception):
    """This machine has no redis-server."""


class RedisServer:
    """One server on a port of 127.0.0.1 that stays the same until `close`. It keeps nothing on disk."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise RedisMissing("no redis-server on PATH (on Debian: apt-get install redis-server)")
        self._program = program
        self._port = ReservedPort()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        return self.url_with(PASSWORD)

    def url_with(self, password: str) -> str:
        return f"redis://:{password}@127.0.0.1:{self._port.number}/0"

    def start(self) -> None:
        """Returns when the server answers. It begins empty."""
        self._process = subprocess.Popen(
            [
                self._program,
                *("--bind", "127.0.0.1", "--port", str(self._port.number), "--requirepass", PASSWORD),
                *("--save", "", "--appendonly", "no", "--dir", "/tmp"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: b"OK" in self.say("PING"), seconds=10, what="redis-server to answer")

    def say(self, line: str) -> bytes:
        """What the server answers to one inline command; nothing when nobody listens."""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._port.number), 2) as link,
        ):
            link.settimeout(2)
            link.sendall(f"AUTH {PASSWORD}\r\n{line}\r\n".encode())
            return link.recv(65536)
        return b""

    def kill(self) -> None:
        self._running.kill()
        self._running.wait(10)

    def freeze(self) -> None:
        self._running.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._running.send_signal(signal.SIGCONT)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._port.release()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process
