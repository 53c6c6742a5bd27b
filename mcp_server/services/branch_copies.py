"""The copy that a branch is: of a file by SQLite's backup, of a PostgreSQL database by its files or by a dump."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from mcp_server.domain.backups import Branch
from mcp_server.domain.database_copies import branch_roles, branched, copied, scratch
from mcp_server.domain.databases import Access, Database, Place
from mcp_server.domain.errors import Conflict, Invalid
from mcp_server.domain.queries import SqliteFile
from mcp_server.domain.redaction import redacted_text
from mcp_server.ports.backups import SqliteCopies
from mcp_server.services.backups.dumps import DUMP_SECONDS
from mcp_server.services.databases.parts import Parts
from mcp_server.services.works import Work

LOCK_SECONDS = 5.0
"""How long a source may be shut to new sessions for a copy of its files; what takes longer is copied by a dump."""


class BranchCopies:
    """`most_bytes`: a larger source is not copied."""

    def __init__(
        self,
        parts: Parts,
        sqlite_file: Callable[[Database], Awaitable[SqliteFile]],
        copies: SqliteCopies,
        *,
        most_bytes: int,
    ) -> None:
        self._parts = parts
        self._sqlite_file = sqlite_file
        self._copies = copies
        self._most_bytes = most_bytes

    async def of_file(self, database: Database, branch: Branch) -> tuple[int, str]:
        source = await self._sqlite_file(database)
        path = branch.path or ""
        await self._parts.files.create(source.root, path)
        await self._copies.copy(source, path)
        size = await self._copies.size(path)
        if size > self._most_bytes:
            raise _too_large(size, self._most_bytes)
        return size, source.root

    async def of_postgres(self, work: Work, database: Database, branch: Branch) -> int:
        place, source, access = _parts_of(database, branch)
        servers = self._parts.servers
        size = int(
            await servers.run_sql(place.ref, f"SELECT pg_database_size('{source.database}');\n")
        )  # a name of ours
        if size > self._most_bytes:
            raise _too_large(size, self._most_bytes)
        await servers.run_sql(
            place.ref, branch_roles(access, self._parts.passwords.verifiers(access, branch.uid))
        )
        self._parts.step("branch.roles")
        if not await self._by_files(work, database, place, source, access):
            await work.tell("dumping and restoring")
            await self._by_dump(place, source, access)
        return size

    async def _by_files(
        self, work: Work, database: Database, place: Place, source: Access, access: Access
    ) -> bool:
        """The quick way, where nobody has to be sent away for it. On a shared server it would leave rights of the
        source's roles behind, which then could not be dropped."""
        if database.isolation != "container":
            return False
        servers = self._parts.servers
        asked = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{source.database}';\n"  # noqa: S608  # ours
        if int(await servers.run_sql(place.ref, asked)):
            return False
        await work.tell("copying the files")
        try:
            await servers.run_sql(place.ref, branched(source, access, seconds=LOCK_SECONDS))
        except Invalid:
            # Somebody came, or it took too long.
            return False
        return True

    async def _by_dump(self, place: Place, source: Access, access: Access) -> None:
        servers = self._parts.servers
        listed = await servers.run_sql(
            place.ref,
            "SELECT extname FROM pg_extension WHERE extname <> 'plpgsql';\n",
            database=source.database,
        )
        await servers.run_sql(place.ref, scratch(access, access.database, listed.split()))
        done = await self._parts.engine.exec(
            place.ref, ["sh", "-c", copied(source, access)], timeout=DUMP_SECONDS
        )
        if done.exit_code != 0:
            raise Conflict(f"the copy failed: {redacted_text(' '.join(done.stderr.split())[-300:])}")


def _parts_of(database: Database, branch: Branch) -> tuple[Place, Access, Access]:
    if database.place is None or database.access is None or branch.access is None:
        raise Conflict("the database has no server")
    return database.place, database.access, branch.access


def _too_large(size: int, most: int) -> Invalid:
    return Invalid(
        f"the database has {size // 1024**2} MiB; branches are made up to {most // 1024**2} MiB",
        next="Restore a backup into a database of its own instead, or ask the operator for a higher bound.",
    )
