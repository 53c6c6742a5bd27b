"""Making a database: reserved in one transaction, made without one, settled in another.

Whatever the engine is asked for is written down before. A creation that fails, is cancelled or dies leaves
nothing; with engine `auto` it ends on SQLite and says why.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from mcp_server.domain.databases import (
    Database,
    DatabaseServer,
    Login,
    RequestedEngine,
    database_key,
    differs,
    known_extensions,
)
from mcp_server.domain.errors import Conflict, QuaymasterError, QuotaExceeded, Unavailable
from mcp_server.domain.results import Result
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.store import Transaction
from mcp_server.services.access import project_of, team_of
from mcp_server.services.calls import Call
from mcp_server.services.databases.drafts import Draft, Drafts
from mcp_server.services.databases.making import Making
from mcp_server.services.databases.parts import Parts
from mcp_server.services.databases.patience import patiently
from mcp_server.services.databases.pool import Pool
from mcp_server.services.databases.shared import SharedServer
from mcp_server.services.databases.unfinished import Unfinished
from mcp_server.services.works import Work

TRIES = 20
FIRST_LOOK, LAST_LOOK = 0.1, 1.0
"""Seconds: of many who wait for others, each look takes from what those have."""


class Reserved(Result):
    """What a repeated call is answered from: which database the first one began."""

    key: str
    uid: str


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
        self._allocation = parts.allocation
        self._injection = parts.injection
        self._workers = parts.workers
        self._site = parts.site
        self._options = parts.options
        self._step = parts.step
        self._pool = pool
        # One reservation at a time: each holds the team's record, and the store lets nobody wait for that for long.
        # What only one can have is chosen within it, so that those of one server never choose the same.
        self._reserving = anyio.Lock()
        self._drafts = Drafts(parts, pool)
        self.unfinished = Unfinished(parts)
        self.making = Making(parts, self.unfinished, shared)

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
        work = None
        with anyio.CancelScope(shield=True):
            record = await self._standing(reserved)
            if record.stage == "creating" and record.worker == self._workers.me:
                body = partial(
                    self._work, key=reserved.key, uid=reserved.uid, before=before.get(reserved.uid)
                )
                work = self._works.begin(reserved.uid, body)
        if work is not None:
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
            draft = await self._drafts.draft(call, project, engine, environment, extensions)
            try:
                async with self._reserving:
                    draft = await self._drafts.placed(draft, avoid)
                    transaction = partial(
                        self._keep, call=call, project=project, environment=environment, engine=engine,
                        extensions=extensions, draft=draft,
                    )  # fmt: skip
                    reserved = await patiently(partial(self._kept_whole, call, transaction))
            except _Again:
                continue
            except _Stranded as stranded:
                await self.unfinished.give_up(stranded.database, "its server process ended")
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

    async def _kept_whole(
        self, call: Call, transaction: Callable[[Transaction], Awaitable[Reserved]]
    ) -> Reserved:
        """A caller that goes away as it is committed would leave it to nobody's work, and this process lives: nothing
        from here to the beginning of the work may be cut off."""
        with anyio.CancelScope(shield=True):
            reserved = await self._calls.write(call, transaction, Reserved)
        return reserved  # noqa: RET504 - a scope may swallow what is raised in it, as its type says

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

    # -- the work

    async def _work(self, work: Work, *, key: str, uid: str, before: Login | None) -> None:
        """Ends with the database ready, or with nothing of it left."""
        record = await self.unfinished.ours(key, uid)
        if record is None:
            return
        self._step("databases.create.reserved")
        try:
            await self.making.make(record, work, before)
            self._step("databases.create.made")
            settled = await self.unfinished.settle(record)
            self._step("databases.create.settled")
        except QuaymasterError as error:
            await self._given_up(record, error.message)
            raise
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._given_up(record, "the server stopped, or failed at it")
            raise
        await self._injection.into_file(settled)
        await work.tell("ready")
        if settled.engine == "postgres":
            self._pool.want()

    async def _given_up(self, record: Database, why: str) -> None:
        await self._works.insist(f"give up {record.uid}", partial(self.unfinished.give_up, record, why))

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
        pause = FIRST_LOOK
        with anyio.move_on_after(seconds):
            while True:
                found = await self._store.read(lambda tx: tx.databases.get(reserved.key))
                if found is None or found.uid != reserved.uid:
                    raise Unavailable("the creation failed; the audit log says why")
                if found.stage != "creating" or not self._workers.alive(found.worker):
                    return
                await anyio.sleep(pause)
                pause = min(1.5 * pause, LAST_LOOK)
