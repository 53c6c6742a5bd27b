"""PostgreSQL servers on the engine: made, waited for, told what to do, taken away. Records are not its matter."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from weakref import WeakValueDictionary

import anyio

from mcp_server.domain.database_setup import Verifiers, extension_lines, set_up
from mcp_server.domain.databases import Access, Login, Place
from mcp_server.domain.errors import Conflict, Invalid, NotFound, QuaymasterError, Unavailable
from mcp_server.domain.our_workloads import database_workload
from mcp_server.domain.redaction import redacted_text
from mcp_server.domain.workloads import Attachment, Network, Observed, Ref, Volume, Workload
from mcp_server.ports.databases import Logins
from mcp_server.ports.orchestrator import Orchestrator, Progress
from mcp_server.services.databases.options import Options

BETWEEN_TRIES = 0.03
BETWEEN_LOOKS = 1.0
ONE_TRY = 2.0
AT_ONCE = 4
"""Scripts inside one server: the beginning of each takes a dozen of the tasks that its container may have."""
COLLISION = "tuple concurrently updated"
"""What PostgreSQL says to one of two who change a role at the same time."""
NO_CONNECTION = 2
"""psql's exit code when the server takes no connection (yet)."""


class Servers:
    def __init__(self, orchestrator: Orchestrator, logins: Logins, options: Options) -> None:
        self._engine = orchestrator
        self._logins = logins
        self._options = options
        self._turns: WeakValueDictionary[str, anyio.Semaphore] = WeakValueDictionary()

    # -- making

    async def prepare(self, place: Place, progress: Progress | None) -> bool:
        """Image, network and volume; whether the volume was made now, and so is empty."""
        await self._engine.ensure_image(place.image, progress)
        await self._engine.ensure_network(Network(name=place.network, owner=place.owner))
        return await self._engine.ensure_volume(Volume(name=place.volume, owner=place.owner))

    async def create(self, workload: Workload) -> None:
        """A left-over container of ours under this name goes first: no record speaks of it."""
        try:
            await self._engine.create(workload)
        except Conflict as error:
            if error.details.get("owner") != "ours":
                raise
            await self._engine.remove(workload.ref)
            await self._engine.create(workload)

    async def start(self, place: Place) -> None:
        """Raises Conflict with `port` in its details when the port is taken."""
        await self._engine.start(place.ref)

    def workload(
        self, place: Place, kind: str, superuser: str, access: Access | None, verifiers: Verifiers | None
    ) -> Workload:
        """With the project's roles made before the server first listens; without access only the superuser."""
        first_steps = "" if access is None or verifiers is None else set_up(access, verifiers)
        return database_workload(
            name=place.container,
            owner=place.owner,
            image=place.image,
            volume=place.volume,
            port=place.port,
            superuser_verifier=superuser,
            first_steps=first_steps,
            networks=(Attachment(network=place.network, aliases=(place.container,)),),
            limits=self._options.limits,
            kind=kind,
        )

    # -- waiting

    async def until_ready(self, place: Place, login: Login) -> None:
        """Return when a login through the published port ran a query.

        Raises Unavailable when that does not happen in time, or the server ends.
        """
        begun = time.monotonic()
        deadline, look_at = begun + self._options.ready_seconds, begun + BETWEEN_LOOKS
        while (why := await self._logins.answers(login, seconds=ONE_TRY)) is not None:
            now = time.monotonic()
            if now >= deadline:
                raise Unavailable(
                    f"PostgreSQL did not answer within {self._options.ready_seconds:g} s ({why}).{await self._last_words(place)}"
                )
            if now >= look_at:
                await self._require_running(place)
                look_at = now + BETWEEN_LOOKS
            # A server that takes long has too little of the machine: asking often would take more of it.
            await anyio.sleep(max(BETWEEN_TRIES, (now - begun) / 40))

    async def _require_running(self, place: Place) -> None:
        found = await self._engine.inspect(place.container)
        if found is None:
            raise Unavailable("its container was removed while it started")
        if found.state in ("exited", "dead") or found.restarts:
            raise Unavailable(f"PostgreSQL ended while it started.{await self._last_words(place)}")

    async def _last_words(self, place: Place) -> str:
        with suppress(QuaymasterError):
            logs = await self._engine.logs(place.ref, tail=3, max_bytes=600)
            words = " ".join(logs.text.split())
            return f" Its last words: {redacted_text(words)}" if words else ""
        return ""

    # -- inside

    async def run_sql(self, server: Ref, sql: str, *, database: str = "postgres") -> str:
        """Run a script as the superuser over the socket inside, and return what it printed.

        Raises Unavailable when the server takes no connection, Invalid with PostgreSQL's words when it refuses.
        The script comes by standard input; it stands in no argument.
        """
        command = ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database]
        async with self._turns.setdefault(server.name, anyio.Semaphore(AT_ONCE)):
            done = await self._engine.exec(server, command, stdin=sql.encode(), timeout=60)
        if done.exit_code == NO_CONNECTION or done.exit_code in (126, 127):
            raise Unavailable("the database's server takes no connection")
        if done.exit_code != 0:
            raise Invalid(f"PostgreSQL refused: {_first_error(done.stderr)}")
        return done.stdout.decode(errors="replace")

    async def run_sql_when_up(self, server: Ref, sql: str) -> None:
        """The same on a server that is starting on data that it has already, where others may run the same script."""
        deadline = time.monotonic() + self._options.ready_seconds
        while True:
            try:
                await self.run_sql(server, sql)
                return
            except Unavailable:
                if time.monotonic() >= deadline:
                    raise
            except Invalid as error:
                if COLLISION not in error.message or time.monotonic() >= deadline:
                    raise
            await anyio.sleep(BETWEEN_TRIES * 3)

    async def add_extensions(self, place: Place, database: str, extensions: Sequence[str]) -> None:
        """Raises Invalid, naming the image, for one that it does not have."""
        if not extensions:
            return
        names = ", ".join(f"'{name}'" for name in extensions)
        offered = await self.run_sql(
            place.ref,
            f"SELECT name FROM pg_available_extensions WHERE name IN ({names});\n",  # noqa: S608  # of a closed list
            database=database,
        )
        missing = sorted(set(extensions) - set(offered.split()))
        if missing:
            raise Invalid(
                f"the image {place.image} does not have the extension {', '.join(missing)}",
                next="Leave it out, or ask the operator for an image that has it "
                "(QUAYMASTER_POSTGRES_IMAGE, QUAYMASTER_POSTGRES_VECTOR_IMAGE).",
                fields={"extensions": f"not in the image: {', '.join(missing)}"},
            )
        await self.run_sql(place.ref, "\n".join([*extension_lines(extensions), ""]), database=database)

    # -- changing

    async def change_password(self, login: Login, verifier: str) -> bool:
        """The role's own, by a login of its own. False: it is not known whether that was done."""
        try:
            await self._logins.change_password(login, verifier, seconds=2 * ONE_TRY)
        except Unavailable:
            return False
        return True

    async def lets_in(self, login: Login) -> bool:
        return await self._logins.answers(login, seconds=ONE_TRY) is None

    async def rename(self, place: Place, name: str) -> None:
        """A left-over of ours under the new name goes first."""
        try:
            await self._engine.rename(place.ref, name)
        except Conflict as error:
            if error.details.get("owner") != "ours":
                raise
            await self._engine.remove(Ref(name=name, owner=place.owner))
            await self._engine.rename(place.ref, name)

    async def join(self, place: Place, network: Network) -> None:
        """Reachable on this network, too, by the container's name."""
        await self._engine.connect(place.ref, network, (place.container,))

    async def stop(self, place: Place) -> None:
        await self._engine.stop(place.ref)

    async def observe(self, place: Place) -> Observed | None:
        """None when there is no such container, or it is somebody else's."""
        found = await self._engine.inspect(place.container)
        return found if found is not None and place.owner.owns(found.labels) else None

    # -- taking away

    async def dismantle(
        self, place: Place, *, keep_volume: bool, also_named: str | None = None, networks: Sequence[Ref] = ()
    ) -> None:
        """Container, volume and networks, as far as they are there and ours. May be called again.

        `also_named`: the name that the container may still bear. A network in which others are stays.
        """
        for name in dict.fromkeys((place.container, also_named or place.container)):
            with suppress(Conflict, NotFound):
                await self._engine.remove(Ref(name=name, owner=place.owner))
        if not keep_volume:
            with suppress(NotFound):
                await self._remove_volume(place)
        for network in (Ref(name=place.network, owner=place.owner), *networks):
            with suppress(Conflict, NotFound):
                await self._engine.remove_network(network)

    async def _remove_volume(self, place: Place) -> None:
        """Somebody else's is left alone; ours that is still mounted is an error to try again."""
        try:
            await self._engine.remove_volume(Ref(name=place.volume, owner=place.owner))
        except Conflict as error:
            if error.details.get("owner") != "foreign":
                raise


def _first_error(stderr: str) -> str:
    """PostgreSQL's first complaint, without the statement that it quotes."""
    for line in stderr.splitlines():
        if "ERROR:" in line or "FATAL:" in line:
            return redacted_text(line.partition(": ")[2] if line.startswith("psql:") else line)[:300]
    return "it gave no reason"
