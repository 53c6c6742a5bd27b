"""SQLite databases as files below a root, never through a symbolic link."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TypeVar

import anyio.to_thread

from mcp_server.domain.errors import Invalid, Unavailable

T = TypeVar("T")
HEADER = b"SQLite format 3\x00"
JOURNALS = ("", "-journal", "-wal", "-shm")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class DiskSqliteFiles:
    async def create(self, root: str, path: str) -> bool:
        return await _on_disk(lambda: _create(root, path))

    async def exists(self, root: str, path: str) -> bool:
        return await _on_disk(lambda: _exists(root, path))

    async def check(self, path: str) -> str | None:
        return await anyio.to_thread.run_sync(_check, path)

    async def remove(self, root: str, path: str) -> bool:
        return await _on_disk(lambda: _remove(root, path))


async def _on_disk(work: Callable[[], T]) -> T:
    try:
        return await anyio.to_thread.run_sync(work)
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(f"the database's file cannot be used ({type(error).__name__})") from error


def _create(root: str, path: str) -> bool:
    with _folder_of(root, path, make=True) as (folder, name):
        try:
            made = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
        except FileExistsError:
            _adopt(folder, name)
            return False
        os.close(made)
        try:
            _begin(path)
            _write_out(folder, name)
        except BaseException:
            os.unlink(name, dir_fd=folder)
            raise
        os.fsync(folder)
    return True


def _adopt(folder: int, name: str) -> None:
    """Take a file that is there: a database or empty, and from now on its owner's only."""
    try:
        found = os.open(name, os.O_RDWR | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        raise Invalid.field("path", "the database's file must not be a symbolic link") from error
    try:
        if os.read(found, len(HEADER)) not in (HEADER, b""):
            raise Invalid.field("path", "there is a file in the database's place that is no SQLite database")
        os.fchmod(found, 0o600)
    finally:
        os.close(found)


def _begin(path: str) -> None:
    """WAL is kept in the file; foreign keys are each connection's own. Not synced step by step: until it is written
    out as a whole the file is nobody's."""
    with contextlib.closing(sqlite3.connect(path, timeout=5)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA user_version = 0")
        connection.execute("VACUUM")


def _write_out(folder: int, name: str) -> None:
    file = os.open(name, os.O_RDWR | os.O_NOFOLLOW, dir_fd=folder)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _exists(root: str, path: str) -> bool:
    try:
        with _folder_of(root, path, make=False) as (folder, name):
            os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _check(path: str) -> str | None:
    try:
        # `rw`: a file that is gone is not made again.
        with contextlib.closing(
            sqlite3.connect(f"{Path(path).as_uri()}?mode=rw", uri=True, timeout=1)
        ) as found:
            found.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except (sqlite3.Error, ValueError):
        return "its file cannot be opened as a database" if os.path.lexists(path) else "its file is gone"
    return None


def _remove(root: str, path: str) -> bool:
    try:
        with _folder_of(root, path, make=False) as (folder, name):
            for suffix in JOURNALS:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name + suffix, dir_fd=folder)
            os.fsync(folder)
    except FileNotFoundError:
        return True
    except Invalid:
        return False
    return True


@contextlib.contextmanager
def _folder_of(root: str, path: str, *, make: bool) -> Iterator[tuple[int, str]]:
    """The open directory of `path` and the file's name in it; every step below `root` is no link."""
    inside = PurePosixPath(path).relative_to(root)
    if ".." in inside.parts or len(inside.parts) < 1:
        raise Invalid.field("path", "the database's file must lie in the project's directory")
    if make:
        Path(root).mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in inside.parts[:-1]:
            folder = _below(folder, part, make=make)
        yield folder, inside.name
    finally:
        os.close(folder)


def _below(folder: int, part: str, *, make: bool) -> int:
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, 0o700, dir_fd=folder)
    try:
        found = os.open(part, _FOLDER, dir_fd=folder)
    except (NotADirectoryError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise Invalid.field("path", "a symbolic link or a file stands on the way to the database") from error
    os.close(folder)
    return found
