"""Making a database whose record is kept: on a standby, in a container, on the shared server, or as a file."""

from __future__ import annotations

from mcp_server.domain.database_setup import set_up
from mcp_server.domain.databases import Access, Database, Login
from mcp_server.domain.errors import Conflict, Invalid, QuaymasterError, Unavailable
from mcp_server.services.databases.files import sqlite_file
from mcp_server.services.databases.parts import Parts
from mcp_server.services.databases.shared import SharedServer
from mcp_server.services.databases.together import Together
from mcp_server.services.databases.unfinished import Unfinished, parts_of
from mcp_server.services.works import Work

PORT_TRIES = 5


class Making:
    def __init__(self, parts: Parts, unfinished: Unfinished, shared: SharedServer) -> None:
        self._engine = parts.engine
        self._servers = parts.servers
        self._starts = parts.starts
        self._files = parts.files
        self._passwords = parts.passwords
        self._allocation = parts.allocation
        self._injection = parts.injection
        self._networks = parts.networks
        self._options = parts.options
        self._step = parts.step
        self._unfinished = unfinished
        self._shared = shared

    async def make(self, record: Database, work: Work, before: Login | None) -> None:
        """Until it answers. `before` is the login that still works on the standby that it claims."""
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
            await self._make_file(await self._unfinished.fall_back(record, error))

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
                record = await self._unfinished.leave_standby(record)
        await self._make_container(record, work)

    async def _make_container(self, record: Database, work: Work) -> None:
        """Cold: from an image, or on the volume that outlived an earlier container."""
        place, access = parts_of(record)
        made = await self._servers.prepare(place, work.tell)
        self._step("databases.create.prepared")
        if not made and not record.adopted:
            record = await self._unfinished.changed(record, adopted=True)
        async with self._starts.turn(work.tell):
            await work.tell("starting PostgreSQL")
            record = await self._start(record, access)
            place, access = parts_of(record)
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
            place, _ = parts_of(record)
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
            record = await self._unfinished.moved(
                record, await self._allocation.candidate(lost, seed=record.uid)
            )

    async def take_over(self, record: Database) -> None:
        """New passwords on data that were there before. Nobody is locked out: the superuser needs none inside."""
        place, access = parts_of(record)
        script = set_up(access, self._passwords.verifiers(access, record.uid))
        await self._servers.run_sql_when_up(place.ref, script)

    async def _make_of_standby(self, record: Database, before: Login | None) -> None:
        """A rename, one password and a place in the project's network, as far as they can at one time: neither the
        password nor the network asks for the name."""
        place, access = parts_of(record)
        standing = place.change(container=record.claimed)
        found = await self._servers.observe(standing)
        if found is None or not found.running or before is None:
            raise Unavailable("the standby does not run")
        login = self._passwords.login_of(record)
        verifier = self._passwords.verifiers(access, record.uid).role

        async def rename() -> None:
            await self._servers.rename(standing, place.container)
            self._step("databases.claim.renamed")

        async def join() -> None:
            async with Together() as first:
                first.begin(rename)
                network = await self._networks.ensure(record.project, record.project_uid)
            await self._servers.join(place, network)

        async with Together() as beside:
            beside.begin(join)
            changed = await self._servers.change_password(before, verifier)
        if not changed and not await self._servers.lets_in(login):
            # To join a network may break connections: the engine moves the published port to another bridge.
            changed = await self._servers.change_password(before, verifier)
            if not changed:
                raise Unavailable("the standby did not take a new password")
        self._step("databases.claim.password")
        await self._servers.until_ready(place, login)
        await self._servers.add_extensions(place, access.database, record.extensions)

    async def _make_on_shared(self, record: Database, work: Work) -> None:
        access = record.access
        if access is None:
            raise Conflict("the database has no roles")
        server = await self._shared.ready(self._options.image_for(record.extensions), work.tell)
        record = await self._unfinished.changed(record, place=server.place)
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
        file = await sqlite_file(self._options.files, record.path)
        made = await self._files.create(file.root, file.path)
        self._step("databases.create.file")
        if not made and not record.adopted:
            await self._unfinished.changed(record, adopted=True)
