"""The way to PostgreSQL: a copy of the file's rows beside it, compared, and then the switch of the record.

The file stays where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import anyio

from mcp_server.domain.backups import TableSum, differences
from mcp_server.domain.databases import Database
from mcp_server.domain.errors import Conflict, Corrupt, Invalid
from mcp_server.domain.typemap import Mapping, mapping
from mcp_server.domain.wording import counted
from mcp_server.ports.backups import Scratch, SqliteCopies
from mcp_server.ports.promotions import Promoter
from mcp_server.ports.store import Transaction
from mcp_server.services.backups.service import Backups
from mcp_server.services.databases.parts import Parts
from mcp_server.services.promotions.marks import TEND, Marks
from mcp_server.services.works import Work


class ToPostgres:
    def __init__(
        self,
        parts: Parts,
        marks: Marks,
        backups: Backups,
        promoter: Promoter,
        copies: SqliteCopies,
        scratch: Scratch,
    ) -> None:
        self._parts = parts
        self._marks = marks
        self._backups = backups
        self._promoter = promoter
        self._copies = copies
        self._scratch = scratch

    async def mapped(self, database: Database, folder: str) -> tuple[Mapping, str]:
        """Of one moment of the file, copied into `folder`. Raises Invalid with what cannot come along."""
        copy = f"{folder}/copy.db"
        await self._copies.copy(await self._backups.sqlite_file(database), copy)
        mapped = mapping(await self._promoter.schema(copy))
        if mapped.refused:
            raise Invalid(
                f"{counted(len(mapped.refused), 'thing')} of this database would not come to PostgreSQL whole",
                next="Change them in SQLite (or drop them, to make them anew afterwards), then call again.",
                refused=list(mapped.refused[:100]),
            )
        return mapped, copy

    async def run(self, work: Work, *, database: Database) -> None:
        """Ends on PostgreSQL, or on SQLite with nothing of it left."""
        try:
            source = await self._backups.sqlite_file(database)
            async with self._promoter.held(source):
                await work.tell("backing the file up")
                await self._backups.make(database, "promotion")
                self._parts.step("promote.backed_up")
                async with self._scratch.folder() as folder:
                    mapped, copy = await self.mapped(database, folder)
                    await work.tell("making a PostgreSQL server")
                    database = await self._made(database, work)
                    self._parts.step("promote.made")
                    await work.tell("bringing the rows over")
                    await self._bring(database, copy, mapped)
                self._parts.step("promote.compared")
                await work.tell("switching")
                database = await self._switch(database)
                self._parts.step("promote.switched")
        except BaseException:
            with anyio.move_on_after(self._parts.options.work_seconds, shield=True):
                await self._parts.works.insist(f"undo promotion {database.uid}", partial(self.undo, database))
            raise
        await self._parts.injection.into_file(database)

    async def _made(self, database: Database, work: Work) -> Database:
        """A server of its own, whatever the isolation of new databases is."""
        parts = self._parts
        port = await parts.allocation.candidate(seed=database.uid)
        place, has_data = await parts.places.find(database, port=port)
        access = parts.passwords.drawn(database.uid)
        if has_data:
            raise Conflict(
                f"there is a volume {place.volume} of an earlier database",
                next="Create a PostgreSQL database from it, or remove it, then call again.",
            )

        async def transaction(tx: Transaction) -> Database:
            held = await self._marks.same(tx, database)
            now = await tx.now()
            if held.place is not None:  # of an attempt whose process died before it made anything
                await parts.allocation.release(tx, held.place.port, held.uid)
            await parts.allocation.take(tx, port, held.uid, "database", now)
            return await tx.databases.save(held.change(place=place, access=access, updated_at=now))

        database = (await parts.store.run(transaction, TEND)).value
        self._parts.step("promote.reserved")
        await parts.servers.prepare(place, work.tell)
        superuser, verifiers = (
            parts.passwords.superuser_verifier(),
            parts.passwords.verifiers(access, database.uid),
        )
        async with parts.starts.turn(work.tell):
            await parts.servers.create(
                parts.servers.workload(place, "database", superuser, access, verifiers)
            )
            await parts.servers.start(place)
            await work.tell("waiting until it answers")
            await parts.servers.until_ready(place, parts.passwords.login(place, access, database.uid))
        return database

    async def _bring(self, database: Database, copy: str, mapped: Mapping) -> None:
        """Raises Corrupt when a single row differs."""
        login = self._parts.passwords.login_of(database)
        await self._promoter.load(copy, login, mapped.tables)
        self._parts.step("promote.loaded")
        _require_same(
            await self._promoter.sqlite_sums(copy, mapped.tables),
            await self._promoter.postgres_sums(login, mapped.tables),
        )

    async def _switch(self, database: Database) -> Database:
        async def transaction(tx: Transaction) -> Database:
            held = await self._marks.same(tx, database)
            now = await tx.now()
            moved = await tx.databases.save(
                held.change(
                    engine="postgres",
                    isolation="container",
                    path=None,
                    worker=None,
                    fallback=None,
                    adopted=False,
                    updated_at=now,
                )
            )
            project = await tx.projects.hold(held.project)
            if project is not None and moved.access and moved.place and project.database_name == "sqlite":
                name, port = moved.access.database, moved.place.port
                await tx.projects.save(project.change(database_name=name, database_port=port, updated_at=now))
            return moved

        return (await self._parts.store.run(transaction, TEND)).value

    async def undo_broken_off(self, database: Database) -> None:
        """What a dead process half made. Ours first: nobody begins another promotion meanwhile, whose server it would
        take away."""
        me = self._parts.workers.me
        if not await self._marks.handed(database, database.worker, me):
            return
        try:
            await self.undo(database)
        except BaseException:
            with anyio.move_on_after(self._parts.options.work_seconds, shield=True):
                await self._marks.handed(database, me, database.worker)
            raise

    async def undo(self, database: Database) -> None:
        """First from the engine, then from the record: until then its port is nobody else's."""
        standing = await self._marks.standing(database)
        if standing.engine != "sqlite":
            # Its switch was written down before it was told to stop: these are the only rows that are used.
            await self._parts.injection.into_file(standing)
            return
        place = standing.place
        if place is not None:
            networks = self._parts.networks.refs(database.project, database.project_uid)
            await self._parts.servers.dismantle(place, keep_volume=False, networks=networks)
            self._parts.step("promote.undone")

        async def transaction(tx: Transaction) -> None:
            held = await tx.databases.hold(database.key)
            if held is None or held.uid != database.uid or held.engine != "sqlite":
                return
            if held.place is not None:
                await self._parts.allocation.release(tx, held.place.port, held.uid)
            await tx.databases.save(
                held.change(place=None, access=None, worker=None, updated_at=await tx.now())
            )

        await self._parts.store.run(transaction, TEND)


def _require_same(expected: Sequence[TableSum], found: Sequence[TableSum]) -> None:
    wrong = differences(expected, found)
    if wrong:
        raise Corrupt(
            f"PostgreSQL holds something else than the file: {'; '.join(wrong[:5])}",
            next="Nothing was switched; report this with the table's definition.",
        )
