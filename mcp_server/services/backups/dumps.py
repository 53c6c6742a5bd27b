"""pg_dump and pg_restore of the server's own version, run beside the server, as the project's role."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from mcp_server.domain.database_copies import dropped_scratch, restorable, scratch
from mcp_server.domain.databases import Access, Place
from mcp_server.domain.errors import Unavailable
from mcp_server.domain.redaction import redacted_text
from mcp_server.ports.backups import Sink
from mcp_server.ports.orchestrator import Orchestrator
from mcp_server.services.databases.servers import Servers

Pieces = Callable[[], AsyncIterator[bytes]]
"""Begins to read a dump; may be called again."""

DUMP_SECONDS = 3600.0
LIST_BYTES = 8 * 1024 * 1024
MISSING = (126, 127)


class Dumps:
    """Inside the server's container the socket lets every role in; no password is given anywhere."""

    def __init__(self, engine: Orchestrator, servers: Servers) -> None:
        self._engine = engine
        self._servers = servers

    async def dump(self, place: Place, access: Access, snapshot: str, sink: Sink) -> None:
        """The database as of the snapshot, which must stay open meanwhile. Raises Unavailable."""
        argv = [
            *("pg_dump", "--format=custom", "--compress=6", f"--snapshot={snapshot}", "--no-password"),
            *(f"--username={access.role}", f"--dbname={access.database}"),
        ]
        done = await self._engine.exec(place.ref, argv, stdout=sink, timeout=DUMP_SECONDS)
        _require(done.exit_code, done.stderr, "pg_dump")

    async def restore(
        self,
        place: Place,
        access: Access,
        name: str,
        extensions: Sequence[str],
        pieces: Pieces,
        *,
        privileges: bool,
    ) -> None:
        """A new database `name` with what the dump holds, all of it or nothing. Raises Unavailable.

        `privileges`: the dump names the same roles, so their grants come along.
        """
        await self._servers.run_sql(place.ref, scratch(access, name, extensions))
        contents = await self._engine.exec(
            place.ref, ["pg_restore", "--list"], stdin=pieces(), max_output=LIST_BYTES, timeout=DUMP_SECONDS
        )
        _require(contents.exit_code, contents.stderr, "pg_restore")
        chosen = restorable(contents.stdout.decode(errors="replace")).encode()
        list_name = f"/tmp/{name}.list"  # noqa: S108  # inside the container, of a name nobody chooses
        argv = [
            *("pg_restore", "--single-transaction", "--exit-on-error", "--no-owner", "--no-password"),
            *(f"--username={access.role}", f"--dbname={name}", f"--use-list={list_name}"),
            *(() if privileges else ("--no-privileges",)),
        ]
        # The list goes before the dump on standard input; `dd` takes exactly its bytes.
        script = f'dd bs=1 count={len(chosen)} of={list_name} 2>/dev/null && "$@"; s=$?; rm -f {list_name}; exit $s'
        done = await self._engine.exec(
            place.ref,
            ["sh", "-c", script, "sh", *argv],
            stdin=_after(chosen, pieces()),
            timeout=DUMP_SECONDS,
        )
        _require(done.exit_code, done.stderr, "pg_restore")

    async def drop(self, place: Place, name: str) -> None:
        await self._servers.run_sql(place.ref, dropped_scratch(name))

    async def run_sql(self, place: Place, sql: str) -> str:
        return await self._servers.run_sql(place.ref, sql)


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece


def _require(exit_code: int, stderr: str, program: str) -> None:
    if exit_code in MISSING:
        raise Unavailable(
            f"the image has no {program}", next="Use an image with PostgreSQL's client programs."
        )
    if exit_code != 0:
        words = " ".join(stderr.split())[-300:]
        raise Unavailable(f"{program} failed: {redacted_text(words) or 'it gave no reason'}")
