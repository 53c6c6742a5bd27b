"""New passwords for a database, in force on its server before the old ones are forgotten."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from mcp_server.domain.database_setup import passwords
from mcp_server.domain.databases import Access, Database
from mcp_server.domain.errors import Conflict, Invalid
from mcp_server.domain.slots import SlotPair
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.store import Transaction
from mcp_server.services.calls import Call
from mcp_server.services.databases.holding import Holding, Noted
from mcp_server.services.databases.leftovers import TEND
from mcp_server.services.databases.parts import Parts
from mcp_server.services.databases.unfinished import parts_of


class Rotation:
    def __init__(self, parts: Parts, holding: Holding) -> None:
        self._store = parts.store
        self._calls = parts.calls
        self._servers = parts.servers
        self._looks = parts.looks
        self._passwords = parts.passwords
        self._injection = parts.injection
        self._workers = parts.workers
        self._step = parts.step
        self._holding = holding

    async def rotate(
        self, call: Call, project: str, environment: EnvironmentName | None
    ) -> tuple[Database, tuple[str, ...]]:
        """New passwords, in force when it returns. Which slots still run with the old ones: their sessions go on,
        new logins of theirs fail.

        Raises Invalid for SQLite, Conflict while it does not run.
        """
        fresh: dict[str, Access] = {}

        before = await self._holding.look(call, project, environment)
        if before.access is None:
            raise Invalid("a SQLite database has no password")
        if (await self._looks.see([before]))[before.key].state != "running":
            raise Conflict("the database does not run", next="start_database first.")
        fresh["access"] = self._redrawn(before)

        async def transaction(tx: Transaction) -> Noted:
            database = await self._holding.held(tx, call, project, environment)
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

        with anyio.CancelScope(shield=True):
            # Cut off from here on, it is let go of, and ended by the leader.
            noted = await self._calls.write(call, transaction, Noted)
        async with self._holding.let_go_on_failure(before):
            self._step("databases.rotate.noted")
            database = await self._holding.standing(noted)
            if database.next_access is not None:
                database = await self.finish(database)
        await self._injection.into_file(database)
        return database, await self._slots_with_old(database)

    async def go_on(self, database: Database) -> Database:
        """One that a crash broke off, to its end, unless somebody else ended it meanwhile."""

        async def transaction(tx: Transaction) -> Database:
            held = await self._holding.same(tx, database)
            if held.next_access is None:
                return held
            return await tx.databases.save(held.change(worker=self._workers.me))

        noted = (await self._store.run(transaction, TEND)).value
        if noted.next_access is None:
            return noted
        async with self._holding.let_go_on_failure(noted):
            done = await self.finish(noted)
        await self._injection.into_file(done)
        return done

    async def finish(self, database: Database) -> Database:
        """From the note on; may be done again."""
        place, _ = parts_of(database)
        access = database.next_access
        if access is None:
            return database
        script = passwords(access, self._passwords.verifiers(access, database.uid))
        await self._servers.run_sql_when_up(place.ref, script)
        self._step("databases.rotate.altered")
        login = self._passwords.login(place, access, database.uid)
        await self._servers.until_ready(place, login)
        done = await self.end(database)
        self._step("databases.rotate.settled")
        return done

    def _redrawn(self, database: Database) -> Access:
        _, access = parts_of(database)
        return self._passwords.drawn(
            database.uid, database=access.database, role=access.role, reader=access.reader
        )

    async def begin(self, database: Database) -> Database:
        fresh = self._redrawn(database)

        async def transaction(tx: Transaction) -> Database:
            held = await self._holding.same(tx, database)
            return await tx.databases.save(
                held.change(next_access=held.next_access or fresh, worker=self._workers.me)
            )

        return (await self._store.run(transaction, TEND)).value

    async def end(self, database: Database) -> Database:
        async def transaction(tx: Transaction) -> Database:
            held = await self._holding.same(tx, database)
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


def _running(pair: SlotPair) -> Sequence[str]:
    slots = (("blue", pair.blue), ("green", pair.green))
    return [f"{pair.environment} {name} ({slot.state})" for name, slot in slots if slot.state != "empty"]
