"""Backups on disk, and what proves that a copy holds the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from mcp_server.domain.backups import Stored, TableSum
from mcp_server.domain.databases import Login
from mcp_server.domain.queries import SqliteFile

Sink = Callable[[bytes], Awaitable[None]]


class BackupFiles(Protocol):
    """Sealed files of one home, in pieces: what a backup holds is never whole in memory, and never plain on disk.

    Raises Unavailable when the disk refuses or a key is missing, NotFound for a file that is gone, Corrupt for
    one that was changed, cut off, or is another backup's.
    """

    def writing(self, name: str, context: tuple[str, ...]) -> AbstractAsyncContextManager[Sink]:
        """What the sink is given is the file `name` once the block ends well; else there is none."""
        ...

    def reading(self, name: str, context: tuple[str, ...]) -> AsyncIterator[bytes]:
        """Each piece was proved before it is given; the end is proved, too."""
        ...

    async def stored(self, name: str) -> Stored: ...

    async def reseal(self, name: str, context: tuple[str, ...]) -> bool:
        """Replaced by one that the newest key seals, in one step and proved to its end; False: it did already."""
        ...

    async def remove(self, name: str) -> None:
        """What is unfinished of it goes, too. None is no error."""
        ...

    async def names(self) -> Sequence[str]:
        """Everything that lies there, unfinished ones too, by name."""
        ...


class Seen(NamedTuple):
    """One moment of a PostgreSQL database: `snapshot` names it for pg_dump while the block is open."""

    snapshot: str
    tables: Sequence[TableSum]
    extensions: Sequence[str]
    version: str
    bytes: int


class PostgresSums(Protocol):
    """Raises Unavailable when the server cannot be reached or takes longer than `seconds`."""

    def moment(self, login: Login, *, seconds: float) -> AbstractAsyncContextManager[Seen]: ...

    async def tables(self, login: Login, *, seconds: float) -> Sequence[TableSum]:
        """Every table of every schema with the count and hash of its rows, sequences with their position, and
        the definitions as one entry `(definitions)`; by name."""
        ...


class SqliteCopies(Protocol):
    """Raises Unavailable when a file cannot be used, Conflict when others have it open and that must not be."""

    async def copy(self, source: SqliteFile, target: str) -> Sequence[TableSum]:
        """One moment of the database as a new file, with what it holds."""
        ...

    async def tables(self, path: str) -> Sequence[TableSum]: ...

    async def size(self, path: str) -> int:
        """In bytes."""
        ...

    async def replace(self, target: SqliteFile, new: str) -> None:
        """The file `new` takes the place of the database, which nobody else may have open."""
        ...


class Scratch(Protocol):
    """Files for a moment, in the home, for its owner only."""

    def folder(self) -> AbstractAsyncContextManager[str]:
        """A directory that is gone after the block, whatever happened."""
        ...

    async def clear(self) -> None:
        """Remove the directories of processes that died in the block."""
        ...

    async def write(self, path: str, pieces: AsyncIterator[bytes]) -> None: ...

    def read(self, path: str) -> AsyncIterator[bytes]: ...
