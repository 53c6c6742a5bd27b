"""`ports.sources.Sources`: archives are written to an unnamed file first, so that their size is known."""

from __future__ import annotations

import os
import posixpath
import re
import stat
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence, Set
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import anyio.to_thread

from mcp_server.adapters.sources.revisions import archive
from mcp_server.domain.dockerignore import Ignored
from mcp_server.domain.errors import Invalid, Unavailable

LARGEST = 512 * 1024 * 1024
PIECE = 1024 * 1024
REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./@{}^~-]{0,199}")
DOTENV = re.compile(r"\.env(?:rc|\..*)?")
IGNORE = ".dockerignore"
LARGEST_LIST = 256 * 1024
KEPT = frozenset({".env.example", ".env.sample", ".env.template"})


class ProjectSources:
    @asynccontextmanager
    async def directory(
        self, root: str, dockerfile: str = "Dockerfile"
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        async with _spooled(lambda file: _pack(Path(root), dockerfile, file)) as pieces:
            yield pieces

    @asynccontextmanager
    async def revision(self, root: str, ref: str) -> AsyncIterator[AsyncIterator[bytes]]:
        if not REF.fullmatch(ref) or ".." in ref:
            raise Invalid.field("ref", "a branch, tag or commit")
        async with _spooled(lambda file: archive(root, ref, file)) as pieces:
            yield pieces

    @asynccontextmanager
    async def given(self, archive: bytes) -> AsyncIterator[AsyncIterator[bytes]]:
        async def pieces() -> AsyncIterator[bytes]:
            yield archive

        yield pieces()


@asynccontextmanager
async def _spooled(write: Callable[[IO[bytes]], None]) -> AsyncIterator[AsyncIterator[bytes]]:
    with tempfile.TemporaryFile() as file:  # opened at once; what takes time is in a thread
        try:
            await anyio.to_thread.run_sync(write, file)
        except (OSError, tarfile.TarError) as error:
            raise Unavailable(f"the project's files cannot be read ({type(error).__name__})") from error
        file.seek(0)

        async def pieces() -> AsyncIterator[bytes]:
            while piece := await anyio.to_thread.run_sync(file.read, PIECE):
                yield piece

        yield pieces()


def _pack(root: Path, dockerfile: str, file: IO[bytes]) -> None:
    if not root.is_dir() or str(root.resolve()) != str(root):
        raise Invalid("the project's path is no directory, or leads elsewhere through a link")
    size = 0
    with tarfile.open(fileobj=file, mode="w") as tar:
        for path in _files(root, _ignored(root, dockerfile), {IGNORE, posixpath.normpath(dockerfile)}):
            found = path.lstat()
            if not (
                stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode) or stat.S_ISDIR(found.st_mode)
            ):
                continue
            size += found.st_size if stat.S_ISREG(found.st_mode) else 0
            if size > LARGEST:
                raise Invalid(
                    f"the project's files are larger than {LARGEST // 2**20} MB",
                    next="Build from a git revision with ref, or move what is large out of the project.",
                )
            tar.add(path, arcname=str(path.relative_to(root)), recursive=False, filter=_plain)


def _ignored(root: Path, dockerfile: str) -> Ignored:
    """By the Dockerfile's own list where it has one, else by the project's."""
    for name in (f"{posixpath.normpath(dockerfile)}{IGNORE}", IGNORE):
        path = root / name
        if path.is_file() and path.resolve().is_relative_to(root):
            with path.open("rb") as file:
                return Ignored(file.read(LARGEST_LIST).decode(errors="replace"))
    return Ignored()


def _files(root: Path, ignored: Ignored, needed: Set[str]) -> Iterator[Path]:
    """Below the root, by name; links to directories are not followed. What is needed to build is never left out."""

    def wanted(path: Path) -> bool:
        name = path.relative_to(root).as_posix()
        return name in needed or not ignored.leaves_out(name)

    for folder, folders, names in os.walk(root):
        here = Path(folder)
        present = [here / name for name in sorted(folders) if name != ".git"]
        kept = [path for path in present if wanted(path)]
        below = [*present] if ignored.exceptions or _lie_in(needed, root, present) else kept
        folders[:] = [path.name for path in below]
        yield from kept
        files = (here / name for name in sorted(names) if name in KEPT or not DOTENV.fullmatch(name))
        yield from (path for path in files if wanted(path))


def _lie_in(needed: Set[str], root: Path, folders: Sequence[Path]) -> bool:
    return any((root / name).is_relative_to(folder) for name in needed for folder in folders)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nobody's in particular: an image does not depend on who builds it."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
