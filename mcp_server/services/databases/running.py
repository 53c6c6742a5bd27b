"""Starting and stopping a database that is there. What is wanted is written down before it is done."""

from __future__ import annotations

from typing import Any

from mcp_server.domain.database_setup import opened
from mcp_server.domain.databases import Database, Place
from mcp_server.domain.errors import Conflict, Invalid
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.store import Transaction
from mcp_server.services.calls import Call
from mcp_server.services.databases.holding import Holding, Noted
from mcp_server.services.databases.making import Making
from mcp_server.services.databases.parts import Parts
from mcp_server.services.databases.rotation import Rotation
from mcp_server.services.databases.shared import SharedServer
from mcp_server.services.databases.unfinished import parts_of
from mcp_server.services.works import Tell


class Running:
    def __init__(
        self, parts: Parts, holding: Holding, rotation: Rotation, making: Making, shared: SharedServer
    ) -> None:
        self._calls = parts.calls
        self._engine = parts.engine
        self._servers = parts.servers
        self._starts = parts.starts
        self._passwords = parts.passwords
        self._injection = parts.injection
        self._step = parts.step
        self._holding = holding
        self._rotation = rotation
        self._making = making
        self._shared = shared

    async def start(self, call: Call, project: str, environment: EnvironmentName | None) -> Database:
        """Running and answering. A container that is gone is made anew on its volume, with new passwords."""
        database = await self._wish(call, project, environment, "running")
        if database.place is not None:
            await self._start(database, call.tell)
        return await self._holding.now(database)

    async def stop(self, call: Call, project: str, environment: EnvironmentName | None) -> Database:
        """Stopped; its port and its data stay. Raises Invalid for SQLite, which has no server."""
        database = await self._wish(call, project, environment, "stopped")
        place = database.place
        if place is not None and database.access is not None:
            if database.isolation == "shared":
                await self._servers.run_sql(place.ref, opened(database.access, False))
            else:
                await self._servers.stop(place)
        return await self._holding.now(database)

    async def _wish(
        self, call: Call, project: str, environment: EnvironmentName | None, wanted: Any
    ) -> Database:
        """Write down what is wanted, before it is done."""

        async def transaction(tx: Transaction) -> Noted:
            database = await self._holding.held(tx, call, project, environment)
            if wanted == "stopped" and database.place is None:
                raise Invalid("a SQLite database has no server that could be stopped")
            if database.wanted != wanted:
                await tx.databases.save(database.change(wanted=wanted, updated_at=await tx.now()))
            return Noted(key=database.key, uid=database.uid)

        noted = await self._calls.write(call, transaction, Noted)
        return await self._holding.standing(noted)

    async def _start(self, database: Database, tell: Tell) -> None:
        place, access = parts_of(database)
        if database.isolation == "shared":
            await self._shared.ready(place.image)
            await self._servers.run_sql(place.ref, opened(access, True))
            await self._until_it_lets_in(database)
            return
        async with self._starts.turn(tell):
            if await self._servers.observe(place) is None:
                database = await self._made_anew(database)
            else:
                await self._start_where_it_can(place)
            await self._until_it_lets_in(database)

    async def _until_it_lets_in(self, database: Database) -> None:
        """Which passwords are in force after a rotation that was broken off, nobody knows: it is ended first."""
        if database.next_access is not None:
            database = await self._rotation.go_on(database)
        await self._servers.until_ready(parts_of(database)[0], self._passwords.login_of(database))

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
        place, _ = parts_of(database)
        known = {volume.name for volume in await self._engine.volumes(place.owner.labels())}
        if place.volume not in known:
            raise Conflict(
                "container and volume of this database are gone, and with them its data",
                next="Restore a backup, or delete the database and create it again.",
            )
        changed = await self._rotation.begin(database)
        async with self._holding.let_go_on_failure(changed):
            made = await self._on_its_volume(changed)
        await self._injection.into_file(made)
        return made

    async def _on_its_volume(self, changed: Database) -> Database:
        place, access = parts_of(changed)
        access = changed.next_access or access
        await self._servers.prepare(place, None)
        superuser, verifiers = (
            self._passwords.superuser_verifier(),
            self._passwords.verifiers(access, changed.uid),
        )
        await self._servers.create(self._servers.workload(place, "database", superuser, access, verifiers))
        self._step("databases.start.created")
        await self._start_where_it_can(place)
        await self._making.take_over(changed.change(access=access))
        return await self._rotation.end(changed)
