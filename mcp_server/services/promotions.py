"""From SQLite to PostgreSQL: everything or nothing, compared before the switch, and back while nothing was written.

The file stays where it is. While a promotion is under way its record is on SQLite and has a place already; a dead
process's half-made server is taken away by `tend`, and a database that it had closed to writes is opened again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Literal

import anyio

from mcp_server.domain.backups import Backup, TableSum, differences
from mcp_server.domain.database_copies import only_reading, writing_again
from mcp_server.domain.databases import Database
from mcp_server.domain.errors import Conflict, Corrupt, Invalid, QuaymasterError
from mcp_server.domain.queries import SqliteFile
from mcp_server.domain.results import PlanResult
from mcp_server.domain.teams import EnvironmentName
from mcp_server.domain.typemap import MappedTable, Mapping, mapping
from mcp_server.ports.backups import BackupFiles, Scratch, SqliteCopies
from mcp_server.ports.promotions import Promoter
from mcp_server.ports.store import Intent, Reading, Transaction
from mcp_server.services.backups.service import Backups
from mcp_server.services.calls import Call
from mcp_server.services.databases.drafts import sqlite_place
from mcp_server.services.databases.holding import Holding
from mcp_server.services.databases.parts import Parts
from mcp_server.services.plans import draw_token, gate
from mcp_server.services.works import Work

log = logging.getLogger(__name__)
TEND = Intent("tend_databases", "quaymaster")
SHOWN = 30
BETWEEN_LOOKS = 60.0


class Promoted(PlanResult):
    """`state` promoting: it goes on; get_database tells the engine."""

    state: Literal["planned", "promoting", "done"]
    tables: int = 0
    rows: int = 0


class Promotions:
    def __init__(
        self,
        parts: Parts,
        holding: Holding,
        backups: Backups,
        promoter: Promoter,
        files: BackupFiles,
        copies: SqliteCopies,
        scratch: Scratch,
    ) -> None:
        self._parts = parts
        self._holding = holding
        self._backups = backups
        self._promoter = promoter
        self._files = files
        self._copies = copies
        self._scratch = scratch

    async def promote(
        self,
        call: Call,
        *,
        project: str,
        environment: EnvironmentName | None = None,
        back: bool = False,
        wait_seconds: float = 45,
    ) -> Promoted:
        """First the plan; Invalid with the list when something cannot come along. `back`: to the SQLite file as it
        was, while nothing was written to PostgreSQL since."""
        database = await self._look(call, project, environment)
        if back == (database.engine == "sqlite"):
            return await self._answered_before(call, database)
        if back:
            return await self._plan_back(call, project, environment, database, wait_seconds)
        async with self._scratch.folder() as folder:
            mapped, _ = await self._mapped(database, folder)
        effects = (
            f"'{database.key}' moves to PostgreSQL: {len(mapped.tables)} tables, {_rows(mapped)} rows",
            "the SQLite file takes no writes meanwhile; afterwards it stays, unused: DATABASE_URL changes",
            *(f"table {table.name}: {table.rows} rows" for table in mapped.tables[:SHOWN]),
        )
        result = await self._noted(call, project, environment, database, effects, {"back": False})
        if result is not None:
            return result.change(tables=len(mapped.tables), rows=_rows(mapped))
        work = self._parts.works.begin(_work_key(database), partial(self._promoting, database=database))
        return await _ended(call, work, wait_seconds, f"'{database.key}' is on PostgreSQL.", effects, mapped)

    async def lead(self) -> None:
        """For the leader of the home; never ends."""
        while True:
            try:
                await self.tend()
            except QuaymasterError as error:
                log.info("promotions are looked at later: %s", error.message)
            await anyio.sleep(BETWEEN_LOOKS)

    async def tend(self) -> None:
        """Once: what dead processes had begun is undone; the files were never touched. One failure does not stop
        the rest."""
        home = self._parts.site.home
        for database in await self._parts.store.read(lambda tx: tx.databases.of_home(home)):
            if database.stage != "ready" or self._parts.workers.alive(database.worker):
                continue
            try:
                if database.engine == "sqlite" and database.place is not None:
                    await self._undo(database)
                elif database.place is not None and database.worker is not None:
                    await self._open_again(database)
            except QuaymasterError as error:
                log.info("the promotion of %s is put right later: %s", database.key, error.message)

    async def _open_again(self, database: Database) -> None:
        """A way back that died may have left the role reading only. Ours first: nobody compares meanwhile."""
        me, home = self._parts.workers.me, self._parts.site.home
        backups = await self._parts.store.read(lambda tx: tx.backups.of_home(home))
        if any(one.worker == database.worker for one in backups):
            return  # It died amid a restore, whose settling needs its mark and does this as well.
        if not await self._handed(database, database.worker, me):
            return
        try:
            await self._released(database)
        except BaseException:
            with anyio.move_on_after(self._parts.options.work_seconds, shield=True):
                await self._handed(database, me, database.worker)
            raise

    async def _handed(self, database: Database, old: str | None, new: str | None) -> bool:
        """From one worker to another; whether it was still the first one's."""

        async def transaction(tx: Transaction) -> bool:
            held = await tx.databases.hold(database.key)
            if held is None or held.uid != database.uid or held.worker != old:
                return False
            await tx.databases.save(held.change(worker=new))
            return True

        return (await self._parts.store.run(transaction, TEND)).value

    # -- planning

    async def _look(self, call: Call, project: str, environment: EnvironmentName | None) -> Database:
        async def transaction(tx: Transaction) -> Database:
            return await self._holding.held(tx, call, project, environment)

        return (await self._parts.store.run(transaction, Intent(call.action, call.caller.id))).value

    async def _answered_before(self, call: Call, database: Database) -> Promoted:
        """The database is where it shall be: right for a repeated call. Raises Conflict for any other."""
        engine = "SQLite" if database.engine == "sqlite" else "PostgreSQL"

        async def refuse(tx: Transaction) -> PlanResult:
            raise Conflict(f"this database is on {engine} already")

        answer = await self._parts.calls.write(call, refuse, PlanResult)
        message = f"'{database.key}' is on {engine}; an earlier call with this idempotency_key moved it."
        return Promoted(**answer.change(message=message).model_dump(), state="done")

    async def _mapped(self, database: Database, folder: str) -> tuple[Mapping, str]:
        """Of one moment of the file, copied into `folder`. Raises Invalid with what cannot come along."""
        copy = f"{folder}/copy.db"
        await self._copies.copy(await self._backups.sqlite_file(database), copy)
        mapped = mapping(await self._promoter.schema(copy))
        if mapped.refused:
            raise Invalid(
                f"{len(mapped.refused)} things of this database would not come to PostgreSQL whole",
                next="Change them in SQLite (or drop them, to make them anew afterwards), then call again.",
                refused=list(mapped.refused[:100]),
            )
        return mapped, copy

    async def _noted(
        self,
        call: Call,
        project: str,
        environment: EnvironmentName | None,
        database: Database,
        effects: tuple[str, ...],
        target: dict[str, object],
    ) -> Promoted | None:
        """The plan; or None, and from now on the database is ours to work on."""
        token = draw_token()
        repeated = True

        async def transaction(tx: Transaction) -> PlanResult:
            nonlocal repeated
            repeated = False
            held = await self._holding.held(tx, call, project, environment)
            if held.uid != database.uid:
                raise Conflict("the database was changed meanwhile")
            planned = await gate(
                tx, call, token, target={"database": held.uid, **target}, holds=(held,), effects=effects
            )
            if planned is not None:
                return planned
            await tx.databases.save(held.change(worker=self._parts.workers.me, updated_at=await tx.now()))
            return PlanResult(status="done", message="begun", effects=effects)

        result = await self._parts.calls.write(call, transaction, PlanResult)
        if result.status == "planned":
            return Promoted(**result.model_dump(), state="planned")
        if repeated and self._parts.works.get(_work_key(database)) is None:
            raise Conflict(
                "an earlier call with this idempotency_key began this, and the database stayed where it was",
                next="Plan it again with a new idempotency_key.",
            )
        return None

    # -- promoting

    async def _promoting(self, work: Work, *, database: Database) -> None:
        """Ends on PostgreSQL, or on SQLite with nothing of it left."""
        try:
            source = await self._backups.sqlite_file(database)
            async with self._promoter.held(source):
                await work.tell("backing the file up")
                await self._backups.make(database, "promotion")
                self._parts.step("promote.backed_up")
                async with self._scratch.folder() as folder:
                    mapped, copy = await self._mapped(database, folder)
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
                await self._undo(database)
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
            held = await self._same(tx, database)
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
            held = await self._same(tx, database)
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

    async def _undo(self, database: Database) -> None:
        """First from the engine, then from the record: until then its port is nobody else's."""
        place = (await self._standing(database)).place
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

    # -- the way back

    async def _plan_back(
        self,
        call: Call,
        project: str,
        environment: EnvironmentName | None,
        database: Database,
        wait_seconds: float,
    ) -> Promoted:
        backup, _ = await self._unwritten(database)
        effects = (
            f"'{database.key}' goes back to its SQLite file as of {backup.created_at:%Y-%m-%d %H:%M:%S} UTC",
            "its PostgreSQL server and volume are removed; nothing was written to it since",
        )
        result = await self._noted(
            call, project, environment, database, effects, {"back": True, "backup": backup.id}
        )
        if result is not None:
            return result
        work = self._parts.works.begin(_work_key(database), partial(self._going_back, database=database))
        return await _ended(
            call, work, wait_seconds, f"'{database.key}' is on SQLite again.", effects, Mapping()
        )

    async def _unwritten(self, database: Database) -> tuple[Backup, SqliteFile]:
        """The backup from the promotion. Raises Conflict when either side holds anything else by now."""
        home = self._parts.site.home
        backups = await self._parts.store.read(lambda tx: tx.backups.of_home(home))
        mine = [one for one in backups if one.database_uid == database.uid and one.reason == "promotion"]
        kept = [one for one in mine if one.stage == "kept"]
        if not kept:
            raise Conflict("there is no SQLite file from which this database was promoted")
        source = await self._old_file(database)
        async with self._scratch.folder() as folder:
            copy = f"{folder}/before.db"
            await self._scratch.write(copy, self._files.reading(kept[-1].file, kept[-1].context()))
            if differences(kept[-1].tables, await self._copies.tables(source.path)):
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

    async def _going_back(self, work: Work, *, database: Database) -> None:
        place = database.place
        access = database.access
        try:
            if place is None or access is None:
                raise Conflict("the database has no server")
            await work.tell("comparing")
            # From here on the role's new sessions only read, and the old ones have ended.
            await self._parts.servers.run_sql(place.ref, only_reading(access))
            self._parts.step("promote.only_reading")
            _, source = await self._unwritten(database)
            record = await self._switch_back(database, source.path)
            self._parts.step("promote.back")
        except BaseException:
            with anyio.move_on_after(self._parts.options.work_seconds, shield=True):
                await self._released(database)
            raise
        with anyio.move_on_after(self._parts.options.work_seconds, shield=True):
            await self._undo(record)
            await self._parts.injection.into_file(record)

    async def _switch_back(self, database: Database, path: str) -> Database:
        async def transaction(tx: Transaction) -> Database:
            held = await self._same(tx, database)
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

    async def _old_file(self, database: Database) -> SqliteFile:
        async def reading(tx: Reading) -> SqliteFile:
            project = await tx.projects.get(database.project)
            if project is None or project.uid != database.project_uid:
                raise Conflict("the project is gone")
            files = self._parts.options.files
            path = sqlite_place(files, project, database.environment)
            return SqliteFile(root=project.path or files, path=path)

        return await self._parts.store.read(reading)

    # -- the record

    async def _same(self, tx: Transaction, database: Database) -> Database:
        held = await tx.databases.hold(database.key)
        if held is None or held.uid != database.uid or held.worker != self._parts.workers.me:
            raise Conflict("the promotion was given up meanwhile")
        return held

    async def _standing(self, database: Database) -> Database:
        found = await self._parts.store.read(lambda tx: tx.databases.get(database.key))
        return found if found is not None and found.uid == database.uid else database


def _work_key(database: Database) -> str:
    return f"promote {database.uid}"


def _require_same(expected: Sequence[TableSum], found: Sequence[TableSum]) -> None:
    wrong = differences(expected, found)
    if wrong:
        raise Corrupt(
            f"PostgreSQL holds something else than the file: {'; '.join(wrong[:5])}",
            next="Nothing was switched; report this with the table's definition.",
        )


def _rows(mapped: Mapping) -> int:
    return sum(table.rows for table in mapped.tables)


async def _ended(
    call: Call, work: Work, wait_seconds: float, done: str, effects: tuple[str, ...], mapped: Mapping
) -> Promoted:
    figures = {"tables": len(mapped.tables), "rows": _rows(mapped)}
    if not await work.follow(wait_seconds, call.tell):
        text = f"It goes on: {work.line}. get_database tells the engine when it is done."
        return Promoted(status="done", state="promoting", message=text, effects=effects, **figures)
    if (error := work.failed()) is not None:
        raise error
    return Promoted(status="done", state="done", message=done, effects=effects, **figures)
