"""What Quaymaster itself has for a code base: databases that it made for projects, and backups of any.

A made database is reached as its role, which may not make databases: shadows and clones are made on its server from
inside, as scratch databases of backups are.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

import anyio

from mcp_server.domain.backups import Backup
from mcp_server.domain.callers import Caller
from mcp_server.domain.database_copies import copied, dropped_scratch, scratch, scratch_name
from mcp_server.domain.databases import Access, Database, Place
from mcp_server.domain.errors import Conflict, NotFound, Unavailable
from mcp_server.domain.queries import Target
from mcp_server.domain.redaction import redacted_text
from mcp_server.domain.schemas.addresses import serving
from mcp_server.ports.backups import BackupFiles, Scratch
from mcp_server.ports.store import Reading
from mcp_server.services.access import project_of
from mcp_server.services.backups.dumps import DUMP_SECONDS, Dumps
from mcp_server.services.backups.outside import Outside, OutsideBackups
from mcp_server.services.backups.service import Backups
from mcp_server.services.databases.parts import Parts
from mcp_server.services.queries import Targets

EXTENSIONS = "SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1;\n"
LARGEST_SCHEMA = 64 * 1024 * 1024
END_SECONDS = 30.0


class Made(NamedTuple):
    """A database that Quaymaster made. `address` holds its password; `reader` may only read."""

    database: Database
    address: str
    owner: Target
    reader: Target


class Kept(NamedTuple):
    """A backup that was restored elsewhere and compared: `tables` with their rows."""

    id: str
    bytes: int
    tables: Mapping[str, int]


class Estate:
    """As `caller` may see it: another team's projects are not found."""

    def __init__(
        self,
        parts: Parts,
        backups: Backups,
        outside: OutsideBackups,
        files: BackupFiles,
        scratch: Scratch,
        caller: Caller,
    ) -> None:
        self._parts = parts
        self._targets = Targets(parts)
        self._backups = backups
        self._outside = outside
        self._files = files
        self._scratch = scratch
        self._dumps = Dumps(parts.engine, parts.servers)
        self.caller = caller

    # -- what there is

    async def database(self, project: str, environment: str) -> Made:
        """Raises NotFound, WrongHost, and Conflict while it is being made or deleted."""

        async def reading(tx: Reading) -> Database:
            owner = await project_of(tx, self.caller, project)
            return serving(await tx.databases.of_project(owner.name), environment, owner.name)

        database = await self._parts.store.read(reading)
        owner = await self._targets.target(database, write=True)
        reader = await self._targets.target(database, write=False)
        return Made(database, self._parts.passwords.url(database).get_secret_value(), owner, reader)

    async def project_at(self, root: Path) -> str | None:
        """The name of the caller's project whose path this is; None for none, or several."""

        async def reading(tx: Reading) -> list[str]:
            found: list[str] = []
            after: str | None = None
            while True:
                page = await tx.projects.of_team(self.caller.team_id, limit=100, after=after)
                found += [each.name for each in page.items if each.path and Path(each.path) == root]
                if (after := page.cursor) is None:
                    return found

        found = await self._parts.store.read(reading)
        return found[0] if len(found) == 1 else None

    # -- copies on the server of a made database

    @asynccontextmanager
    async def empty(self, made: Made) -> AsyncIterator[str]:
        """The address of an empty database beside it, with its extensions, dropped at the end."""
        place, access = _served(made)
        name = scratch_name(f"s{secrets.token_hex(8)}")
        listed = await self._parts.servers.run_sql(place.ref, EXTENSIONS, database=access.database)
        try:
            await self._parts.servers.run_sql(place.ref, scratch(access, name, listed.split()))
            yield _address(made, name)
        finally:
            with anyio.move_on_after(END_SECONDS, shield=True):
                await self._parts.servers.run_sql(place.ref, dropped_scratch(name))

    @asynccontextmanager
    async def clone(self, made: Made) -> AsyncIterator[str]:
        """The address of a copy with all its data, dropped at the end."""
        place, access = _served(made)
        async with self.empty(made) as address:
            script = copied(access, access.change(database=urlsplit(address).path.lstrip("/")))
            done = await self._parts.engine.exec(place.ref, ["sh", "-c", script], timeout=DUMP_SECONDS)
            if done.exit_code != 0:
                words = redacted_text(" ".join(done.stderr.split())[-300:])
                raise Unavailable(f"the database could not be cloned: {words or 'no reason was given'}")
            yield address

    async def dumped_schema(self, made: Made, options: list[str]) -> str:
        """What the server's own pg_dump writes of the definitions."""
        place, access = _served(made)
        command = ["pg_dump", "--schema-only", "--no-password", *options, f"--username={access.role}"]
        done = await self._parts.engine.exec(
            place.ref, [*command, f"--dbname={access.database}"], max_output=LARGEST_SCHEMA, timeout=300
        )
        if done.exit_code != 0:
            raise Unavailable(f"pg_dump failed: {redacted_text(' '.join(done.stderr.split())[-300:])}")
        return done.stdout.decode()

    # -- backups

    async def keep(self, what: Made | Outside) -> Kept:
        """Back up and prove now. Raises what went wrong; nothing is kept then."""
        if isinstance(what, Made):
            found = await self._backup(await self._backups.make(what.database, "schema"))
        else:
            found = await self._outside.make(what)
        return Kept(found.id, found.bytes, {table.name: table.rows for table in found.tables})

    @asynccontextmanager
    async def opened(self, kept: Kept, what: Made | Outside) -> AsyncIterator[str]:
        """The address of a database with what the backup holds, gone at the end."""
        backup = await self._backup(kept.id)
        if isinstance(what, Outside):
            async with self._outside.opened(backup, what) as address:
                yield address
        elif what.database.path is not None:
            async with self._scratch.folder() as folder:
                path = f"{folder}/copy.db"
                await self._scratch.write(path, self._outside.pieces(backup))
                yield f"file:{path}"
        else:
            async with self._restored(backup, what) as address:
                yield address

    @asynccontextmanager
    async def _restored(self, backup: Backup, made: Made) -> AsyncIterator[str]:
        place, access = _served(made)
        name = scratch_name(f"s{secrets.token_hex(8)}")
        try:
            await self._dumps.restore(
                place,
                access,
                name,
                backup.extensions,
                lambda: self._files.reading(backup.file, backup.context()),
                privileges=True,
            )
            yield _address(made, name)
        finally:
            with anyio.move_on_after(END_SECONDS, shield=True):
                await self._dumps.drop(place, name)

    async def backups(self, uid: str | None = None) -> tuple[Backup, ...]:
        """Of the caller's team on this home, the oldest first; of one database, or of all."""
        home = self._parts.site.home
        found = await self._parts.store.read(lambda tx: tx.backups.of_home(home))
        return tuple(
            each for each in found if each.team_id == self.caller.team_id and uid in (None, each.database_uid)
        )

    async def write(self, id: str, path: Path) -> None:
        """Write what a verified backup of the caller's team holds to a new file, whole or not at all."""
        backup = await self._backup(id)
        if backup.team_id != self.caller.team_id or backup.stage != "kept":
            raise NotFound("there is no such verified backup", next="'quaymaster db backups -a' shows them.")
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            await self._scratch.write(str(aside), self._outside.pieces(backup))
            await anyio.Path(path).hardlink_to(aside)
        except FileExistsError:
            raise Conflict(f"there is a file {path.name} already") from None
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.Path(aside).unlink(missing_ok=True)

    async def _backup(self, id: str) -> Backup:
        found = await self._parts.store.read(lambda tx: tx.backups.get(id))
        if found is None:
            raise NotFound("there is no such backup")
        return found


OpenEstate = Callable[[], AbstractAsyncContextManager[Estate]]
"""Opened for a piece of work; on the command line that is when the home is."""


def _served(made: Made) -> tuple[Place, Access]:
    if made.database.place is None or made.database.access is None:
        raise Unavailable("the database has no server")
    return made.database.place, made.database.access


def _address(made: Made, name: str) -> str:
    return urlunsplit(urlsplit(made.address)._replace(path=f"/{name}"))
