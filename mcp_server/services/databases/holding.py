"""Which database a call means, held for its change; and letting it go when that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import anyio

from mcp_server.domain.databases import Database, chosen
from mcp_server.domain.errors import Conflict, QuaymasterError, WrongHost
from mcp_server.domain.results import Result
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.store import Reading, Transaction
from mcp_server.services.access import project_of
from mcp_server.services.calls import Call
from mcp_server.services.databases.leftovers import TEND
from mcp_server.services.databases.parts import Parts


class Noted(Result):
    key: str
    uid: str


class Holding:
    def __init__(self, parts: Parts) -> None:
        self._store = parts.store
        self._calls = parts.calls
        self._works = parts.works
        self._workers = parts.workers
        self._site = parts.site
        self._options = parts.options

    async def look(self, call: Call, project: str, environment: EnvironmentName | None) -> Database:
        """As it is recorded now, not held. Raises NotFound."""

        async def reading(tx: Reading) -> Database:
            owner = await project_of(tx, call.caller, project)
            return chosen(await tx.databases.of_project(owner.name), environment, owner.name)

        return await self._calls.read(reading)

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

    async def same(self, tx: Transaction, database: Database) -> Database:
        held = await tx.databases.hold(database.key)
        if held is None or held.uid != database.uid:
            raise Conflict("the database was deleted meanwhile")
        return held

    async def standing(self, noted: Noted) -> Database:
        found = await self._store.read(lambda tx: tx.databases.get(noted.key))
        if found is None or found.uid != noted.uid:
            raise Conflict("the database was deleted meanwhile")
        return found

    async def now(self, database: Database) -> Database:
        return await self.standing(Noted(key=database.key, uid=database.uid))

    @asynccontextmanager
    async def let_go_on_failure(self, database: Database) -> AsyncIterator[None]:
        """What is not ended here is not ours any more: the leader ends it at its next look."""
        try:
            yield
        except BaseException:
            with anyio.move_on_after(self._options.work_seconds, shield=True), suppress(QuaymasterError):
                end = partial(self._store.run, partial(self._let_go, database=database), TEND)
                await self._works.insist(f"let go of {database.uid}", end)
            raise

    async def _let_go(self, tx: Transaction, *, database: Database) -> None:
        held = await tx.databases.hold(database.key)
        if held is not None and held.uid == database.uid and held.worker == self._workers.me:
            await tx.databases.save(held.change(worker=None))
