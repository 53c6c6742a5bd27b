"""The record of a database while a promotion is under way: whose it is, and in whose hands."""

from __future__ import annotations

from mcp_server.domain.databases import Database
from mcp_server.domain.errors import Conflict
from mcp_server.ports.store import Intent, Transaction
from mcp_server.services.databases.parts import Parts

TEND = Intent("tend_databases", "quaymaster")


class Marks:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def same(self, tx: Transaction, database: Database) -> Database:
        """Held. Raises Conflict when it is no longer this process's to go on with."""
        held = await tx.databases.hold(database.key)
        if held is None or held.uid != database.uid or held.worker != self._parts.workers.me:
            raise Conflict("the promotion was given up meanwhile")
        return held

    async def standing(self, database: Database) -> Database:
        found = await self._parts.store.read(lambda tx: tx.databases.get(database.key))
        return found if found is not None and found.uid == database.uid else database

    async def handed(self, database: Database, old: str | None, new: str | None) -> bool:
        """From one worker to another; whether it was still the first one's."""

        async def transaction(tx: Transaction) -> bool:
            held = await tx.databases.hold(database.key)
            if held is None or held.uid != database.uid or held.worker != old:
                return False
            await tx.databases.save(held.change(worker=new))
            return True

        return (await self._parts.store.run(transaction, TEND)).value
