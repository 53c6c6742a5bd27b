"""Writing the typed client of a database beside its schema, or telling whether it is up to date."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import anyio.to_thread

from mcp_server.domain.client_code.modules import HEADER, client_files
from mcp_server.domain.errors import Conflict
from mcp_server.ports.shapes import Shapes


class Generated(NamedTuple):
    """Names of files in the client's folder. When only checked, what would be."""

    written: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: int

    @property
    def up_to_date(self) -> bool:
        return not self.written and not self.removed


class Generate:
    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes

    async def client(
        self, url: str, folder: Path, *, schemas: tuple[str, ...] = (), check: bool = False
    ) -> Generated:
        """Make the files in `folder` those of the database's shape; with `check` only look.

        Each file is replaced whole; generated ones that have no table any more are removed. Raises Conflict when
        a file is in the way that was not generated, before anything is written; Unavailable without database.
        """
        files = client_files(await self._shapes.of(url, schemas))
        return await anyio.to_thread.run_sync(_settle, folder, files, check)


def _settle(folder: Path, files: dict[str, str], check: bool) -> Generated:
    present = (
        {path.name: path.read_bytes() for path in sorted(folder.glob("*.py"))} if folder.exists() else {}
    )
    written = tuple(name for name in sorted(files) if present.get(name) != files[name].encode())
    removed = tuple(name for name in present if name not in files and _is_generated(present[name]))
    foreign = [name for name in written if name in present and not _is_generated(present[name])]
    if foreign and not check:
        raise Conflict(
            f"{folder / foreign[0]} was not written by 'quaymaster db generate'",
            next="Move it elsewhere, or delete it if it is not needed.",
            files=foreign,
        )
    if not check:
        folder.mkdir(parents=True, exist_ok=True)
        for name in written:
            _replace(folder / name, files[name])
        for name in removed:
            (folder / name).unlink(missing_ok=True)
    return Generated(written, removed, len(files) - len(written))


def _is_generated(content: bytes) -> bool:
    return not content.strip() or content.startswith(HEADER.encode())


def _replace(path: Path, text: str) -> None:
    descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        Path(aside).chmod(0o644)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
