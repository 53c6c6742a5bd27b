"""What a dead process left of backups and restores is put right: claimed first, so that nobody begins on it meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import anyio

from mcp_server.domain.backups import Backup
from mcp_server.domain.database_copies import dropped_scratch, put_right, scratch_name, writing_again
from mcp_server.domain.databases import Access, Database
from mcp_server.domain.errors import QuaymasterError
from mcp_server.ports.store import Intent, Transaction
from mcp_server.services.backups.copying import Copying
from mcp_server.services.backups.dumps import Dumps
from mcp_server.services.backups.keeping import Keeping
from mcp_server.services.databases.parts import Parts

log = logging.getLogger(__name__)
TEND = Intent("tend_backups", "quaymaster")


class Settling:
    """A restore may have gone into another project's database: the dead process's mark on the record tells which."""

    def __init__(self, parts: Parts, copying: Copying, keeping: Keeping) -> None:
        self._parts = parts
        self._copying = copying
        self._keeping = keeping
        self._dumps = Dumps(parts.engine, parts.servers)
        self._one = anyio.Lock()

    async def settle(self) -> None:
        """Everything of this home. What cannot be put right now stays as it is for the next look."""
        async with self._one:
            for backup in await self._backups():
                if self._is_dead(backup.worker) and backup.subject in ("database", "outside"):
                    await self._settle(backup)

    def _is_dead(self, worker: str | None) -> bool:
        return worker is not None and not self._parts.workers.alive(worker)

    async def _settle(self, backup: Backup) -> None:
        worker, me = backup.worker, self._parts.workers.me
        databases = await self._databases(backup)
        if not await self._handed(backup, databases, worker, me):
            return
        try:
            for database in databases:
                await self._put_right(backup, database)
            if backup.stage == "writing":
                await self._keeping.give_up(backup, "its server process ended")
        except BaseException as error:
            with anyio.move_on_after(self._parts.options.work_seconds, shield=True):
                await self._handed(backup, databases, me, worker)
            if not isinstance(error, QuaymasterError):
                raise
            log.info("the backup %s is put right later: %s", backup.id, error.message)
            return
        await self._handed(backup, databases, me, None)

    async def _databases(self, backup: Backup) -> Sequence[Database]:
        """Its own, and what the dead process was at work on. A rotation and a promotion have their own settling."""
        found = await self._parts.store.read(lambda tx: tx.databases.of_home(self._parts.site.home))
        return [
            one
            for one in found
            if one.stage == "ready"
            and one.next_access is None
            and (one.path is None or one.place is None)
            and (one.uid == backup.database_uid or one.worker == backup.worker)
        ]

    async def _put_right(self, backup: Backup, database: Database) -> None:
        """A scratch database may stand there, or the database be closed for a swap. One that is stopped waits for
        its start."""
        if database.path is not None:
            file = await self._copying.sqlite_file(database)
            await self._parts.files.remove(file.root, f"{file.path}.{backup.id}.new")
        elif database.place is not None and database.access is not None:
            if database.wanted != "running" and backup.stage == "writing":
                return
            await self._dumps.run_sql(database.place, _script(backup, database, database.access))

    async def _handed(
        self, backup: Backup, databases: Sequence[Database], old: str | None, new: str | None
    ) -> bool:
        """The backup, and what the process had of the databases, from one worker to another; whether it was still
        the first one's."""

        async def transaction(tx: Transaction) -> bool:
            held = await tx.backups.hold(backup.id)
            if held is None or held.worker != old:
                return False
            await tx.backups.save(held.change(worker=new))
            for each in databases:
                database = await tx.databases.hold(each.key)
                if database is not None and database.uid == each.uid and database.worker == old:
                    await tx.databases.save(database.change(worker=new))
            return True

        return (await self._parts.store.run(transaction, TEND)).value

    async def _backups(self) -> Sequence[Backup]:
        return await self._parts.store.read(lambda tx: tx.backups.of_home(self._parts.site.home))


def _script(backup: Backup, database: Database, access: Access) -> str:
    """Who is at work on the database by now has closed it, or made it read only, on purpose."""
    if database.worker == backup.worker:
        return put_right(access, backup.id) + writing_again(access)
    if database.worker is None:
        return put_right(access, backup.id)
    return dropped_scratch(scratch_name(backup.id))
