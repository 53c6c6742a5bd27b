"""Changes to a directory that others read meanwhile: each is whole for them, and on the disk when it returns."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from mcp_server.adapters import faults
from mcp_server.domain.errors import Unavailable

LOCK_TIMEOUT = 10.0
UNFINISHED = ".new-"
"""Names that begin like this are half-made; nobody acts on them."""


def entries(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def link_of(path: Path) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def make(folder: Path) -> None:
    """The folder, readable for the proxy's user whatever this process's umask is."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return
    folder.chmod(0o755)
    sync(folder.parent)


def touch(path: Path) -> None:
    if path.exists():
        return
    path.touch(mode=0o644)
    path.chmod(0o644)
    sync(path.parent)


def unlink(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        sync(path.parent)


def remove(path: Path) -> None:
    """Gone in one step for readers; a crash leaves at most an unfinished name, which `claim` clears."""
    if path.is_symlink() or path.is_file():
        unlink(path)
    elif path.exists():
        aside = path.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")
        path.rename(aside)
        sync(path.parent)
        faults.at("edge.remove.renamed")
        shutil.rmtree(aside)


def write(path: Path, text: str, mode: int) -> None:
    aside = path.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")
    with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    sync(path.parent)


def sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Polled, so that a thread never hangs here for good; the file is never replaced."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    with open(path, "a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                if time.monotonic() > deadline:
                    raise Unavailable("Another process is changing the edge's directory.") from error
                time.sleep(0.005)
        yield
