"""Making a database: reserved in one transaction, made without one, settled in another.

Whatever the engine is asked for is written down before. A creation that fails, is cancelled or dies leaves
nothing; with engine `auto` it ends on SQLite and says why.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio

from mcp_server.domain.audit import AuditRow
from mcp_server.domain.database_setup import set_up
from mcp_server.domain.databases import (
    Access,
    Database,
    DatabaseServer,
    Login,
    Place,
    RequestedEngine,
    database_key,
    differs,
    known_extensions,
)
from mcp_server.domain.errors import (
    Conflict,
    Invalid,
    NotFound,
    QuaymasterError,
    QuotaExceeded,
    Unavailable,
)
from mcp_server.domain.idempotency import remembered_id
from mcp_server.domain.projects import Project
from mcp_server.domain.records import Moment
from mcp_server.domain.redaction import redacted_text
from mcp_server.domain.results import Result
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.store import Reading, Transaction
from mcp_server.services.access import project_of, team_of
from mcp_server.services.calls import Call
from mcp_server.services.databases.leftovers import TEND
from mcp_server.services.databases.parts import Parts
from mcp_server.services.databases.pool import Pool
from mcp_server.services.databases.shared import SharedServer, names_on_shared
from mcp_server.services.works import Work

TRIES = 20
PORT_TRIES = 5
BETWEEN_LOOKS = 0.1


class Reserved(Result):
    """What a repeated call is answered from: which database the first one began."""

    key: str
    uid: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A record that is not kept yet. `standby` is what it claims, `before` the login that still works there."""

    record: Database
    standby: DatabaseServer | None = None
    before: Login | None = None


class _Again(Exception):
    """The world moved between the draft and its transaction."""


