"""A second Docker engine for tests that stop, kill and fill one: never the engine that the others share.

Its files lie on a tmpfs of bounded size, so that a full disk of its volumes is no full disk of the machine. It has a
bridge of its own (one that is told to have none deletes docker0, whosever that is) and leaves the packet filter
alone. Root is needed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from .engine import START, DockerEngine, EngineError, EngineMissing
from .waiting import wait_until

MEGABYTES = 400
OPTIONS = "--iptables=false --ip6tables=false --ip-forward=false --ip-masq=false --shutdown-timeout=3"


class SpareEngine:
    """Running within the block."""

    def __init__(self, megabytes: int = MEGABYTES) -> None:
        if os.geteuid() != 0:
            raise EngineMissing("root is needed to start an engine")
        self.folder = Path(tempfile.mkdtemp(prefix="qm-engine-"))
        self.engine = DockerEngine(str(self.folder / "s"))
        self._bridge = f"qm{secrets.token_hex(5)}"
        try:
            add_bridge(self._bridge)
            mount(self.folder, megabytes)
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        return self.engine.address

    def start(self) -> None:
        """Return when it answers. EngineMissing when it does not come up."""
        done = self._run()
        if done.returncode != 0:
            raise EngineMissing(f"no second engine comes up: {done.stderr[-500:]}")

    def stop(self) -> None:
        """As an operator does it: its containers end first."""
        self._run("--stop")

    def kill(self) -> None:
        """SIGKILL to the daemon alone: what it ran goes on without it. Gone on return."""
        daemon = psutil.Process(int((self.folder / "dockerd.pid").read_text()))
        daemon.send_signal(signal.SIGKILL)
        wait_until(lambda: not _runs(daemon), seconds=10, what="the engine to be gone")

    def fill(self) -> None:
        """Not a byte is free any more on the disk of its volumes."""
        with contextlib.suppress(OSError), (self.folder / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(64 * 1024))
        with contextlib.suppress(OSError), (self.folder / "filler").open("ab", buffering=0) as file:
            while True:
                file.write(b"x")

    def free(self) -> None:
        (self.folder / "filler").unlink(missing_ok=True)

    def close(self) -> None:
        self.free()
        with contextlib.suppress(OSError, EngineError):
            for one in self.engine.ask("GET", "/containers/json?all=1", seconds=10):
                self.engine.ask("DELETE", f"/containers/{one['Id']}?force=1&v=1")
        self._run("--stop")
        self._end_the_rest()
        unmount(self.folder)
        subprocess.run(["ip", "link", "delete", self._bridge], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [START, *arguments],
            env={
                **os.environ,
                "QUAYMASTER_ENGINE_SOCKET": str(self.folder / "s"),
                "QUAYMASTER_ENGINE_DIR": str(self.folder),
                "QUAYMASTER_ENGINE_OPTIONS": f"--bridge={self._bridge} {OPTIONS}",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def _end_the_rest(self) -> None:
        """What a killed daemon left: processes that have this engine's own directory among their arguments."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(str(self.folder) in argument for argument in process.cmdline()):
                    process.kill()
                    process.wait(5)


def add_bridge(name: str) -> None:
    """With an address of the range for benchmarks, which no network has. EngineMissing where none may be made."""
    address = f"198.18.{secrets.randbelow(256)}.1/24"
    for words in (f"link add {name} type bridge", f"address add {address} dev {name}", f"link set {name} up"):
        done = subprocess.run(["ip", *words.split()], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise EngineMissing(f"no bridge can be made: {done.stderr.strip()}")


def mount(folder: Path, megabytes: int) -> None:
    """A disk of this size. EngineMissing where none may be mounted."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise EngineMissing(f"no tmpfs can be mounted: {done.stderr.strip()}")


def unmount(folder: Path) -> None:
    """With all that is mounted below it."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        place = line.split()[1]
        if place == str(folder) or place.startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
