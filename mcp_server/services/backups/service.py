"""Backups: made and proved in the background, restored beside the live database and then swapped in."""

from __future__ import annotations

import logging
import secrets
from functools import partial

import anyio

from mcp_server.domain.backups import SUFFIX, Backup, Reason, Retention
from mcp_server.domain.databases import Database
from mcp_server.domain.errors import Conflict, NotFound, QuaymasterError, WrongHost
from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.queries import SqliteFile
from mcp_server.domain.records import Moment
from mcp_server.domain.results import PlanResult, Result
from mcp_server.domain.teams import EnvironmentName
from mcp_server.domain.wording import counted
from mcp_server.ports.backups import BackupFiles, PostgresSums, Scratch, SqliteCopies
from mcp_server.ports.store import Reading, Transaction
from mcp_server.services.backups.copying import Copying
from mcp_server.services.backups.keeping import Keeping
from mcp_server.services.backups.restoring import Restoring
from mcp_server.services.backups.settling import TEND, Settling
from mcp_server.services.backups.tending import Tending
from mcp_server.services.backups.views import BackupList, BackupView, item_of, view_of
from mcp_server.services.calls import Call
from mcp_server.services.databases.holding import Holding
from mcp_server.services.databases.parts import Parts
from mcp_server.services.pages import page_size
from mcp_server.services.plans import draw_token, gate
from mcp_server.services.works import Tell, Work, nobody

log = logging.getLogger(__name__)
SETTLE_SECONDS = 60.0
RESTORED_BEFORE = (
    "An earlier call with this idempotency_key made this restore, and it is over. To restore again, plan it again "
    "with a new idempotency_key."
)


class _Noted(Result):
    id: str


