"""Backups of Quaymaster itself, proved and restored from their files alone: beside what is live, never over it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import cast

import anyio

from mcp_server.domain.database_copies import scratch_name
from mcp_server.domain.errors import Corrupt, Invalid
from mcp_server.domain.installation_backups import (
    Contents,
    Own,
    contents_of,
    file_name,
    new_database,
    seal_of,
)
from mcp_server.ports.backups import BackupFiles, Scratch
from mcp_server.ports.installation_backups import ControlPlane, RegistryCopies
from mcp_server.services.backups.copying import require_same
from mcp_server.services.databases.options import Step, no_step

TIDY_SECONDS = 60.0
LONGEST_LINE = 64 * 1024 * 1024


class InstallationRestores:
    """Needs no store: that may be what is lost. `control_plane` None: the registry is the store."""

    def __init__(
        self,
        scratch: Scratch,
        registry: RegistryCopies,
        control_plane: ControlPlane | None,
        step: Step = no_step,
    ) -> None:
        self._scratch = scratch
        self._registry = registry
        self._control_plane = control_plane
        self._step = step

    async def prove(self, name: str, files: BackupFiles) -> Contents:
        """Restore it into a scratch database or directory, and compare. Raises Corrupt with the differences."""
        contents = await self._head(name, files)
        if contents.subject == "registry":
            async with self._scratch.folder() as folder:
                await self._unpack(contents, name, files, f"{folder}/proof")
            return contents
        postgres, scratch = self.postgres(), scratch_name(contents.id)
        await postgres.drop(scratch)
        try:
            await postgres.restore(scratch, lambda: self._body(name, files))
            self._step("installation.restored")
            require_same(contents.tables, await postgres.tables(scratch))
        finally:
            with anyio.move_on_after(TIDY_SECONDS, shield=True):
                await postgres.drop(scratch)
        return contents

    async def registry(self, name: str, files: BackupFiles, folder: str) -> Contents:
        """As a new home in a directory that is not there yet. Raises Invalid, Conflict, Corrupt."""
        contents = await self._head(name, files)
        if contents.subject != "registry":
            raise Invalid("this is the backup of a control plane", next="Restore it with --to-database NAME.")
        await self._unpack(contents, name, files, folder)
        return contents

    async def control_plane(self, name: str, files: BackupFiles, database: str) -> Contents:
        """As a new database on the PostgreSQL that is configured. Raises Invalid, Conflict, Corrupt."""
        contents = await self._head(name, files)
        if contents.subject != "control_plane":
            raise Invalid("this is the backup of a registry", next="Restore it with --to-home DIR.")
        postgres = self.postgres()
        await postgres.restore(new_database(database), lambda: self._body(name, files))
        try:
            require_same(contents.tables, await postgres.tables(database))
        except BaseException:
            with anyio.move_on_after(TIDY_SECONDS, shield=True):
                await postgres.drop(database)
            raise
        return contents

    def require(self, subject: Own) -> None:
        """Raises Invalid where this home has none."""
        if subject == "control_plane":
            self.postgres()

    def postgres(self) -> ControlPlane:
        if self._control_plane is None:
            raise Invalid(
                "no PostgreSQL is configured: the registry is the store",
                next="Set QUAYMASTER_DATABASE_URL, or name the registry.",
            )
        return self._control_plane

    async def _unpack(self, contents: Contents, name: str, files: BackupFiles, folder: str) -> None:
        async with self._scratch.folder() as scratch:
            archive = f"{scratch}/registry.tar"
            await self._scratch.write(archive, self._body(name, files))
            require_same(contents.tables, await self._registry.unpack(archive, folder))

    async def _head(self, name: str, files: BackupFiles) -> Contents:
        pieces = files.reading(name, seal_of(name))
        line = bytearray()
        async with aclosing(cast(AsyncGenerator[bytes], pieces)):
            async for piece in pieces:
                line += piece
                if b"\n" in piece or len(line) > LONGEST_LINE:
                    break
        contents = contents_of(bytes(line).partition(b"\n")[0])
        if name != file_name(contents.subject, contents.id):
            raise Corrupt("the backup's file bears the name of another one")
        return contents

    async def _body(self, name: str, files: BackupFiles) -> AsyncIterator[bytes]:
        """What comes after the first line."""
        begun = False
        async for piece in files.reading(name, seal_of(name)):
            rest = piece
            if not begun:
                _, newline, rest = piece.partition(b"\n")
                begun = bool(newline)
            if rest:
                yield rest
