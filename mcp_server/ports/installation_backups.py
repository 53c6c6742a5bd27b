"""What backups of Quaymaster itself need: its own PostgreSQL as a whole, and a home's registry as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from mcp_server.domain.backups import TableSum
from mcp_server.ports.backups import Seen, Sink

Pieces = Callable[[], AsyncIterator[bytes]]
"""Begins to read a dump; may be called again."""


class ControlPlane(Protocol):
    """The PostgreSQL that Quaymaster itself works on. Every method raises Unavailable when it, or the programs of
    its version, cannot be had."""

    def moment(self) -> AbstractAsyncContextManager[Seen]: ...

    async def dump(self, seen: Seen, sink: Sink) -> None:
        """All of the database as of a moment that is still open."""
        ...

    async def restore(self, name: str, pieces: Pieces) -> None:
        """A new database of this name on the same server with what a dump holds, all of it or nothing.

        Raises Conflict where there is one of this name.
        """
        ...

    async def tables(self, name: str) -> Sequence[TableSum]:
        """What the database of this name holds, as `Seen.tables` says it."""
        ...

    async def drop(self, name: str) -> None:
        """None is no error."""
        ...

    async def clear(self) -> None:
        """Remove what dead processes left on the engine."""
        ...


class RegistryCopies(Protocol):
    """Raises Unavailable when the disk refuses."""

    async def pack(self, folder: str, archive: str) -> Sequence[TableSum]:
        """One moment of the registry, copied to the new directory `folder`, proved there, and packed as the new
        file `archive`; what it holds. Raises Corrupt where it is damaged."""
        ...

    async def unpack(self, archive: str, folder: str) -> Sequence[TableSum]:
        """As the new directory `folder`, proved; what it holds. Raises Conflict where there is something,
        Corrupt."""
        ...
