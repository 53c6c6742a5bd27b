"""Workers as processes of their own, and what they acknowledged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.services.waiting import wait_until

CHECKOUT = Path(__file__).resolve().parents[2]


class Worker:
    """One `tests.failover.worker`; ended by `close`."""

    def __init__(
        self, home: Path, url: str, name: str, *, count: int = 100_000, fault: str | None = None
    ) -> None:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(CHECKOUT)}
        if fault is not None:
            environment["QUAYMASTER_FAULT"] = fault
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.failover.worker", str(home), url, name, str(count)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [
            threading.Thread(target=self._collect, args=pair, daemon=True)
            for pair in ((self._process.stdout, self.lines), (self._process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def acknowledged(self) -> set[str]:
        return {line.split()[1] for line in list(self.lines) if line.startswith("+ ")}

    @property
    def refused(self) -> list[str]:
        return [line for line in list(self.lines) if line.startswith("! ")]

    @property
    def slowest(self) -> int:
        """Milliseconds of the longest acknowledged call."""
        return max((int(line.split()[2]) for line in list(self.lines) if line.startswith("+ ")), default=0)

    @property
    def degraded(self) -> int:
        """How many were acknowledged without PostgreSQL."""
        return sum(line.startswith("+ ") and line.endswith(" degraded") for line in list(self.lines))

    def wait_for(self, count: int, *, seconds: float = 40) -> None:
        """Until so many more writes were acknowledged."""
        goal = len(self.acknowledged) + count
        wait_until(
            lambda: len(self.acknowledged) >= goal or self._ended(),
            seconds=seconds,
            what=f"{count} more writes; refused: {self.refused[-3:]}; stderr: {self.errors[-3:]}",
        )

    def wait_open(self, *, seconds: float = 40) -> None:
        wait_until(lambda: self.lines or self._ended(), seconds=seconds, what="the worker to open its home")

    def wait_killed(self, *, seconds: float = 40) -> None:
        """Until the fault has ended the process."""
        self._process.wait(timeout=seconds)
        self._join()
        assert self._process.returncode == -signal.SIGKILL, "".join(self.errors)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(timeout=30)
        self._join()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def frozen(self) -> bool:
        """Whether it stands still, by our hand or at its fault."""
        return Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def close(self) -> None:
        if self._process.poll() is None:
            self.kill()

    def _ended(self) -> bool:
        if self._process.poll() is not None and self._process.returncode != -signal.SIGKILL:
            self._join()
            raise RuntimeError("".join(self.errors))
        return self._process.poll() is not None

    def _collect(self, pipe: object, into: list[str]) -> None:
        for line in pipe:  # type: ignore[attr-defined]
            into.append(line.rstrip("\n"))

    def _join(self) -> None:
        for reader in self._readers:
            reader.join(timeout=10)
