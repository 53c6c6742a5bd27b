"""The home's shared server: one PostgreSQL for many projects, each with a database and roles of its own."""

from __future__ import annotations

import hashlib
import time
from functools import partial

import anyio

from mcp_server.domain.database_setup import closed_doors, set_up
from mcp_server.domain.databases import Access, Database, DatabaseServer, Place
from mcp_server.domain.errors import Conflict, Unavailable
from mcp_server.ports.orchestrator import Progress
from mcp_server.ports.store import Transaction
from mcp_server.services.databases.leftovers import TEND
from mcp_server.services.databases.parts import Parts

CONNECTIONS = 20
"""Of one role on a shared server: one project cannot take them all."""
BETWEEN_LOOKS = 0.2
MAKING_SECONDS = 1800.0
"""How long another may be making the server: it may pull the image, and wait for its turn to start."""


class SharedServer:
    def __init__(self, parts: Parts) -> None:
        self._store = parts.store
        self._engine = parts.engine
        self._servers = parts.servers
        self._starts = parts.starts
        self._passwords = parts.passwords
        self._allocation = parts.allocation
        self._leftovers = parts.leftovers
        self._workers = parts.workers
        self._site = parts.site
        self._options = parts.options
        self._step = parts.step

    async def ready(self, image: str, progress: Progress | None = None) -> DatabaseServer:
        """The shared server of this image, made when there is none, running. One of many callers makes it."""
        deadline = time.monotonic() + MAKING_SECONDS
        server_id = self._id(image)
        while True:
            server = await self._store.read(lambda tx: tx.database_servers.get(server_id))
            if server is not None and server.stage == "ready":
                await self._keep_running(server)
                return server
            if server is not None and not self._workers.alive(server.worker):
                await self._discard(server)
            elif server is None and (mine := await self._begin(server_id, image)) is not None:
                return await self._make(mine, progress)
            if time.monotonic() > deadline:
                raise Unavailable("the shared PostgreSQL server is not getting ready")
            if progress is not None:
                await progress("waiting for the shared server")
            await anyio.sleep(BETWEEN_LOOKS)

    async def add(self, database: Database, place: Place, access: Access) -> None:
        """The project's database and roles on the server; again is no error."""
        verifiers = self._passwords.verifiers(access, database.uid)
        await self._servers.run_sql(place.ref, set_up(access, verifiers, connections=CONNECTIONS))

    def _id(self, image: str) -> str:
        return f"shared-{self._site.home[:40]}-{hashlib.sha256(image.encode()).hexdigest()[:8]}"

    async def _begin(self, server_id: str, image: str) -> DatabaseServer | None:
        """Our claim to make it; None when another was quicker."""
        mark = hashlib.sha256(server_id.encode()).hexdigest()[:12]
        port = await self._allocation.candidate(seed=server_id)
        server = DatabaseServer(
            id=server_id,
            kind="shared",
            home=self._site.home,
            host=self._site.host,
            worker=self._workers.me,
            place=Place(
                container=f"quaymaster-shared-{mark}",
                volume=f"quaymaster-shared-{mark}",
                network=f"quaymaster-shared-{mark}",
                owner=self._site.owner(),
                image=image,
                port=port,
            ),
            created_at=await self._store.read(lambda tx: tx.now()),
        )

        async def transaction(tx: Transaction) -> DatabaseServer:
            added = await tx.database_servers.add(server)
            await self._allocation.take(tx, port, server_id, "shared", await tx.now())
            return added

        try:
            return (await self._store.run(transaction, TEND)).value
        except Conflict:
            return None

    async def _make(self, server: DatabaseServer, progress: Progress | None) -> DatabaseServer:
        try:
            place = server.place
            await self._servers.prepare(place, progress)
            self._step("databases.shared.prepared")
            superuser = self._passwords.superuser_verifier()
            async with self._starts.turn(progress):
                await self._servers.create(self._servers.workload(place, "shared", superuser, None, None))
                self._step("databases.shared.created")
                await self._servers.start(place)
                await self._until_up(place)
                self._step("databases.shared.up")
            return (await self._store.run(partial(_settled, server=server), TEND)).value
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._discard(server)
            raise

    async def _until_up(self, place: Place) -> None:
        """The socket answers during initialisation, too: only what listens on TCP inside is the real server."""
        deadline = time.monotonic() + self._options.ready_seconds
        asked = ["pg_isready", "-q", "-h", "127.0.0.1", "-U", "postgres"]
        while (await self._engine.exec(place.ref, asked, timeout=10)).exit_code != 0:
            if time.monotonic() > deadline:
                raise Unavailable("the shared PostgreSQL server did not answer in time")
            await anyio.sleep(BETWEEN_LOOKS)
        await self._servers.run_sql(place.ref, closed_doors())

    async def _keep_running(self, server: DatabaseServer) -> None:
        found = await self._servers.observe(server.place)
        if found is None:
            raise Unavailable(
                "the container of the shared PostgreSQL server is gone",
                next="start_database makes it anew on its data.",
            )
        if not found.running:
            async with self._starts.turn():
                await self._servers.start(server.place)
                await self._servers.run_sql_when_up(server.place.ref, "SELECT 1;\n")

    async def _discard(self, server: DatabaseServer) -> None:
        condemned = await self._leftovers.condemn(server)
        if condemned is not None:
            await self._leftovers.remove(condemned)


async def _settled(tx: Transaction, *, server: DatabaseServer) -> DatabaseServer:
    held = await tx.database_servers.hold(server.id)
    if held is None or held.worker != server.worker:
        raise Conflict("the shared server was taken away meanwhile")
    return await tx.database_servers.save(held.change(stage="ready", worker=None))


def names_on_shared(uid: str) -> dict[str, str]:
    """Names that tell other projects nothing: the catalogue of a server is readable by all who log in."""
    mark = hashlib.sha256(uid.encode()).hexdigest()[:16]
    return {"database": f"db_{mark}", "role": f"u_{mark}", "reader": f"r_{mark}"}
