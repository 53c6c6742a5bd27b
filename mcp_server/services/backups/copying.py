"""A database into a backup's file, and a backup's file into a database beside the live one."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from mcp_server.domain.backups import Backup, TableSum, differences
from mcp_server.domain.database_copies import scratch_name
from mcp_server.domain.databases import Access, Database, Place
from mcp_server.domain.errors import Corrupt, Unavailable
from mcp_server.domain.queries import SqliteFile
from mcp_server.ports.backups import BackupFiles, PostgresSums, Scratch, SqliteCopies
from mcp_server.services.backups.dumps import DUMP_SECONDS, Dumps
from mcp_server.services.databases.files import sqlite_file
from mcp_server.services.databases.parts import Parts

PROOF_SECONDS = 1800.0
SETTLE_SECONDS = 60.0


class Copying:
    def __init__(
        self, parts: Parts, files: BackupFiles, sums: PostgresSums, copies: SqliteCopies, scratch: Scratch
    ) -> None:
        self._parts = parts
        self._files = files
        self._sums = sums
        self._copies = copies
        self._scratch = scratch
        self._dumps = Dumps(parts.engine, parts.servers)

    # -- writing

    async def write(self, backup: Backup, database: Database) -> Backup:
        """One moment of the database as the backup's file; the backup with what it holds."""
        if database.path is not None:
            return await self._write_file(backup, database)
        place, access = parts_of(database)
        login = self._parts.passwords.login_of(database)
        async with (
            self._sums.moment(login, seconds=DUMP_SECONDS) as seen,
            self._files.writing(backup.file, backup.context()) as sink,
        ):
            await self._dumps.dump(place, access, seen.snapshot, sink)
        return backup.change(
            tables=tuple(seen.tables), extensions=tuple(seen.extensions), server_version=seen.version
        )

    async def _write_file(self, backup: Backup, database: Database) -> Backup:
        async with self._scratch.folder() as folder:
            copy = f"{folder}/copy.db"
            tables = await self._copies.copy(await self.sqlite_file(database), copy)
            async with self._files.writing(backup.file, backup.context()) as sink:
                async for piece in self._scratch.read(copy):
                    await sink(piece)
        return backup.change(tables=tuple(tables))

    # -- proving

    async def prove(self, backup: Backup, database: Database) -> None:
        """Restore it from its file into a scratch database, and compare. Raises Corrupt with the differences."""
        if database.path is not None:
            async with self._scratch.folder() as folder:
                require_same(backup.tables, await self.unpacked(backup, f"{folder}/copy.db"))
            return
        place, _ = parts_of(database)
        name = scratch_name(backup.id)
        try:
            require_same(backup.tables, await self.restored(backup, database, name))
        finally:
            with anyio.move_on_after(SETTLE_SECONDS, shield=True):
                await self._dumps.drop(place, name)

    async def unpacked(self, backup: Backup, path: str) -> tuple[TableSum, ...]:
        """As the new file `path`; what it holds."""
        await self._scratch.write(path, self._files.reading(backup.file, backup.context()))
        return tuple(await self._copies.tables(path))

    async def restored(self, backup: Backup, database: Database, name: str) -> tuple[TableSum, ...]:
        """Into a new database of this name on the server of `database`, as its role."""
        place, access = parts_of(database)
        same_roles = database.isolation == "container" or backup.database_uid == database.uid
        await self._dumps.restore(
            place,
            access,
            name,
            backup.extensions,
            lambda: self._files.reading(backup.file, backup.context()),
            privileges=same_roles,
        )
        self._parts.step("backups.restored")
        login = self._parts.passwords.login_of(database).change(database=name)
        return tuple(await self._sums.tables(login, seconds=PROOF_SECONDS))

    # -- where

    async def sqlite_file(self, database: Database) -> SqliteFile:
        """With the directory that no link may lead out of."""
        return await sqlite_file(self._parts.options.files, database.path or "")


def require_same(expected: Sequence[TableSum], found: Sequence[TableSum]) -> None:
    """Raises Corrupt with the differences."""
    wrong = differences(expected, found)
    if wrong:
        raise Corrupt(
            f"the restored copy differs: {'; '.join(wrong[:5])}",
            next="Make a new backup; this one is not used.",
        )


def parts_of(database: Database) -> tuple[Place, Access]:
    if database.place is None or database.access is None:
        raise Unavailable("the database has no server")
    return database.place, database.access
