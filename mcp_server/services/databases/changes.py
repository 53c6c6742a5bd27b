"""Changing a database that is there: start, stop, rotate its passwords, delete it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import anyio

from mcp_server.domain.database_setup import opened, passwords
from mcp_server.domain.databases import Access, Database, Place, chosen
from mcp_server.domain.errors import Conflict, Invalid, QuaymasterError, WrongHost
from mcp_server.domain.results import PlanResult, Result
from mcp_server.domain.slots import SlotPair
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.store import Reading, Transaction
from mcp_server.services.access import project_of
from mcp_server.services.calls import Call
from mcp_server.services.databases.creation import Creation
from mcp_server.services.databases.leftovers import TEND
from mcp_server.services.databases.parts import Parts
from mcp_server.services.databases.shared import SharedServer
from mcp_server.services.plans import draw_token, gate
from mcp_server.services.works import Tell, Work, nobody

FinalBackup = Callable[[Database], Awaitable[str]]
"""Makes and proves a backup, and returns its id. Raises: then nothing is deleted."""

DropBranches = Callable[[Database], Awaitable[None]]
"""Takes the branches of a database away; may be done again."""


class Noted(Result):
    key: str
    uid: str


class Changes:
    def __init__(
        self,
        parts: Parts,
        creation: Creation,
        shared: SharedServer,
        final_backup: FinalBackup | None,
        drop_branches: DropBranches | None = None,
    ) -> None:
        self._store = parts.store
        self._calls = parts.calls
        self._works = parts.works
        self._engine = parts.engine
        self._servers = parts.servers
        self._files = parts.files
        self._looks = parts.looks
        self._passwords = parts.passwords
        self._allocation = parts.allocation
        self._leftovers = parts.leftovers
        self._injection = parts.injection
        self._networks = parts.networks
        self._workers = parts.workers
        self._site = parts.site
        self._options = parts.options
        self._step = parts.step
        self._creation = creation
        self._shared = shared
        self._final_backup = final_backup
        self._drop_branches = drop_branches

    # -- start and stop

    async def start(self, call: Call, project: str, environment: EnvironmentName | None) -> Database:
        """Running and answering. A container that is gone is made anew on its volume, with new passwords."""
        database = await self._wish(call, project, environment, "running")
        if database.place is not None:
            await self._start(database)
        return await self._now(database)

    async def stop(self, call: Call, project: str, environment: EnvironmentName | None) -> Database:
        """Stopped; its port and its data stay. Raises Invalid for SQLite, which has no server."""
        database = await self._wish(call, project, environment, "stopped")
        place = database.place
        if place is not None and database.access is not None:
            if database.isolation == "shared":
                await self._servers.run_sql(place.ref, opened(database.access, False))
            else:
                await self._servers.stop(place)
        return await self._now(database)

    async def _wish(
        self, call: Call, project: str, environment: EnvironmentName | None, wanted: Any
    ) -> Database:
        """Write down what is wanted, before it is done."""

        async def transaction(tx: Transaction) -> Noted:
            database = await self.held(tx, call, project, environment)
            if wanted == "stopped" and database.place is None:
                raise Invalid("a SQLite database has no server that could be stopped")
            if database.wanted != wanted:
                await tx.databases.save(database.change(wanted=wanted, updated_at=await tx.now()))
            return Noted(key=database.key, uid=database.uid)

        noted = await self._calls.write(call, transaction, Noted)
        return await self._standing(noted)

    async def _start(self, database: Database) -> None:
        place, access = _parts(database)
        if database.isolation == "shared":
            await self._shared.ready(place.image)
            await self._servers.run_sql(place.ref, opened(access, True))
        elif await self._servers.observe(place) is None:
            database = await self._made_anew(database)
        else:
            await self._start_where_it_can(place)
        await self._servers.until_ready(_parts(database)[0], self._passwords.login_of(database))

    async def _start_where_it_can(self, place: Place) -> None:
        try:
            await self._servers.start(place)
        except Conflict as error:
            if "port" in error.details:
                raise Conflict(
                    f"port {place.port} of this host was taken by another program while the database was stopped",
                    next="End that program, then call again.",
                ) from error
            raise

    async def _made_anew(self, database: Database) -> Database:
        """The volume outlived its container: a new one takes it over, and the old passwords end."""
        place, _ = _parts(database)
        known = {volume.name for volume in await self._engine.volumes(place.owner.labels())}
        if place.volume not in known:
            raise Conflict(
                "container and volume of this database are gone, and with them its data",
                next="Restore a backup, or delete the database and create it again.",
            )
        changed = await self._begin_rotation(database)
        async with self._let_go_on_failure(changed):
            return await self._on_its_volume(changed)

    async def _on_its_volume(self, changed: Database) -> Database:
        place, access = _parts(changed)
        access = changed.next_access or access
        await self._servers.prepare(place, None)
        superuser, verifiers = (
            self._passwords.superuser_verifier(),
            self._passwords.verifiers(access, changed.uid),
        )
        await self._servers.create(self._servers.workload(place, "database", superuser, access, verifiers))
        self._step("databases.start.created")
        await self._start_where_it_can(place)
        await self._creation.making.take_over(changed.change(access=access))
        return await self._end_rotation(changed)

    # -- passwords

    async def rotate(
        self, call: Call, project: str, environment: EnvironmentName | None
    ) -> tuple[Database, tuple[str, ...]]:
        """New passwords, in force when it returns. Which slots still run with the old ones: their sessions go on,
        new logins of theirs fail.

        Raises Invalid for SQLite, Conflict while it does not run.
        """
        fresh: dict[str, Access] = {}

        async def look(tx: Reading) -> Database:
            owner = await project_of(tx, call.caller, project)
            return chosen(await tx.databases.of_project(owner.name), environment, owner.name)

        before = await self._calls.read(look)
        if before.access is None:
            raise Invalid("a SQLite database has no password")
        if (await self._looks.see([before]))[before.key].state != "running":
            raise Conflict("the database does not run", next="start_database first.")
        fresh["access"] = self._redrawn(before)

        async def transaction(tx: Transaction) -> Noted:
            database = await self.held(tx, call, project, environment)
            if database.uid != before.uid:
                raise Conflict("the database was made anew meanwhile")
            await tx.databases.save(
                database.change(
                    next_access=database.next_access or fresh["access"],
                    worker=self._workers.me,
                    updated_at=await tx.now(),
                )
            )
            return Noted(key=database.key, uid=database.uid)

        noted = await self._calls.write(call, transaction, Noted)
        self._step("databases.rotate.noted")
        database = await self._standing(noted)
        if database.next_access is not None:
            async with self._let_go_on_failure(database):
                database = await self.finish_rotation(database)
        await self._injection.into_file(database)
        return database, await self._slots_with_old(database)

    async def finish_rotation(self, database: Database) -> Database:
        """From the note on; may be done again."""
        place, _ = _parts(database)
        access = database.next_access
        if access is None:
            return database
        script = passwords(access, self._passwords.verifiers(access, database.uid))
        await self._servers.run_sql_when_up(place.ref, script)
        self._step("databases.rotate.altered")
        login = self._passwords.login(place, access, database.uid)
        await self._servers.until_ready(place, login)
        done = await self._end_rotation(database)
        self._step("databases.rotate.settled")
        return done

    def _redrawn(self, database: Database) -> Access:
        _, access = _parts(database)
        return self._passwords.drawn(
            database.uid, database=access.database, role=access.role, reader=access.reader
        )

    async def _begin_rotation(self, database: Database) -> Database:
        fresh = self._redrawn(database)

        async def transaction(tx: Transaction) -> Database:
            held = await self._same(tx, database)
            return await tx.databases.save(
                held.change(next_access=held.next_access or fresh, worker=self._workers.me)
            )

        return (await self._store.run(transaction, TEND)).value

    async def _end_rotation(self, database: Database) -> Database:
        async def transaction(tx: Transaction) -> Database:
            held = await self._same(tx, database)
            now = await tx.now()
            return await tx.databases.save(
                held.change(
                    access=held.next_access or held.access,
                    next_access=None,
                    worker=None,
                    rotated_at=now,
                    updated_at=now,
                )
            )

        return (await self._store.run(transaction, TEND)).value

    async def _slots_with_old(self, database: Database) -> tuple[str, ...]:
        pairs = await self._store.read(lambda tx: tx.slots.of_project(database.project))
        return tuple(
            name
            for pair in pairs
            if database.environment in (None, pair.environment)
            for name in _running(pair)
        )

    # -- deletion

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

        async def look(tx: Reading) -> Database:
            owner = await project_of(tx, call.caller, project)
            return chosen(await tx.databases.of_project(owner.name), environment, owner.name)

        before = await self._calls.read(look)
        seen = (await self._looks.see([before]))[before.key]
        backup = final_backup and self._final_backup is not None

        async def transaction(tx: Transaction) -> PlanResult:
            database = await self.held(tx, call, project, environment, deleting=True)
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
            effects = self._effects(database, backup, branches)
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
            async with self._let_go_on_failure(database):
                await self.finish_deletion(database, work.tell)

    @asynccontextmanager
    async def _let_go_on_failure(self, database: Database) -> AsyncIterator[None]:
        """What is not ended here is not ours any more: the leader ends it at its next look."""
        try:
            yield
        except BaseException:
            with anyio.move_on_after(self._options.work_seconds, shield=True), suppress(QuaymasterError):
                await self._store.run(partial(self._let_go, database=database), TEND)
            raise

    async def _let_go(self, tx: Transaction, *, database: Database) -> None:
        held = await tx.databases.hold(database.key)
        if held is not None and held.uid == database.uid and held.worker == self._workers.me:
            await tx.databases.save(held.change(worker=None))

    async def finish_deletion(self, database: Database, tell: Tell = nobody) -> None:
        """From the note on; may be done again. Without its final backup nothing is deleted: it is ready again."""
        self._step("databases.delete.noted")
        if database.final_backup and self._final_backup is not None:
            await tell("making the final backup")
            await self._back_up(database, self._final_backup)
            self._step("databases.delete.backed_up")
        root = await self._injection.root_of(database)
        with anyio.move_on_after(self._options.work_seconds, shield=True):
            await tell("taking it away")
            if self._drop_branches is not None:
                await self._drop_branches(database)
            await self._take_away(database)
            self._step("databases.delete.removed")
            await self._injection.out_of_file(database, root)
            await self._store.run(partial(self._forget, database=database), TEND)
            self._step("databases.delete.forgotten")

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
        await tx.databases.save((await self._same(tx, database)).change(final_backup=False))

    async def _kept(self, tx: Transaction, *, database: Database) -> None:
        held = await self._same(tx, database)
        await tx.databases.save(held.change(stage="ready", worker=None, final_backup=True))

    async def _take_away(self, database: Database) -> None:
        if database.path is not None:
            root = await self._injection.root_of(database) or self._options.files
            if not database.adopted:
                await self._files.remove(root, database.path)
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
        held = await tx.databases.hold(database.key)
        if held is None or held.uid != database.uid:
            return
        await tx.databases.remove(held)
        if held.place is not None:
            await self._allocation.release(tx, held.place.port, held.uid)
        project = await tx.projects.hold(held.project)
        if project is not None and project.uid == held.project_uid and project.database_name is not None:
            rest = await tx.databases.of_project(held.project)
            if not rest:
                await tx.projects.save(
                    project.change(database_name=None, database_port=None, updated_at=await tx.now())
                )

    def _effects(self, database: Database, backup: bool, branches: Sequence[str]) -> tuple[str, ...]:
        what = f"the {database.engine} database of '{database.project}' for {database.scope} environments"
        if database.path is not None:
            lost = f"its file {database.path} is " + (
                "left, it was there before" if database.adopted else "deleted"
            )
        elif database.isolation == "shared":
            lost = "all of its data and its roles are deleted from the shared server"
        else:
            lost = (
                f"its container and its volume {database.place.volume if database.place else ''} are deleted"
            )
        kept = "a final backup is made and proved first" if backup else "no final backup is made"
        copies = (f"its branches go with it: {', '.join(branches)}",) if branches else ()
        return (f"{what} is deleted", lost, *copies, kept, "DATABASE_URL leaves the project's dotenv file")

    # -- which

    async def held(
        self,
        tx: Transaction,
        call: Call,
        project: str,
        environment: EnvironmentName | None,
        *,
        deleting: bool = False,
    ) -> Database:
        """The database that is meant, held, ready, and on this host. Raises NotFound, Conflict and WrongHost."""
        owner = await project_of(tx, call.caller, project)
        found = chosen(await tx.databases.of_project(owner.name), environment, owner.name)
        call.about("databases", found.key)
        database = await tx.databases.hold(found.key)
        if database is None or database.uid != found.uid:
            raise Conflict("the database was changed meanwhile")
        if database.home != self._site.home:
            raise WrongHost(
                f"this database is on {database.host_name}",
                next=f"Call a server on {database.host_name}.",
                host=database.host_name,
            )
        if database.stage == "creating":
            raise Conflict("the database is still being made", next="Wait for get_database to say running.")
        if database.stage == "deleting" and not (deleting and not self._workers.alive(database.worker)):
            raise Conflict("the database is being deleted")
        if database.worker is not None and self._workers.alive(database.worker):
            raise Conflict("somebody is at work on this database", next="Try again in a few seconds.")
        return database

    async def _same(self, tx: Transaction, database: Database) -> Database:
        held = await tx.databases.hold(database.key)
        if held is None or held.uid != database.uid:
            raise Conflict("the database was deleted meanwhile")
        return held

    async def _standing(self, noted: Noted) -> Database:
        found = await self._store.read(lambda tx: tx.databases.get(noted.key))
        if found is None or found.uid != noted.uid:
            raise Conflict("the database was deleted meanwhile")
        return found

    async def _now(self, database: Database) -> Database:
        return await self._standing(Noted(key=database.key, uid=database.uid))


def _parts(database: Database) -> tuple[Place, Access]:
    if database.place is None or database.access is None:
        raise Conflict("the database has no server")
    return database.place, database.access


def _digest(database: Database, state: str) -> str:
    """Of what was seen: a plan for a running database does not delete one that is gone, and the other way."""
    container = database.place.container if database.place else database.path
    return hashlib.sha256(f"{container} {state}".encode()).hexdigest()[:16]


def _running(pair: SlotPair) -> Sequence[str]:
    slots = (("blue", pair.blue), ("green", pair.green))
    return [f"{pair.environment} {name} ({slot.state})" for name, slot in slots if slot.state != "empty"]
