"""What the leader of a home does for its backups: settles what dead processes began, makes what is due, lets go."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio

from mcp_server.domain.backups import Reason, Retention, due, expired
from mcp_server.domain.databases import Database
from mcp_server.domain.errors import QuaymasterError
from mcp_server.ports.backups import BackupFiles, Scratch
from mcp_server.services.backups.keeping import Keeping
from mcp_server.services.backups.settling import Settling
from mcp_server.services.databases.parts import Parts

log = logging.getLogger(__name__)
BETWEEN_LOOKS = 60.0

Make = Callable[[Database, Reason], Awaitable[str]]
"""Backs up and proves, and returns the id. Raises what went wrong."""


class Tending:
    """`hours` between scheduled backups of every running database; 0: none."""

    def __init__(
        self,
        parts: Parts,
        files: BackupFiles,
        scratch: Scratch,
        settling: Settling,
        keeping: Keeping,
        make: Make,
        *,
        retention: Retention,
        hours: float,
    ) -> None:
        self._parts = parts
        self._files = files
        self._scratch = scratch
        self._settling = settling
        self._keeping = keeping
        self._make = make
        self._retention = retention
        self._hours = hours

    async def lead(self) -> None:
        """Settle, make what is due, let go of what has had its time; never ends."""
        while True:
            try:
                await self.tend()
                if self._hours:
                    await self.run_schedule(self._hours)
            except QuaymasterError as error:
                log.info("backups are looked at later: %s", error.message)
            await anyio.sleep(BETWEEN_LOOKS)

    async def tend(self) -> None:
        """Once: what dead processes began is settled, what has had its time goes."""
        home = self._parts.site.home
        await self._settling.settle()
        now = await self._parts.store.read(lambda tx: tx.now())
        for backup in expired(
            await self._parts.store.read(lambda tx: tx.backups.of_home(home)), self._retention, now
        ):
            await self._keeping.forget(backup)
        names = await self._files.names()
        left = await self._parts.store.read(lambda tx: tx.backups.of_home(home))
        known = {one.file: one.stage for one in left}
        for name in names:
            stage = known.get(name.removesuffix(".writing"))
            # A whole file without a record is newer than a store that was restored: it may be all there is.
            if stage == "failed" or (stage is None and name.endswith(".writing")):
                await self._files.remove(name)
        await self._scratch.clear()

    async def run_schedule(self, hours: float) -> int:
        """Back up every ready database of this home whose newest verified backup is older than `hours`. What failed
        is let be for a while."""
        home = self._parts.site.home
        databases = await self._parts.store.read(lambda tx: tx.databases.of_home(home))
        backups = await self._parts.store.read(lambda tx: tx.backups.of_home(home))
        now = await self._parts.store.read(lambda tx: tx.now())
        made = 0
        for database in databases:
            mine = [one for one in backups if one.database_uid == database.uid]
            if database.stage != "ready" or database.wanted != "running" or not due(mine, hours, now):
                continue
            try:
                await self._make(database, "schedule")
                made += 1
            except QuaymasterError as error:
                log.warning("no backup of %s: %s", database.key, error.message)
        return made
