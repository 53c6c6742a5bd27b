"""A restore: beside the live database, compared, and then swapped in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from mcp_server.domain.backups import Backup, Reason
from mcp_server.domain.database_copies import closed, put_right, scratch_name, swapped
from mcp_server.domain.databases import Database
from mcp_server.ports.backups import SqliteCopies
from mcp_server.ports.store import Intent, Transaction
from mcp_server.services.backups.copying import Copying, parts_of, require_same
from mcp_server.services.backups.dumps import Dumps
from mcp_server.services.databases.parts import Parts
from mcp_server.services.works import Work

TEND = Intent("tend_backups", "quaymaster")
SETTLE_SECONDS = 60.0

Make = Callable[[Database, Reason], Awaitable[str]]
"""Backs a database up and proves it, waiting for it."""
BROKEN_OFF = "broken off"
"""A mark of nobody: no process has this name."""


class Restoring:
    def __init__(self, parts: Parts, copying: Copying, copies: SqliteCopies, make: Make) -> None:
        self._parts = parts
        self._copying = copying
        self._copies = copies
        self._make = make
        self._dumps = Dumps(parts.engine, parts.servers)
        self._closed: set[str] = set()
        """Backups whose restore could not open the database again."""

    async def restore(self, work: Work, *, backup: Backup, database: Database) -> None:
        """Ends with the database swapped, or as it was; never in between."""
        try:
            await work.tell("backing up what is there now")
            await self._make(database, "restore")
            self._parts.step("restore.backed_up")
            await work.tell("restoring beside it")
            if database.path is not None:
                await self._swap_file(backup, database)
            else:
                await self._swap_postgres(backup, database)
            self._parts.step("restore.swapped")
            await work.tell("swapped in")
        finally:
            with anyio.move_on_after(SETTLE_SECONDS, shield=True):
                end = partial(
                    self._parts.store.run, partial(self._released, backup=backup, database=database), TEND
                )
                await self._parts.works.insist(f"end restore {backup.id}", end)

    async def _swap_file(self, backup: Backup, database: Database) -> None:
        target = await self._copying.sqlite_file(database)
        new = f"{target.path}.{backup.id}.new"
        try:
            require_same(backup.tables, await self._copying.unpacked(backup, new))
            self._parts.step("restore.proved")
            await self._copies.replace(target, new)
        finally:
            with anyio.CancelScope(shield=True):
                await self._parts.files.remove(target.root, new)

    async def _swap_postgres(self, backup: Backup, database: Database) -> None:
        place, access = parts_of(database)
        try:
            require_same(
                backup.tables, await self._copying.restored(backup, database, scratch_name(backup.id))
            )
            self._parts.step("restore.proved")
            with anyio.CancelScope(shield=True):
                await self._dumps.run_sql(place, closed(access))
                self._parts.step("restore.closed")
                await self._dumps.run_sql(place, swapped(access, backup.id))
                self._parts.step("restore.renamed")
        finally:
            self._closed.add(backup.id)
            with anyio.move_on_after(SETTLE_SECONDS, shield=True):
                await self._dumps.run_sql(place, put_right(access, backup.id))
                self._closed.discard(backup.id)

    async def _released(self, tx: Transaction, *, backup: Backup, database: Database) -> None:
        """Where the database stayed closed it is left as by a dead process, so that a later look puts it right."""
        after = BROKEN_OFF if backup.id in self._closed else None
        held = await tx.databases.hold(database.key)
        if held is not None and held.uid == database.uid and held.worker == self._parts.workers.me:
            await tx.databases.save(held.change(worker=after, updated_at=await tx.now()))
        kept = await tx.backups.hold(backup.id)
        if kept is not None and kept.worker == self._parts.workers.me:
            await tx.backups.save(kept.change(worker=after))