class Backups:
    def __init__(
        self,
        parts: Parts,
        holding: Holding,
        files: BackupFiles,
        sums: PostgresSums,
        copies: SqliteCopies,
        scratch: Scratch,
        *,
        retention: Retention | None = None,
        hours: float = 0,
    ) -> None:
        """`hours` between scheduled backups of every running database; 0: none."""
        self._parts = parts
        self._holding = holding
        self._files = files
        self._sums = sums
        self._copies = copies
        self._scratch = scratch
        self._copying = Copying(parts, files, sums, copies, scratch)
        self._restoring = Restoring(parts, self._copying, copies, self.make)
        self._keeping = Keeping(parts.store, files, TEND)
        self._settling = Settling(parts, self._copying, self._keeping)
        self.tending = Tending(
            parts,
            files,
            scratch,
            self._settling,
            self._keeping,
            self.make,
            retention=retention or Retention(),
            hours=hours,
        )

    # -- use cases

    async def create(
        self,
        call: Call,
        *,
        project: str,
        environment: EnvironmentName | None = None,
        wait_seconds: float = 45,
    ) -> BackupView:
        """Back a database up and prove it; what takes longer than `wait_seconds` goes on without the caller."""
        drawn = call.new_id("b")

        async def transaction(tx: Transaction) -> _Noted:
            database = await self._holding.held(tx, call, project, environment)
            backup = await tx.backups.add(self._begun(drawn, database, "asked", await tx.now()))
            return _Noted(id=backup.id)

        work = None
        with anyio.CancelScope(shield=True):
            # A caller that goes away between the two would leave it to nobody's work, and this process lives.
            noted = await self._parts.calls.write(call, transaction, _Noted)
            backup = await self._standing(noted.id)
            if backup.stage == "writing" and backup.worker == self._parts.workers.me:
                work = self._parts.works.begin(f"backup {backup.id}", partial(self._work, id=backup.id))
        if work is not None:
            await work.follow(wait_seconds, call.tell)
        return view_of(await self._standing(noted.id))

    async def list(
        self, call: Call, *, project: str | None = None, limit: int = DEFAULT_LIMIT, cursor: str | None = None
    ) -> BackupList:
        """The team's backups, newest first; those of deleted projects, too."""
        size = page_size(limit)

        async def reading(tx: Reading) -> BackupList:
            page = await tx.backups.of_team(call.caller.team_id, project=project, limit=size, after=cursor)
            return BackupList(items=tuple(item_of(one) for one in page.items), cursor=page.cursor)

        return await self._parts.calls.read(reading)

    async def restore(
        self,
        call: Call,
        *,
        backup_id: str,
        project: str | None = None,
        environment: EnvironmentName | None = None,
        wait_seconds: float = 45,
    ) -> PlanResult:
        """Put a backup in the place of a database: first the plan. It is restored beside the live one, compared,
        and swapped in; what was there before is backed up first.

        `project` and `environment`: another database of the same engine; None: the backup's own.
        """
        token = draw_token()
        chosen = await self._of_team(call, backup_id)
        name = project or chosen.project or ""
        scope = environment if project is not None or environment is not None else chosen.environment
        noted: list[Database] = []
        # Later it would undo what begins now, and make its plan stale.
        await self._settling.settle()

        async def transaction(tx: Transaction) -> PlanResult:
            noted.clear()
            backup = await tx.backups.hold(chosen.id)
            if backup is None or backup.stage != "kept":
                raise Conflict("this backup is not verified, and is not restored")
            if backup.worker is not None:
                raise Conflict(
                    "this backup is being restored, or what a broken-off restore of it left is being put right",
                    next="Try again in a few seconds.",
                )
            database = await self._holding.held(tx, call, name, scope)
            if database.engine != backup.engine:
                raise Conflict(f"the backup is of {backup.engine}, the database on {database.engine}")
            effects = (
                f"the contents of '{database.key}' become those of {backup.created_at:%Y-%m-%d %H:%M:%S} UTC",
                "its sessions are ended for a moment; what was written since is only in a new backup",
                f"what comes back: {counted(sum(table.rows for table in backup.tables), 'row')}",
            )
            target = {"backup": backup.id, "sha256": backup.sha256, "database": database.uid}
            planned = await gate(tx, call, token, target=target, holds=(database, backup), effects=effects)
            if planned is not None:
                return planned
            held = database.change(worker=self._parts.workers.me, updated_at=await tx.now())
            noted.append(await tx.databases.save(held))
            await tx.backups.save(backup.change(worker=self._parts.workers.me))
            text = f"'{database.key}' holds what the backup {backup.id} held."
            return PlanResult(status="done", message=text, effects=effects)

        key = f"restore {chosen.id} into {name}/{scope}"
        with anyio.CancelScope(shield=True):
            # A caller that goes away between the two would leave it to nobody's work, and this process lives.
            result = await self._parts.calls.write(call, transaction, PlanResult)
            if result.status == "planned":
                return result
            work = self._parts.works.get(key)
            if noted:
                body = partial(self._restoring.restore, backup=chosen, database=noted[0])
                work = self._parts.works.begin(key, body)
        if work is None:
            # Repeated: a second restore would overwrite what was written since the first.
            return result.change(message=RESTORED_BEFORE)
        if not await work.follow(wait_seconds, call.tell):
            return result.change(
                message=f"The restore goes on: {work.line}. get_database tells when it is done."
            )
        if (error := work.failed()) is not None:
            raise error
        return result

    # -- for other use cases

    async def make(self, database: Database, reason: Reason) -> str:
        """Back up and prove now, waiting for it; the id. Raises what went wrong."""
        drawn = f"b-{secrets.token_hex(10)}"

        async def transaction(tx: Transaction) -> None:
            await tx.backups.add(self._begun(drawn, database, reason, await tx.now()))

        await self._parts.store.run(transaction, TEND)
        await self._make(await self._standing(drawn), database, nobody)
        return drawn

    async def final(self, database: Database) -> str:
        """Before a deletion. A database whose server does not run is started for it."""
        if database.place is not None and database.isolation == "container":
            async with self._parts.starts.turn():
                await self._parts.servers.start(database.place)
                await self._parts.servers.until_ready(
                    database.place, self._parts.passwords.login_of(database)
                )
        return await self.make(database, "deletion")

    # -- making

    def _begun(self, id: str, database: Database, reason: Reason, now: Moment) -> Backup:
        site = self._parts.site
        if database.home != site.home:
            raise WrongHost(f"this database is on {database.host_name}", host=database.host_name)
        return Backup(
            id=id,
            team_id=database.team_id,
            project=database.project,
            project_uid=database.project_uid,
            environment=database.environment,
            database_uid=database.uid,
            home=site.home,
            host=site.host,
            host_name=site.host_name,
            engine=database.engine,
            reason=reason,
            worker=self._parts.workers.me,
            file=f"{id}{SUFFIX}",
            extensions=database.extensions,
            created_at=now,
        )

    async def _work(self, work: Work, *, id: str) -> None:
        backup = await self._standing(id)
        databases = await self._parts.store.read(lambda tx: tx.databases.of_project(backup.project or ""))
        database = next((one for one in databases if one.uid == backup.database_uid), None)
        if database is not None:
            await self._make(backup, database, work.tell)

    async def _make(self, backup: Backup, database: Database, tell: Tell) -> None:
        """Ends with the backup kept, or failed without a file."""
        try:
            self._parts.step("backups.noted")
            await tell("writing")
            backup = await self._copying.write(backup, database)
            self._parts.step("backups.written")
            await tell("proving it")
            await self._copying.prove(backup, database)
            self._parts.step("backups.proved")
            await self._keeping.settle(backup)
            self._parts.step("backups.settled")
            await tell("verified")
        except BaseException as error:
            with anyio.move_on_after(SETTLE_SECONDS, shield=True):
                why = (
                    error.message
                    if isinstance(error, QuaymasterError)
                    else "the server stopped, or failed at it"
                )
                end = partial(self._keeping.give_up, backup, why)
                await self._parts.works.insist(f"end {backup.id}", end)
            raise

    # -- looking

    async def sqlite_file(self, database: Database) -> SqliteFile:
        return await self._copying.sqlite_file(database)

    async def _standing(self, id: str) -> Backup:
        found = await self._parts.store.read(lambda tx: tx.backups.get(id))
        if found is None:
            raise NotFound("there is no such backup")
        return found

    async def _of_team(self, call: Call, id: str) -> Backup:
        found = await self._parts.calls.read(lambda tx: tx.backups.get(id))
        if found is None or found.team_id != call.caller.team_id or found.subject != "database":
            raise NotFound("there is no such backup in this team", next="list_backups shows them.")
        call.about("backups", found.id)
        if found.home != self._parts.site.home:
            raise WrongHost(f"this backup is on {found.host_name}", host=found.host_name)
        return found
