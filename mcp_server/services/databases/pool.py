"""The warm pool: servers that run already, with roles and an empty database, waiting to be somebody's.

Filled by the home's leader once a first database was made on PostgreSQL; claimed by any process of the home.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from functools import partial

import anyio

from mcp_server.domain.databases import DatabaseServer, Place
from mcp_server.domain.errors import Conflict, QuaymasterError
from mcp_server.ports.store import Transaction
from mcp_server.services.databases.leftovers import TEND
from mcp_server.services.databases.options import GB
from mcp_server.services.databases.parts import Parts

log = logging.getLogger(__name__)
LOOK_SECONDS = 5.0
AFTER_FAILURE = 30.0
PORT_TRIES = 5
Want = tuple[str, tuple[str, ...]]
"""An image, and the extensions that its standbys have already."""


class Pool:
    """`problem` says why the pool is not what it should be; None when it is."""

    def __init__(self, parts: Parts) -> None:
        self._store = parts.store
        self._engine = parts.engine
        self._servers = parts.servers
        self._starts = parts.starts
        self._passwords = parts.passwords
        self._allocation = parts.allocation
        self._leftovers = parts.leftovers
        self._machine = parts.machine
        self._workers = parts.workers
        self._site = parts.site
        self._options = parts.options
        self._step = parts.step
        self._wanted = anyio.Event()
        self.problem: str | None = None

    # -- claiming

    async def choose(self, image: str, extensions: tuple[str, ...]) -> DatabaseServer | None:
        """A standby for this image, the one with the most of the extensions; any of several alike, so that two
        who choose at one time rarely choose the same."""
        ready = [
            one
            for one in await self.standbys()
            if one.stage == "ready" and one.place.image == image and set(one.extensions) <= set(extensions)
        ]
        most = max((len(one.extensions) for one in ready), default=0)
        best = [one for one in ready if len(one.extensions) == most]
        return secrets.choice(best) if best else None

    async def standbys(self) -> list[DatabaseServer]:
        servers = await self._store.read(lambda tx: tx.database_servers.of_home(self._site.home))
        return [one for one in servers if one.kind == "standby"]

    def want(self) -> None:
        """One was used, or could have been: look again soon."""
        self._wanted.set()

    # -- filling

    async def keep_full(self) -> None:
        """Never ends; for the leader of the home."""
        while True:
            pause = LOOK_SECONDS
            try:
                while await self.fill_one():
                    pass
                self.problem = self._short_of_memory()
            except QuaymasterError as error:
                self.problem, pause = error.message, AFTER_FAILURE
                log.info("the warm pool was not filled: %s", error.message)
            self._wanted = anyio.Event()
            with anyio.move_on_after(pause):
                await self._wanted.wait()

    async def fill_one(self) -> bool:
        """Take one surplus away or add one that is missing; False when nothing was to be done, or must not be."""
        standbys = await self.standbys()
        wanted = await self._wants()
        for one in standbys:
            if one.stage == "ready" and not await self._is_wanted(one, wanted):
                await self._discard(one)
                return True
        have = Counter((one.place.image, one.extensions) for one in standbys if one.stage == "ready")
        missing = next((want for want, count in wanted.items() if have[want] < count), None)
        if missing is None or self._short_of_memory() is not None:
            return False
        if not (await self._engine.detect()).available:
            return False
        await self.add(*missing)
        return True

    async def _is_wanted(self, standby: DatabaseServer, wanted: Counter[Want]) -> bool:
        """Of the kind and number that is wanted, and still there."""
        kind = (standby.place.image, standby.extensions)
        if wanted[kind] <= 0:
            return False
        wanted_left = wanted[kind]
        alike = [one for one in await self.standbys() if (one.place.image, one.extensions) == kind]
        if len([one for one in alike if one.stage == "ready" and one.id <= standby.id]) > wanted_left:
            return False
        if not (await self._engine.detect()).available:
            return True
        found = await self._servers.observe(standby.place)
        return found is not None and found.state in ("running", "restarting")

    async def _wants(self) -> Counter[Want]:
        """How many of each kind: none before the first database; with pgvector one, once somebody used it."""
        if self._options.pool == 0 or self._options.isolation != "container":
            return Counter()
        databases = await self._store.read(lambda tx: tx.databases.of_home(self._site.home))
        used = [one for one in databases if one.isolation == "container" and one.stage == "ready"]
        wanted: Counter[Want] = Counter()
        if used:
            wanted[self._options.image, ()] = self._options.pool
        if any("vector" in one.extensions for one in used):
            wanted[self._options.vector_image, ("vector",)] = 1
        return wanted

    def _short_of_memory(self) -> str | None:
        if self._options.pool == 0:
            return None
        free = self._machine.free_memory()
        if free is None or free >= self._options.spare:
            return None
        return f"off: {free / GB:.1f} GB of memory are free, {self._options.spare / GB:.1f} GB must be"

    # -- one standby

    async def add(self, image: str, extensions: tuple[str, ...] = ()) -> DatabaseServer:
        """A new standby, ready. Raises what the engine raises, with nothing left."""
        server = await self._begin(image, extensions)
        try:
            return await self._make(server)
        except BaseException:
            with anyio.CancelScope(shield=True):
                current = await self._store.read(lambda tx: tx.database_servers.get(server.id))
                if current is not None:
                    await self._discard(current)
            raise

    async def _begin(self, image: str, extensions: tuple[str, ...]) -> DatabaseServer:
        lost: set[int] = set()
        for _ in range(PORT_TRIES):
            mark = secrets.token_hex(6)
            port = await self._allocation.candidate(lost, seed=mark)
            server = DatabaseServer(
                id=f"standby-{mark}",
                kind="standby",
                home=self._site.home,
                host=self._site.host,
                worker=self._workers.me,
                place=Place(
                    container=f"quaymaster-standby-{mark}",
                    volume=f"quaymaster-standby-{mark}",
                    network=f"quaymaster-standby-{mark}",
                    owner=self._site.owner(),
                    image=image,
                    port=port,
                ),
                access=self._passwords.drawn(f"standby-{mark}"),
                extensions=extensions,
                created_at=await self._store.read(lambda tx: tx.now()),
            )
            try:
                return (await self._store.run(partial(self._reserved, server=server), TEND)).value
            except Conflict:
                lost.add(port)
        raise Conflict("too many others take ports at this moment")

    async def _reserved(self, tx: Transaction, *, server: DatabaseServer) -> DatabaseServer:
        added = await tx.database_servers.add(server)
        await self._allocation.take(tx, server.place.port, server.id, "standby", await tx.now())
        return added

    async def _make(self, server: DatabaseServer) -> DatabaseServer:
        place, access = server.place, server.access
        if access is None:
            raise Conflict("a standby has roles")
        self._step("databases.pool.reserved")
        await self._servers.prepare(place, None)
        verifiers = self._passwords.verifiers(access, server.id)
        superuser = self._passwords.superuser_verifier()
        workload = self._servers.workload(place, "standby", superuser, access, verifiers)
        async with self._starts.turn():
            await self._servers.create(workload)
            self._step("databases.pool.created")
            await self._servers.start(place)
            await self._servers.until_ready(place, self._passwords.login_of_server(server))
        await self._servers.add_extensions(place, access.database, server.extensions)
        self._step("databases.pool.made")
        return (await self._store.run(partial(_ready, server=server), TEND)).value

    async def _discard(self, server: DatabaseServer) -> None:
        condemned = await self._leftovers.condemn(server)
        if condemned is not None:
            await self._leftovers.remove(condemned)


async def _ready(tx: Transaction, *, server: DatabaseServer) -> DatabaseServer:
    held = await tx.database_servers.hold(server.id)
    if held is None or held.worker != server.worker:
        raise Conflict("the standby was taken away meanwhile")
    return await tx.database_servers.save(held.change(stage="ready", worker=None))
