"""How the making of a backup ends: kept once it was proved, failed without a file; and how it is let go."""

from __future__ import annotations

from mcp_server.domain.backups import Backup
from mcp_server.domain.errors import Conflict
from mcp_server.ports.backups import BackupFiles
from mcp_server.ports.store import Intent, Store, Transaction


class Keeping:
    def __init__(self, store: Store, files: BackupFiles, intent: Intent) -> None:
        self._store = store
        self._files = files
        self._intent = intent

    async def settle(self, written: Backup) -> Backup:
        """Proved. Raises Conflict when somebody gave it up meanwhile."""
        stored = await self._files.stored(written.file)

        async def transaction(tx: Transaction) -> Backup:
            held = await tx.backups.hold(written.id)
            if held is None or held.stage == "failed":
                raise Conflict("the backup was given up meanwhile")
            return await tx.backups.save(held.proved(written, stored, await tx.now()))

        return (await self._store.run(transaction, self._intent)).value

    async def give_up(self, backup: Backup, why: str) -> None:
        """The file first: a record without one is seen again."""
        await self._files.remove(backup.file)

        async def transaction(tx: Transaction) -> None:
            held = await tx.backups.hold(backup.id)
            if held is not None and held.stage == "writing":
                await tx.backups.save(held.failed(why, await tx.now()))

        await self._store.run(transaction, self._intent)

    async def forget(self, backup: Backup) -> None:
        """The file first, here too."""
        await self._files.remove(backup.file)

        async def transaction(tx: Transaction) -> None:
            held = await tx.backups.hold(backup.id)
            if held is not None and held.rev == backup.rev:
                await tx.backups.remove(held)

        await self._store.run(transaction, self._intent)