class _Stranded(Exception):
    """A creation stands there whose process is dead."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.key)
        self.database = database


class Creation:
    def __init__(self, parts: Parts, shared: SharedServer, pool: Pool) -> None:
        self._store = parts.store
        self._calls = parts.calls
        self._works = parts.works
        self._networks = parts.networks
        self._places = parts.places
        self._engine = parts.engine
        self._servers = parts.servers
        self._files = parts.files
        self._passwords = parts.passwords
        self._allocation = parts.allocation
        self._leftovers = parts.leftovers
        self._injection = parts.injection
        self._workers = parts.workers
        self._site = parts.site
        self._options = parts.options
        self._step = parts.step
        self._shared = shared
        self._pool = pool

    # -- the use case

    async def create(
        self,
        call: Call,
        *,
        project: str,
        engine: RequestedEngine,
        environment: EnvironmentName | None,
        extensions: tuple[str, ...],
        wait_seconds: float,
    ) -> Database:
        """The database, made or still being made after `wait_seconds`. One that satisfies the request is
        returned as it is.

        Raises NotFound, Invalid, Conflict, QuotaExceeded, and Unavailable when an explicit `postgres` cannot be.
        """
        extensions = known_extensions(extensions, engine)
        before: dict[str, Login] = {}
        reserved = await self._reserve(call, project, engine, environment, extensions, before)
        record = await self._standing(reserved)
        if record.stage == "creating" and record.worker == self._workers.me:
            body = partial(self._work, key=reserved.key, uid=reserved.uid, before=before.get(reserved.uid))
            work = self._works.begin(reserved.uid, body)
            if await work.follow(wait_seconds, call.tell) and (error := work.failed()) is not None:
                raise error
        elif record.stage == "creating":
            await self._wait_for_another(reserved, wait_seconds)
        return await self._standing(reserved)

    # -- reserving

    async def _reserve(
        self,
        call: Call,
        project: str,
        engine: RequestedEngine,
        environment: EnvironmentName | None,
        extensions: tuple[str, ...],
        before: dict[str, Login],
    ) -> Reserved:
        avoid: set[int] = set()
        for _ in range(TRIES):
            draft = await self._draft(call, project, engine, environment, extensions, avoid)
            transaction = partial(
                self._keep, call=call, project=project, environment=environment, engine=engine,
                extensions=extensions, draft=draft,
            )  # fmt: skip
            try:
                reserved = await self._calls.write(call, transaction, Reserved)
            except _Again:
                continue
            except _Stranded as stranded:
                await self.give_up(stranded.database, "its server process ended")
                continue
            except Conflict as error:
                if error.details.get("noun") not in ("ports", "databases", "database_servers"):
                    raise
                if draft is not None and draft.record.place is not None:
                    avoid.add(draft.record.place.port)
                continue
            if draft is not None and draft.before is not None:
                before[draft.record.uid] = draft.before
            return reserved
        raise Unavailable("too many others create databases at this moment")

    async def _keep(
        self,
        tx: Transaction,
        *,
        call: Call,
        project: str,
        environment: EnvironmentName | None,
        engine: RequestedEngine,
        extensions: tuple[str, ...],
        draft: Draft | None,
    ) -> Reserved:
        await team_of(tx, call.caller, hold=True)
        owner = await project_of(tx, call.caller, project, hold=True)
        existing = await tx.databases.hold(database_key(owner.name, environment))
        if existing is not None:
            return self._satisfied(existing, engine, extensions)
        if draft is None or draft.record.project_uid != owner.uid:
            raise _Again
        if await tx.databases.count_of_team(owner.team_id) >= self._options.quota:
            raise QuotaExceeded(f"the team has {self._options.quota} databases, the most it may have")
        now = await tx.now()
        record = draft.record.change(created_at=now, updated_at=now)
        if draft.standby is not None:
            await self._claim(tx, draft.standby, record)
        elif record.place is not None:
            await self._allocation.take(tx, record.place.port, record.uid, "database", now)
        await tx.databases.add(record)
        return Reserved(key=record.key, uid=record.uid)

    def _satisfied(
        self, existing: Database, engine: RequestedEngine, extensions: tuple[str, ...]
    ) -> Reserved:
        if existing.stage == "deleting":
            raise Conflict("the database of this name is being deleted", next="Try again when it is gone.")
        ours = existing.stage == "creating" and existing.home == self._site.home
        if ours and not self._workers.alive(existing.worker):
            raise _Stranded(existing)
        wrong = differs(existing, engine, extensions)
        if wrong is not None:
            raise Conflict(
                f"'{existing.key}' has a database already, and {wrong}",
                next="Use it (get_database), delete it first, or promote it to PostgreSQL.",
            )
        return Reserved(key=existing.key, uid=existing.uid)

    async def _claim(self, tx: Transaction, standby: DatabaseServer, record: Database) -> None:
        """From here on it is the project's: of two claims one finds it gone."""
        held = await tx.database_servers.hold(standby.id)
        if held is None or held.rev != standby.rev or held.stage != "ready":
            raise _Again
        await tx.database_servers.remove(held)
        await self._allocation.hand_over(tx, standby.place.port, record.uid, "database")

    # -- drafting

    async def _draft(
        self,
        call: Call,
        name: str,
        engine: RequestedEngine,
        environment: EnvironmentName | None,
        extensions: tuple[str, ...],
        avoid: set[int],
    ) -> Draft | None:
        """None when there is a database already."""

        async def reading(tx: Reading) -> tuple[Project, Database | None]:
            found = await project_of(tx, call.caller, name)
            return found, await tx.databases.get(database_key(found.name, environment))

        project, existing = await self._calls.read(reading)
        call.about("databases", database_key(project.name, environment))
        if existing is not None:
            return None
        plain = self._plain(call, project, engine, environment, extensions)
        if engine == "sqlite":
            return await self._on_sqlite(plain, project)
        try:
            return await self._on_postgres(plain, project, avoid)
        except QuaymasterError as error:
            if engine == "postgres" or extensions:
                raise
            return await self._on_sqlite(plain.change(fallback=_said(error)), project)

    def _plain(
        self,
        call: Call,
        project: Project,
        engine: RequestedEngine,
        environment: EnvironmentName | None,
        extensions: tuple[str, ...],
    ) -> Database:
        key, caller = call.idempotency_key, call.caller
        return Database(
            project=project.name,
            environment=environment,
            uid=call.new_id("db"),
            project_uid=project.uid,
            team_id=project.team_id,
            home=self._site.home,
            host=self._site.host,
            host_name=self._site.host_name,
            engine="sqlite",
            requested=engine,
            isolation="file",
            worker=self._workers.me,
            extensions=extensions,
            remembered=None if key is None else remembered_id(caller.team_id, caller.id, call.action, key),
            created_at=project.created_at,
            updated_at=project.updated_at,
        )

    async def _on_sqlite(self, plain: Database, project: Project) -> Draft:
        root = project.path or self._options.files
        path = sqlite_place(self._options.files, project, plain.environment)
        adopted = await self._files.exists(root, path)
        return Draft(plain.change(path=path, adopted=adopted))

    async def _on_postgres(self, plain: Database, project: Project, avoid: set[int]) -> Draft:
        status = await self._engine.detect()
        if not status.available:
            raise Unavailable(
                status.reason or "there is no Docker engine",
                next="Start Docker, or use engine='sqlite'; 'quaymaster doctor' says what is missing.",
            )
        if self._options.isolation == "shared":
            access = self._passwords.drawn(plain.uid, **names_on_shared(plain.uid))
            return Draft(plain.change(engine="postgres", isolation="shared", access=access))
        place, adopted = await self._places.find(plain, port=1)
        record = plain.change(engine="postgres", isolation="container", adopted=adopted)
        standby = None if record.adopted else await self._pool.choose(place.image, plain.extensions)
        if standby is not None and standby.access is not None:
            return self._claiming(record, standby, standby.access, place.container)
        port = await self._allocation.candidate(avoid, seed=plain.uid)
        access = self._passwords.drawn(plain.uid)
        return Draft(record.change(place=place.change(port=port), access=access))

    def _claiming(self, record: Database, standby: DatabaseServer, access: Access, container: str) -> Draft:
        return Draft(
            record.change(
                place=standby.place.change(container=container),
                access=self._passwords.handed_over(access, standby.id, record.uid),
                claimed=standby.place.container,
            ),
            standby,
            self._passwords.login_of_server(standby),
        )

    # -- the work

    async def _work(self, work: Work, *, key: str, uid: str, before: Login | None) -> None:
        """Ends with the database ready, or with nothing of it left."""
        record = await self._ours(key, uid)
        if record is None:
            return
        self._step("databases.create.reserved")
        try:
            await self._make(record, work, before)
            self._step("databases.create.made")
            settled = (await self._store.run(partial(self._settle, key=key, uid=uid), TEND)).value
            self._step("databases.create.settled")
        except QuaymasterError as error:
            await self.give_up(record, error.message)
            raise
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.give_up(record, "the server stopped, or failed at it")
            raise
        await self._injection.into_file(settled)
        await work.tell("ready")
        if settled.engine == "postgres":
            self._pool.want()

    async def _make(self, record: Database, work: Work, before: Login | None) -> None:
        if record.engine == "sqlite":
            await work.tell("making the file")
            await self._make_file(record)
            return
        try:
            await self._make_postgres(record, work, before)
        except QuaymasterError as error:
            if record.requested != "auto" or record.extensions:
                raise
            await work.tell("falling back to SQLite")
            await self._make_file(await self._fall_back(record, error))

    async def _make_postgres(self, record: Database, work: Work, before: Login | None) -> None:
        if record.isolation == "shared":
            await self._make_on_shared(record, work)
            return
        if record.claimed is not None:
            try:
                await work.tell("taking a standby")
                await self._make_of_standby(record, before)
                return
            except Invalid:
                raise
            except QuaymasterError:
                record = await self._leave_standby(record)
        await self._make_container(record, work)

    async def _make_container(self, record: Database, work: Work) -> None:
        """Cold: from an image, or on the volume that outlived an earlier container."""
        place, access = _parts(record)
        made = await self._servers.prepare(place, work.tell)
        self._step("databases.create.prepared")
        if not made and not record.adopted:
            record = await self._changed(record, adopted=True)
        await work.tell("starting PostgreSQL")
        record = await self._start(record, access)
        place, access = _parts(record)
        self._step("databases.create.started")
        if record.adopted:
            await self.take_over(record)
        await work.tell("waiting until it answers")
        await self._servers.until_ready(place, self._passwords.login_of(record))
        self._step("databases.create.ready")
        await self._servers.add_extensions(place, access.database, record.extensions)

    async def _start(self, record: Database, access: Access) -> Database:
        """Created and started; on another port when somebody took ours since it was probed."""
        superuser = self._passwords.superuser_verifier()
        verifiers = self._passwords.verifiers(access, record.uid)
        lost: set[int] = set()
        while True:
            place, _ = _parts(record)
            await self._servers.create(
                self._servers.workload(place, "database", superuser, access, verifiers)
            )
            self._step("databases.create.created")
            try:
                await self._servers.start(place)
                return record
            except Conflict as error:
                if "port" not in error.details or len(lost) >= PORT_TRIES:
                    raise
            lost.add(place.port)
            await self._engine.remove(place.ref)
            record = await self.moved(record, await self._allocation.candidate(lost, seed=record.uid))

    async def take_over(self, record: Database) -> None:
        """New passwords on data that were there before. Nobody is locked out: the superuser needs none inside."""
        place, access = _parts(record)
        script = set_up(access, self._passwords.verifiers(access, record.uid))
        await self._servers.run_sql_when_up(place.ref, script)

    async def _make_of_standby(self, record: Database, before: Login | None) -> None:
        """A rename and one password; beside them the project's network is joined."""
        place, access = _parts(record)
        standing = place.change(container=record.claimed)
        found = await self._servers.observe(standing)
        if found is None or not found.running or before is None:
            raise Unavailable("the standby does not run")
        await self._servers.rename(standing, place.container)
        self._step("databases.claim.renamed")
        login = self._passwords.login_of(record)
        verifier = self._passwords.verifiers(access, record.uid).role
        failures: list[QuaymasterError] = []

        async def join() -> None:
            try:
                network = await self._networks.ensure(record.project, record.project_uid)
                await self._servers.join(place, network)
            except QuaymasterError as error:
                failures.append(error)

        async with anyio.create_task_group() as beside:
            beside.start_soon(join)
            try:
                await self._servers.change_password(before, verifier)
            except QuaymasterError as error:
                failures.append(error)
        if failures:
            raise failures[0]
        self._step("databases.claim.password")
        await self._servers.until_ready(place, login)
        await self._servers.add_extensions(place, access.database, record.extensions)

    async def _make_on_shared(self, record: Database, work: Work) -> None:
        access = record.access
        if access is None:
            raise Conflict("the database has no roles")
        server = await self._shared.ready(self._options.image_for(record.extensions), work.tell)
        record = await self._changed(record, place=server.place)
        self._step("databases.create.prepared")
        await work.tell("making a database on the shared server")
        await self._shared.add(record, server.place, access)
        self._step("databases.create.created")
        await self._servers.until_ready(server.place, self._passwords.login_of(record))
        self._step("databases.create.ready")
        await self._servers.add_extensions(server.place, access.database, record.extensions)

    async def _make_file(self, record: Database) -> None:
        if record.path is None:
            raise Conflict("the database has no file")
        root = await self._injection.root_of(record) or self._options.files
        made = await self._files.create(root, record.path)
        self._step("databases.create.file")
        if not made and not record.adopted:
            await self._changed(record, adopted=True)

    # -- turning back

    async def _fall_back(self, record: Database, error: QuaymasterError) -> Database:
        """The record goes on as a file; what there is of it on the engine is noted, and removed."""
        project = await self._store.read(lambda tx: tx.projects.get(record.project))
        if project is None:
            raise NotFound("the project was deleted meanwhile")
        path = sqlite_place(self._options.files, project, record.environment)
        adopted = await self._files.exists(project.path or self._options.files, path)
        fields: dict[str, Any] = {
            "engine": "sqlite", "isolation": "file", "place": None, "access": None, "claimed": None,
            "path": path, "adopted": adopted, "fallback": _said(error),
        }  # fmt: skip
        file, left = (
            await self._store.run(partial(self._detached, record=record, fields=fields), TEND)
        ).value
        self._step("databases.create.fell_back")
        if left is not None:
            await self._leftovers.remove(left)
            await self._leave_network(record)
        return file

    async def _leave_standby(self, record: Database) -> Database:
        """The claimed standby is of no use: it is noted and removed, and the record goes on cold."""
        port = await self._allocation.candidate(seed=record.uid)
        fields: dict[str, Any] = {
            "place": (await self._places.find(record, port=port)).place,
            "access": self._passwords.drawn(record.uid),
            "claimed": None,
        }
        cold, left = (
            await self._store.run(partial(self._detached, record=record, fields=fields), TEND)
        ).value
        if left is not None:
            await self._leftovers.remove(left)
        return cold

    async def _detached(
        self, tx: Transaction, *, record: Database, fields: dict[str, Any]
    ) -> tuple[Database, DatabaseServer | None]:
        held = await self._held(tx, record)
        now = await tx.now()
        left = await self._leftovers.note(tx, held, now)
        changed = await tx.databases.save(held.change(updated_at=now, **fields))
        if changed.place is not None:
            await self._allocation.take(tx, changed.place.port, changed.uid, "database", now)
        return changed, left

    async def give_up(self, record: Database, why: str) -> None:
        """Nothing of it stays: first its record turns into a note of what is to be removed, then that goes.

        Nothing happens when the record is settled, or another's by now. Not to be cancelled half-way.
        """
        with anyio.move_on_after(self._options.work_seconds, shield=True):
            file = await self._drop_file(record)
            fn = partial(self._given_up, record=record, why=why, row_id=f"a{secrets.token_hex(14)}")
            gone, left = (await self._store.run(fn, TEND)).value
            self._step("databases.create.given_up")
            if left is not None:
                await self._leftovers.remove(left)
            if gone and not file:
                await self._leave_network(record)

    async def _given_up(
        self, tx: Transaction, *, record: Database, why: str, row_id: str
    ) -> tuple[bool, DatabaseServer | None]:
        held = await tx.databases.hold(record.key)
        if held is None or held.uid != record.uid or held.stage != "creating":
            return False, None
        now = await tx.now()
        left = await self._leftovers.note(tx, held, now)
        await tx.databases.remove(held)
        if held.remembered is not None:
            remembered = await tx.idempotency.hold(held.remembered)
            if remembered is not None:
                await tx.idempotency.remove(remembered)
        await tx.audit.add(_failure(row_id, held, why, now))
        return True, left

    async def _drop_file(self, record: Database) -> bool:
        """A file that this creation made. Before the record: with it the path would be forgotten."""
        now = await self._store.read(lambda tx: tx.databases.get(record.key))
        if now is None or now.uid != record.uid or now.stage != "creating" or now.path is None:
            return False
        if not now.adopted:
            root = await self._injection.root_of(now) or self._options.files
            await self._files.remove(root, now.path)
        return True

    async def _leave_network(self, record: Database) -> None:
        """The project's network goes when nobody else is in it."""
        with suppress(QuaymasterError):
            await self._networks.remove(record.project, record.project_uid)

    # -- the record

    async def _settle(self, tx: Transaction, *, key: str, uid: str) -> Database:
        held = await tx.databases.hold(key)
        if held is None or held.uid != uid or held.worker != self._workers.me:
            raise Conflict("the creation was given up meanwhile")
        now = await tx.now()
        ready = await tx.databases.save(held.change(stage="ready", worker=None, updated_at=now))
        project = await tx.projects.hold(held.project)
        if project is not None and (project.database_name is None or held.environment is None):
            name = held.access.database if held.access else "sqlite"
            port = held.place.port if held.place else None
            await tx.projects.save(project.change(database_name=name, database_port=port, updated_at=now))
        return ready

    async def moved(self, record: Database, port: int) -> Database:
        """On another port, with the old one given back."""

        async def transaction(tx: Transaction) -> Database:
            held = await self._held(tx, record)
            place, _ = _parts(held)
            now = await tx.now()
            await self._allocation.take(tx, port, held.uid, "database", now)
            await self._allocation.release(tx, place.port, held.uid)
            return await tx.databases.save(held.change(place=place.change(port=port), updated_at=now))

        return (await self._store.run(transaction, TEND)).value

    async def _changed(self, record: Database, **fields: Any) -> Database:
        async def transaction(tx: Transaction) -> Database:
            return await tx.databases.save((await self._held(tx, record)).change(**fields))

        return (await self._store.run(transaction, TEND)).value

    async def _held(self, tx: Transaction, record: Database) -> Database:
        held = await tx.databases.hold(record.key)
        if held is None or held.uid != record.uid or held.worker != record.worker:
            raise Conflict("the database was given up meanwhile")
        return held

    async def _ours(self, key: str, uid: str) -> Database | None:
        found = await self._store.read(lambda tx: tx.databases.get(key))
        mine = found is not None and found.uid == uid and found.worker == self._workers.me
        return found if mine and found is not None and found.stage == "creating" else None

    async def _standing(self, reserved: Reserved) -> Database:
        found = await self._store.read(lambda tx: tx.databases.get(reserved.key))
        if found is None or found.uid != reserved.uid:
            raise Conflict(
                "the database that this call made is gone",
                next="Call again with a new idempotency_key to make another.",
            )
        return found

    async def _wait_for_another(self, reserved: Reserved, seconds: float) -> None:
        """A process beside this one makes it. When that one ends without it, so does this."""
        with anyio.move_on_after(seconds):
            while True:
                found = await self._store.read(lambda tx: tx.databases.get(reserved.key))
                if found is None or found.uid != reserved.uid:
                    raise Unavailable("the creation failed; the audit log says why")
                if found.stage != "creating" or not self._workers.alive(found.worker):
                    return
                await anyio.sleep(BETWEEN_LOOKS)


def sqlite_place(files: str, project: Project, environment: EnvironmentName | None) -> str:
    """Where a project's SQLite file lies; one without a path has a directory under the home."""
    name = "dev.db" if environment is None else f"{environment}.db"
    return f"{project.path}/data/{name}" if project.path else f"{files}/{project.uid}/{name}"


def _parts(record: Database) -> tuple[Place, Access]:
    if record.place is None or record.access is None:
        raise Conflict("the database has no server of its own")
    return record.place, record.access


def _said(error: QuaymasterError) -> str:
    return redacted_text(error.message)


def _failure(row_id: str, record: Database, why: str, now: Moment) -> AuditRow:
    return AuditRow(
        id=row_id,
        timestamp=now,
        team_id=record.team_id,
        user_id="quaymaster",
        action="create_database",
        resource="databases",
        resource_id=record.key,
        params={"engine": record.requested},
        success=False,
        error=redacted_text(why),
    )
