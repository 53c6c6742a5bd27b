"""From SQLite to PostgreSQL: everything or nothing, compared before the switch, and back while nothing was written.

The file stays where it is. While a promotion is under way its record is on SQLite and has a place already; a dead
process's half-made server is taken away by `tend`, and a database that it had closed to writes is opened again.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Literal

import anyio

from mcp_server.domain.databases import Database
from mcp_server.domain.errors import Conflict, QuaymasterError
from mcp_server.domain.results import PlanResult
from mcp_server.domain.teams import EnvironmentName
from mcp_server.domain.typemap import Mapping
from mcp_server.domain.wording import counted
from mcp_server.ports.backups import BackupFiles, Scratch, SqliteCopies
from mcp_server.ports.promotions import Promoter
from mcp_server.ports.store import Intent, Transaction
from mcp_server.services.backups.service import Backups
from mcp_server.services.calls import Call
from mcp_server.services.databases.holding import Holding
from mcp_server.services.databases.parts import Parts
from mcp_server.services.plans import draw_token, gate
from mcp_server.services.promotions.marks import Marks
from mcp_server.services.promotions.to_postgres import ToPostgres
from mcp_server.services.promotions.way_back import SHOWN, WayBack
from mcp_server.services.works import Work

log = logging.getLogger(__name__)
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
        self._scratch = scratch
        marks = Marks(parts)
        self._forth = ToPostgres(parts, marks, backups, promoter, copies, scratch)
        self._back = WayBack(parts, marks, self._forth, promoter, files, copies, scratch)

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
            mapped, _ = await self._forth.mapped(database, folder)
        extent = f"{counted(len(mapped.tables), 'table')}, {counted(_rows(mapped), 'row')}"
        effects = (
            f"'{database.key}' moves to PostgreSQL: {extent}",
            "the SQLite file takes no writes meanwhile; afterwards it stays, unused: DATABASE_URL changes",
            *(f"table {table.name}: {counted(table.rows, 'row')}" for table in mapped.tables[:SHOWN]),
        )
        with anyio.CancelScope(shield=True):
            # A caller that goes away between the two would leave it to nobody's work, and this process lives.
            result = await self._noted(call, project, environment, database, effects, {"back": False})
            if result is not None:
                return result.change(tables=len(mapped.tables), rows=_rows(mapped))
            work = self._parts.works.begin(_work_key(database), partial(self._forth.run, database=database))
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
                    await self._forth.undo_broken_off(database)
                elif database.place is not None and database.worker is not None and not database.next_access:
                    # With passwords noted it died at a rotation, which is ended elsewhere: nobody is refused for that.
                    await self._back.open_again(database)
            except QuaymasterError as error:
                log.info("the promotion of %s is put right later: %s", database.key, error.message)

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

    # -- the way back

    async def _plan_back(
        self,
        call: Call,
        project: str,
        environment: EnvironmentName | None,
        database: Database,
        wait_seconds: float,
    ) -> Promoted:
        backup, _ = await self._back.unwritten(database)
        effects = (
            f"'{database.key}' goes back to its SQLite file as of {backup.created_at:%Y-%m-%d %H:%M:%S} UTC",
            "its PostgreSQL server and volume are removed; nothing was written to it since",
        )
        with anyio.CancelScope(shield=True):
            # A caller that goes away between the two would leave it to nobody's work, and this process lives.
            result = await self._noted(
                call, project, environment, database, effects, {"back": True, "backup": backup.id}
            )
            if result is not None:
                return result
            work = self._parts.works.begin(_work_key(database), partial(self._back.run, database=database))
        return await _ended(
            call, work, wait_seconds, f"'{database.key}' is on SQLite again.", effects, Mapping()
        )


def _work_key(database: Database) -> str:
    return f"promote {database.uid}"


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
