"""The way back to the SQLite file, while nothing was written to either side since the promotion."""

from __future__ import annotations

from functools import partial

import anyio

from mcp_server.domain.backups import Backup, differences
from mcp_server.domain.database_copies import only_reading, writing_again
from mcp_server.domain.databases import Database
from mcp_server.domain.errors import Conflict
from mcp_server.domain.queries import SqliteFile
from mcp_server.domain.typemap import MappedTable, mapping
from mcp_server.ports.backups import BackupFiles, Scratch, SqliteCopies
from mcp_server.ports.promotions import Promoter
from mcp_server.ports.store import Reading, Transaction
from mcp_server.services.databases.drafts import sqlite_place
from mcp_server.services.databases.files import sqlite_file
from mcp_server.services.databases.parts import Parts
from mcp_server.services.promotions.marks import TEND, Marks
from mcp_server.services.promotions.to_postgres import ToPostgres
from mcp_server.services.works import Work

SHOWN = 30


class WayBack:
    def __init__(
        self,
        parts: Parts,
        marks: Marks,
        forth: ToPostgres,
        promoter: Promoter,
        files: BackupFiles,
        copies: SqliteCopies,
        scratch: Scratch,
    ) -> None:
        self._parts = parts
        self._marks = marks
        self._forth = forth
        self._promoter = promoter
        self._files = files
        self._copies = copies
        self._scratch = scratch

    async def unwritten(self, database: Database) -> tuple[Backup, SqliteFile]:
        """The backup from the promotion. Raises Conflict when either side holds anything else by now."""
        home = self._parts.site.home
        backups = await self._parts.store.read(lambda tx: tx.backups.of_home(home))
        mine = [one for one in backups if one.database_uid == database.uid and one.reason == "promotion"]
        kept = [one for one in mine if one.stage == "kept"]
        if not kept:
            raise Conflict("there is no SQLite file from which this database was promoted")
        source = await self._old_file(database)
        if not await self._parts.files.exists(source.root, source.path):
            raise Conflict(
                f"there is no SQLite file at {source.path} any more, so there is no way back",
                next="Where the project got another path, give it the one of before with update_project.",
            )
        async with self._scratch.folder() as folder:
            copy = f"{folder}/before.db"
            await self._scratch.write(copy, self._files.reading(kept[-1].file, kept[-1].context()))
            # A copy, for which no link on the way to the file is followed.
            if differences(kept[-1].tables, await self._copies.copy(source, f"{folder}/now.db")):
                raise Conflict("the SQLite file was written to since the promotion")
            tables: tuple[MappedTable, ...] = mapping(await self._promoter.schema(copy)).tables
            login = self._parts.passwords.login_of(database)
            wrong = differences(
                await self._promoter.sqlite_sums(copy, tables),
                await self._promoter.postgres_sums(login, tables),
            )
        if wrong:
            raise Conflict(
                f"PostgreSQL was written to since the promotion ({wrong[0]}), so there is no way back",
                differences=list(wrong[:SHOWN]),
            )
        return kept[-1], source

    async def run(self, work: Work, *, database: Database) -> None:
        place = database.place
        access = database.access
        try:
            if place is None or access is None:
                raise Conflict("the database has no server")
            await work.tell("comparing")
            # From here on the role's new sessions only read, and the old ones have ended.
            await self._parts.servers.run_sql(place.ref, only_reading(access))
            self._parts.step("promote.only_reading")
            _, source = await self.unwritten(database)
            record = await self._switch_back(database, source.path)
            self._parts.step("promote.back")
        except BaseException:
            with anyio.move_on_after(self._parts.options.work_seconds, shield=True):
                end = partial(self._released, database)
                await self._parts.works.insist(f"end way back {database.uid}", end)
            raise
        with anyio.move_on_after(self._parts.options.work_seconds, shield=True):
            await self._parts.works.insist(f"end way back {database.uid}", partial(self._cleared, record))

    async def _cleared(self, record: Database) -> None:
        """It is on its file again: the server goes, and the address of the project's file changes."""
        await self._forth.undo(record)
        await self._parts.injection.into_file(record)

    async def _switch_back(self, database: Database, path: str) -> Database:
        async def transaction(tx: Transaction) -> Database:
            held = await self._marks.same(tx, database)
            return await tx.databases.save(
                held.change(
                    engine="sqlite", isolation="file", path=path, adopted=True, updated_at=await tx.now()
                )
            )

        return (await self._parts.store.run(transaction, TEND)).value

    async def _released(self, database: Database) -> None:
        if database.place is not None and database.access is not None:
            await self._parts.servers.run_sql(database.place.ref, writing_again(database.access))

        async def transaction(tx: Transaction) -> None:
            held = await tx.databases.hold(database.key)
            if held is not None and held.uid == database.uid and held.worker == self._parts.workers.me:
                await tx.databases.save(held.change(worker=None))

        await self._parts.store.run(transaction, TEND)

    async def open_again(self, database: Database) -> None:
        """A way back that died may have left the role reading only. Ours first: nobody compares meanwhile."""
        me, home = self._parts.workers.me, self._parts.site.home
        backups = await self._parts.store.read(lambda tx: tx.backups.of_home(home))
        if any(one.worker == database.worker for one in backups):
            return  # It died amid a restore, whose settling needs its mark and does this as well.
        if not await self._marks.handed(database, database.worker, me):
            return
        try:
            await self._released(database)
        except BaseException:
            with anyio.move_on_after(self._parts.options.work_seconds, shield=True):
                await self._marks.handed(database, me, database.worker)
            raise

    async def _old_file(self, database: Database) -> SqliteFile:
        files = self._parts.options.files

        async def reading(tx: Reading) -> str:
            project = await tx.projects.get(database.project)
            if project is None or project.uid != database.project_uid:
                raise Conflict("the project is gone")
            return sqlite_place(files, project, database.environment)

        return await sqlite_file(files, await self._parts.store.read(reading))
