"""Where a SQLite database's file lies, below a directory that no link leads out of.

The directory is the one of when the file was made: a project's path may change, and its file stays where it is.
"""

from __future__ import annotations

import logging
import os

import anyio.to_thread

from mcp_server.domain.errors import Invalid
from mcp_server.domain.queries import SqliteFile
from mcp_server.ports.databases import SqliteFiles

log = logging.getLogger(__name__)
DATA = "/data/"


def sqlite_root(files: str, path: str) -> str:
    """`files`: the directory in the home of projects without a path."""
    return files if path.startswith(f"{files}/") else path.rpartition(DATA)[0]


async def sqlite_file(files: str, path: str) -> SqliteFile:
    """Raises Invalid when what is there now is another directory's."""
    if await leads_elsewhere(files, path):
        raise Invalid(
            "the directory of the database's file now leads elsewhere",
            next="Put the directory back in its place, or delete the database with final_backup=false.",
        )
    return SqliteFile(root=sqlite_root(files, path), path=path)


async def remove_sqlite(disk: SqliteFiles, files: str, path: str) -> None:
    """What stands behind a link by now was never ours, and is left."""
    gone = not await leads_elsewhere(files, path) and await disk.remove(sqlite_root(files, path), path)
    if not gone:
        log.warning("%s is left: a link stands on the way to it", path)


async def leads_elsewhere(files: str, path: str) -> bool:
    """The home's own directory may be reached over links; a project's path was without any when it was set."""
    root = sqlite_root(files, path)
    return root != files and await anyio.to_thread.run_sync(os.path.realpath, root) != root
