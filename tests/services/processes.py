"""Quaymaster as a process of its own: started, watched, frozen, killed.

The process gets an environment of its own (nothing of the tester's settings reaches it) and a working
folder outside the checkout.
"""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from .ports import ReservedPort
from .waiting import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]


def quaymaster_command(*arguments: str) -> list[str]:
    """The command line as a list; it needs `quaymaster_environment` to find the package."""
    return [sys.executable, "-m", "mcp_server", *arguments]


def quaymaster_environment(home: Path, settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """A whole environment: `home` is the state directory; `settings` are QUAYMASTER_* and the like."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONUNBUFFERED": "1",
        "QUAYMASTER_ENV": "test",
        "QUAYMASTER_HOME": str(home),
        **(settings or {}),
    }


def run_quaymaster(
    *arguments: str,
    home: Path,
    settings: Mapping[str, str] | None = None,
    stdin: str | None = None,
    seconds: float = 30,
) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself, finished; its exit code is for the test to judge."""
    return subprocess.run(
        quaymaster_command(*arguments),
        env=quaymaster_environment(home, settings),
        cwd=home,
        input=stdin or "",
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


class ServerProcess:
    """A running `quaymaster serve` or `quaymaster stdio`. Made by `serve` and `stdio`, ended by `close`."""

    def __init__(
        self,
        arguments: list[str],
        *,
        home: Path,
        settings: Mapping[str, str] | None,
        port: ReservedPort | None,
    ) -> None:
        self._port = port
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            quaymaster_command(*arguments),
            env=quaymaster_environment(home, settings),
            cwd=home,
            stdin=subprocess.DEVNULL if port else subprocess.PIPE,
            stdout=subprocess.DEVNULL if port else subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._watcher = threading.Thread(target=self._collect, daemon=True)
        self._watcher.start()

    @classmethod
    def serve(
        cls, *arguments: str, home: Path, settings: Mapping[str, str] | None = None, seconds: float = 30
    ) -> Self:
        """`quaymaster serve` on a free port of 127.0.0.1; returns when `/health` gives an answer.

        A process that ends before is a RuntimeError with its stderr.
        """
        port = ReservedPort()
        started = cls(
            ["serve", "--host", "127.0.0.1", "--port", str(port.number), *arguments],
            home=home,
            settings=settings,
            port=port,
        )
        try:
            started.wait_ready(seconds)
        except BaseException:
            started.close()
            raise
        return started

    @classmethod
    def stdio(cls, *arguments: str, home: Path, settings: Mapping[str, str] | None = None) -> Self:
        """`quaymaster stdio` with pipes: `stdin` and `stdout` carry the protocol as bytes."""
        return cls(["stdio", *arguments], home=home, settings=settings, port=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def port(self) -> int:
        if self._port is None:
            raise RuntimeError("a stdio server has no port")
        return self._port.number

    @property
    def url(self) -> str:
        """Without a trailing slash; the MCP endpoint is `url + "/mcp"`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def stdin(self) -> IO[bytes]:
        return _pipe(self._process.stdin)

    @property
    def stdout(self) -> IO[bytes]:
        return _pipe(self._process.stdout)

    @property
    def stderr(self) -> str:
        """All that was written so far."""
        return "".join(self._lines)

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def wait_ready(self, seconds: float = 30) -> None:
        wait_until(self._answers_http, seconds=seconds, what=f"{self.url}/health to answer")

    def wait_for_stderr(self, text: str, seconds: float = 30) -> str:
        """The first line that contains the text."""

        def found() -> str | None:
            self._raise_if_ended(unless=text)
            return next((line for line in list(self._lines) if text in line), None)

        return wait_until(found, seconds=seconds, what=f"{text!r} on stderr, which says:\n{self.stderr}")

    def wait_ended(self, seconds: float = 30) -> int:
        """The exit code; negative for a signal."""
        code = self._process.wait(timeout=seconds)
        self._watcher.join(timeout=5)
        return code

    def terminate(self, seconds: float = 30) -> int:
        """SIGTERM, then the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait_ended(seconds)

    def kill(self) -> None:
        """SIGKILL; the process is gone on return. The state directory stays as it was at that moment."""
        self._process.kill()
        self.wait_ended()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends what still runs, without ceremony. May be called twice."""
        if self._process.poll() is None:
            self.kill()
        self._watcher.join(timeout=5)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        if self._port is not None:
            self._port.release()

    def _collect(self) -> None:
        for line in _pipe(self._process.stderr):
            self._lines.append(line.decode(errors="replace"))

    def _answers_http(self) -> bool:
        self._raise_if_ended()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status > 0
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _raise_if_ended(self, unless: str | None = None) -> None:
        if self._process.poll() is None:
            return
        self._watcher.join(timeout=5)
        if unless is None or unless not in self.stderr:
            raise RuntimeError(f"the server ended with {self.returncode}:\n{self.stderr}")


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("this process was started without that pipe")
    return pipe
