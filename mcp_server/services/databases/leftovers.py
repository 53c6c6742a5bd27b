"""What a failed creation or a discarded standby left: written down first, then taken off the engine, then forgotten."""

from __future__ import annotations

import logging
from functools import partial

import anyio

from mcp_server.domain.database_setup import dropped
from mcp_server.domain.databases import Database, DatabaseServer
from mcp_server.domain.errors import NotFound, QuaymasterError
from mcp_server.domain.records import Moment
from mcp_server.ports.databases import Workers
from mcp_server.ports.store import Intent, Store, Transaction
from mcp_server.services.databases.allocation import Allocation
from mcp_server.services.databases.options import Options, Step
from mcp_server.services.databases.patience import patiently
from mcp_server.services.databases.servers import Servers

log = logging.getLogger(__name__)
TEND = Intent("tend_databases", "quaymaster")


class Leftovers:
    def __init__(
        self,
        store: Store,
        servers: Servers,
        allocation: Allocation,
        workers: Workers,
        options: Options,
        step: Step,
    ) -> None:
        self._store = store
        self._servers = servers
        self._allocation = allocation
        self._workers = workers
        self._options = options
        self._step = step

    async def note(self, tx: Transaction, database: Database, now: Moment) -> DatabaseServer | None:
        """Within a transaction: keep in mind what there may be of this database on the engine. None: nothing."""
        if database.place is None:
            return None
        left = await tx.database_servers.add(
            DatabaseServer(
                id=f"left-{database.uid}-{database.rev}",
                kind="left",
                home=database.home,
                host=database.host,
                stage="removing",
                worker=self._workers.me,
                place=database.place,
                access=database.access,
                isolation="shared" if database.isolation == "shared" else "container",
                keep_volume=database.adopted,
                also_named=database.claimed,
                created_at=now,
            )
        )
        if left.isolation == "container":
            await self._allocation.hand_over(tx, left.place.port, left.id, "left")
        return left

    async def condemn(self, server: DatabaseServer) -> DatabaseServer | None:
        """Mark a standby as one to be taken away; None when somebody else has it by now."""

        async def transaction(tx: Transaction) -> DatabaseServer | None:
            held = await tx.database_servers.hold(server.id)
            if held is None or held.rev != server.rev:
                return None
            return await tx.database_servers.save(held.change(stage="removing", worker=self._workers.me))

        return (await self._store.run(transaction, TEND)).value

    async def remove(self, left: DatabaseServer) -> None:
        """Take it off the engine and forget it, within the time for undoing, cancelled or not.

        When the engine refuses, it stays noted, for the next look.
        """
        with anyio.move_on_after(self._options.work_seconds, shield=True):
            try:
                await self._take_away(left)
                self._step("databases.left.removed")
                await patiently(lambda: self._store.run(partial(self._forget, left=left), TEND))
            except QuaymasterError as error:
                log.info("%s stays to be removed: %s", left.place.container, error.message)
                await self._let_go(left)

    async def _let_go(self, left: DatabaseServer) -> None:
        """Nobody is at work on it: the next look of the leader tries again."""

        async def transaction(tx: Transaction) -> None:
            held = await tx.database_servers.hold(left.id)
            if held is not None:
                await tx.database_servers.save(held.change(worker=None))

        await patiently(lambda: self._store.run(transaction, TEND))

    async def _take_away(self, left: DatabaseServer) -> None:
        if left.isolation == "container":
            await self._servers.dismantle(
                left.place, keep_volume=left.keep_volume, also_named=left.also_named
            )
        elif left.access is not None:
            await self.drop_shared(left)

    async def drop_shared(self, left: DatabaseServer | Database) -> None:
        """One database of the shared server and its roles. With the server gone they are gone."""
        if left.place is None or left.access is None:
            return
        try:
            await self._servers.run_sql(left.place.ref, dropped(left.access))
        except NotFound:
            return

    async def _forget(self, tx: Transaction, *, left: DatabaseServer) -> None:
        held = await tx.database_servers.hold(left.id)
        if held is None:
            return
        await tx.database_servers.remove(held)
        await self._allocation.release(tx, left.place.port, left.id)
