"""Deleting a database: planned, backed up, taken away, forgotten; each step may be done again after a crash."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import anyio

from mcp_server.domain.databases import Database
from mcp_server.domain.errors import Conflict, QuaymasterError, Unavailable
from mcp_server.domain.results import PlanResult
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.store import Transaction
from mcp_server.services.calls import Call
from mcp_server.services.databases.files import leads_elsewhere, remove_sqlite
from mcp_server.services.databases.holding import Holding
from mcp_server.services.databases.leftovers import TEND
from mcp_server.services.databases.parts import Parts
from mcp_server.services.plans import draw_token, gate
from mcp_server.services.works import Tell, Work, nobody

FinalBackup = Callable[[Database], Awaitable[str]]
"""Makes and proves a backup, and returns its id. Raises: then nothing is deleted."""

DropBranches = Callable[[Database], Awaitable[None]]
"""Takes the branches of a database away; may be done again."""


class Deletion:
    def __init__(
        self,
        parts: Parts,
        holding: Holding,
        final_backup: FinalBackup | None,
        drop_branches: DropBranches | None = None,
    ) -> None:
        self._store = parts.store
        self._calls = parts.calls
        self._works = parts.works
        self._servers = parts.servers
        self._files = parts.files
        self._looks = parts.looks
        self._allocation = parts.allocation
        self._leftovers = parts.leftovers
        self._injection = parts.injection
        self._networks = parts.networks
        self._workers = parts.workers
        self._options = parts.options
        self._step = parts.step
        self._holding = holding
        self._final_backup = final_backup
        self._drop_branches = drop_branches

    async def delete(
        self,
        call: Call,
        project: str,
        environment: EnvironmentName | None,
        *,
        final_backup: bool,
        wait_seconds: float,
    ) -> PlanResult:
        """First the plan; with its token exactly that. The plan is bound to what the engine showed."""
        token = draw_token()

        before = await self._holding.look(call, project, environment)
        seen = (await self._looks.see([before]))[before.key]
        backup = final_backup and self._final_backup is not None
        with_file = await self._injection.root_of(before) is not None
        left = before.path is not None and await leads_elsewhere(self._options.files, before.path)

        async def transaction(tx: Transaction) -> PlanResult:
            database = await self._holding.held(tx, call, project, environment, deleting=True)
            target = {
                "database": database.key,
                "uid": database.uid,
                "final_backup": backup,
                "observed": _digest(database, seen.state),
            }
            branches = [
                one.name
                for one in await tx.branches.of_project(database.project)
                if one.database_uid == database.uid
            ]
            effects = self._effects(database, backup, branches, with_file=with_file, left=left)
            planned = await gate(tx, call, token, target=target, holds=(database,), effects=effects)
            if planned is not None:
                return planned
            await tx.databases.save(
                database.change(
                    stage="deleting",
                    worker=self._workers.me,
                    final_backup=backup,
                    updated_at=await tx.now(),
                )
            )
            text = f"The database '{database.key}' is deleted."
            return PlanResult(status="done", message=text, effects=effects)

        with anyio.CancelScope(shield=True):
            # A caller that goes away between the two would leave it to nobody's work, and this process lives.
            result = await self._calls.write(call, transaction, PlanResult)
            if result.status == "planned":
                return result
            work = self._works.begin(before.uid, partial(self._deleting, key=before.key, uid=before.uid))
        if not await work.follow(wait_seconds, call.tell):
            return result.change(message=f"The database '{before.key}' is being deleted: {work.line}.")
        if (error := work.failed()) is not None:
            raise error
        return result

    async def _deleting(self, work: Work, *, key: str, uid: str) -> None:
        database = await self._store.read(lambda tx: tx.databases.get(key))
        if database is not None and database.uid == uid and database.stage == "deleting":
            async with self._holding.let_go_on_failure(database):
                await self.finish(database, work.tell)

    async def finish(self, database: Database, tell: Tell = nobody) -> None:
        """From the note on; may be done again. Without its final backup nothing is deleted: it is ready again."""
        self._step("databases.delete.noted")
        if database.final_backup and self._final_backup is not None:
            await tell("making the final backup")
            await self._back_up(database, self._final_backup)
            self._step("databases.delete.backed_up")
        root = await self._injection.root_of(database)
        with anyio.move_on_after(self._options.work_seconds, shield=True) as time:
            await tell("taking it away")
            if self._drop_branches is not None:
                await self._drop_branches(database)
            await self._take_away(database)
            self._step("databases.delete.removed")
            await self._injection.out_of_file(database, root)
            await self._store.run(partial(self._forget, database=database), TEND)
            self._step("databases.delete.forgotten")
        if time.cancelled_caught:
            raise Unavailable(
                "the database could not be taken away in time", next="It is tried again by itself."
            )

    async def _back_up(self, database: Database, final_backup: FinalBackup) -> None:
        try:
            await final_backup(database)
        except QuaymasterError as error:
            await self._store.run(partial(self._kept, database=database), TEND)
            raise Conflict(
                f"the final backup failed, so nothing is deleted: {error.message}",
                next="Mend the cause, or delete with final_backup=false.",
            ) from error
        # Made once: after a crash the deletion goes on behind it.
        await self._store.run(partial(self._backed_up, database=database), TEND)

    async def _backed_up(self, tx: Transaction, *, database: Database) -> None:
        await tx.databases.save((await self._holding.same(tx, database)).change(final_backup=False))

    async def _kept(self, tx: Transaction, *, database: Database) -> None:
        held = await self._holding.same(tx, database)
        await tx.databases.save(held.change(stage="ready", worker=None, final_backup=True))

    async def _take_away(self, database: Database) -> None:
        if database.path is not None:
            if not database.adopted:
                await remove_sqlite(self._files, self._options.files, database.path)
        elif database.isolation == "shared":
            await self._leftovers.drop_shared(database)
        elif database.place is not None:
            await self._servers.dismantle(
                database.place,
                keep_volume=False,
                also_named=database.claimed,
                networks=self._networks.refs(database.project, database.project_uid),
            )

    async def _forget(self, tx: Transaction, *, database: Database) -> None:
        project = await tx.projects.hold(database.project)  # before its database, as creations hold them
        held = await tx.databases.hold(database.key)
        if held is None or held.uid != database.uid:
            return
        await tx.databases.remove(held)
        if held.place is not None:
            await self._allocation.release(tx, held.place.port, held.uid)
        if project is not None and project.uid == held.project_uid and project.database_name is not None:
            rest = await tx.databases.of_project(held.project)
            if not rest:
                await tx.projects.save(
                    project.change(database_name=None, database_port=None, updated_at=await tx.now())
                )

    def _effects(
        self, database: Database, backup: bool, branches: Sequence[str], *, with_file: bool, left: bool
    ) -> tuple[str, ...]:
        what = f"the {database.engine} database of '{database.project}' for {database.scope} environments"
        if database.path is not None:
            why = "its directory leads elsewhere by now" if left else "it was there before"
            lost = f"its file {database.path} is " + (
                f"left, {why}" if left or database.adopted else "deleted"
            )
        elif database.isolation == "shared":
            lost = "all of its data and its roles are deleted from the shared server"
        else:
            lost = (
                f"its container and its volume {database.place.volume if database.place else ''} are deleted"
            )
        kept = "a final backup is made and proved first" if backup else "no final backup is made"
        copies = (f"its branches go with it: {', '.join(branches)}",) if branches else ()
        address = ("DATABASE_URL leaves the project's dotenv file",) if with_file else ()
        return (f"{what} is deleted", lost, *copies, kept, *address)


def _digest(database: Database, state: str) -> str:
    """Of what was seen: a plan for a running database does not delete one that is gone, and the other way."""
    container = database.place.container if database.place else database.path
    return hashlib.sha256(f"{container} {state}".encode()).hexdigest()[:16]
