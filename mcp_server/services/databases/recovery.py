"""Putting right what a crash left: records against the engine, by the leader of the home, at start and then on.

A record whose worker lives is never touched. Labels of installation and home say which things are ours; what a
record does not speak of and may hold data is reported, not removed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence, Set

import anyio

from mcp_server.domain.databases import Database, DatabaseServer
from mcp_server.domain.errors import QuaymasterError
from mcp_server.domain.workloads import Ref
from mcp_server.ports.store import Reading
from mcp_server.services.databases.deletion import Deletion
from mcp_server.services.databases.parts import Parts
from mcp_server.services.databases.rotation import Rotation
from mcp_server.services.databases.unfinished import Unfinished

log = logging.getLogger(__name__)
EVERY = 30.0


class Recovery:
    """`unclaimed` are containers of this home that no record speaks of."""

    def __init__(self, parts: Parts, unfinished: Unfinished, rotation: Rotation, deletion: Deletion) -> None:
        self._store = parts.store
        self._engine = parts.engine
        self._leftovers = parts.leftovers
        self._injection = parts.injection
        self._workers = parts.workers
        self._site = parts.site
        self._unfinished = unfinished
        self._rotation = rotation
        self._deletion = deletion
        self.unclaimed: tuple[str, ...] = ()

    async def keep_right(self) -> None:
        """Never ends; for the leader of the home."""
        first = True
        while True:
            try:
                await self.run(with_files=first)
                first = False
            except QuaymasterError as error:
                log.info("databases are looked at later: %s", error.message)
            await anyio.sleep(EVERY)

    async def run(self, *, with_files: bool = True) -> None:
        """Settle what dead processes began, then compare with the engine. One failure does not stop the rest."""
        for server in await self._servers():
            if server.stage != "ready" and not self._workers.alive(server.worker):
                await self._discard(server)
        for database in await self._databases():
            if not self._workers.alive(database.worker):
                await self._settle(database)
        if with_files:
            for database in await self._databases():
                if database.stage == "ready":
                    await self._injection.into_file(database)
        if (await self._engine.detect()).available:
            await self._sweep_engine()

    # -- records of dead processes

    async def _settle(self, database: Database) -> None:
        try:
            if database.stage == "creating":
                await self._unfinished.give_up(database, "its server process ended")
            elif database.stage == "deleting":
                await self._deletion.finish(database)
            elif database.next_access is not None and database.wanted == "running":
                await self._injection.into_file(await self._rotation.finish(database))
        except QuaymasterError as error:
            log.warning("%s waits to be put right: %s", database.key, error.message)

    async def _discard(self, server: DatabaseServer) -> None:
        condemned = await self._leftovers.condemn(server)
        if condemned is not None:
            await self._leftovers.remove(condemned)

    # -- the engine

    async def _sweep_engine(self) -> None:
        """Standbys without a record go; so do empty networks and volumes of standbys that nobody mounts."""
        known = await self._known_names()
        found = [one for one in await self._engine.list(self._site.labels()) if one.kind in KINDS]
        strange = [one for one in found if one.name not in known]
        # A standby that was claimed since the records were read is known by now.
        known = await self._known_names() if strange else known
        await self._start_again({one.name for one in found if one.state == "exited"})
        self.unclaimed = tuple(
            one.name for one in strange if one.name not in known and not _is_standby(one.name)
        )
        for one in strange:
            if one.name not in known and _is_standby(one.name):
                await self._engine.remove(Ref(name=one.name, owner=self._site.owner()))
        for volume in await self._engine.volumes(self._site.owner().labels()):
            if _is_standby(volume.name) and volume.name not in await self._known_names():
                await self._try_volume(volume.name)
        for network in await self._engine.networks(self._site.owner().labels()):
            if _is_standby(network.name) and network.name not in await self._known_names():
                await self._try_network(network.name)

    async def _start_again(self, ended: Set[str]) -> None:
        """Servers that are wanted and ended, as all do with an engine that is killed. The records are read after
        the engine was: who stops a server writes that down before."""
        if not ended:
            return
        places = [
            one.place
            for one in await self._databases()
            if one.place is not None and one.isolation == "container" and self._is_wanted(one)
        ]
        places += [
            one.place for one in await self._servers() if one.kind == "shared" and one.stage == "ready"
        ]
        for place in places:
            if place.container in ended:
                try:
                    await self._engine.start(place.ref)
                    log.info("%s had ended and was started again", place.container)
                except QuaymasterError as error:
                    log.info("%s ended and does not start: %s", place.container, error.message)

    def _is_wanted(self, database: Database) -> bool:
        free = not self._workers.alive(database.worker)
        return database.stage == "ready" and database.wanted == "running" and free

    async def _try_volume(self, name: str) -> None:
        try:
            await self._engine.remove_volume(Ref(name=name, owner=self._site.owner()))
        except QuaymasterError as error:
            log.info("the volume %s stays: %s", name, error.message)

    async def _try_network(self, name: str) -> None:
        try:
            await self._engine.remove_network(Ref(name=name, owner=self._site.owner()))
        except QuaymasterError as error:
            log.info("the network %s stays: %s", name, error.message)

    async def _known_names(self) -> frozenset[str]:
        """Of containers, volumes and networks that records speak of."""
        places = [one.place for one in await self._databases() if one.place is not None]
        places += [one.place for one in await self._servers()]
        also = [one.claimed for one in await self._databases() if one.claimed is not None]
        also += [one.also_named for one in await self._servers() if one.also_named is not None]
        return frozenset(
            [*also, *(name for place in places for name in (place.container, place.volume, place.network))]
        )

    async def _databases(self) -> Sequence[Database]:
        async def reading(tx: Reading) -> Sequence[Database]:
            return await tx.databases.of_home(self._site.home)

        return await self._store.read(reading)

    async def _servers(self) -> Sequence[DatabaseServer]:
        async def reading(tx: Reading) -> Sequence[DatabaseServer]:
            return await tx.database_servers.of_home(self._site.home)

        return await self._store.read(reading)


KINDS = ("database", "standby", "shared")


def _is_standby(name: str) -> bool:
    return name.startswith("quaymaster-standby-")
