"""The place of each database of a code base: its addresses, who types statements there, its copies, its backups.

What Quaymaster made is copied and kept by its server, everything else by the programs of this host.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.domain.errors import Invalid, NotFound
from mcp_server.domain.queries import SqliteFile, Target
from mcp_server.domain.schemas.addresses import identity_of, login_of
from mcp_server.domain.schemas.dumped import plain, schema_options
from mcp_server.domain.schemas.folders import Folder
from mcp_server.domain.schemas.statements import Engine
from mcp_server.ports.schemas import Engines, Folders
from mcp_server.services.schemas.addresses import Addresses

if TYPE_CHECKING:
    from mcp_server.domain.backups import Backup
    from mcp_server.services.backups.outside import Outside
    from mcp_server.services.schemas.estate import Kept, Made, OpenEstate


class Places:
    """`open_estate` gives what Quaymaster made, and backups; `project` is the caller's, where one was named.

    `is_home`: whether there is a home that could know a project here; a command that looks makes none.
    """

    def __init__(
        self,
        folders: Folders,
        engines: Engines,
        environment: str,
        open_estate: OpenEstate,
        project: str | None = None,
        is_home: Callable[[], bool] = lambda: True,
    ) -> None:
        self.addresses = Addresses(folders, environment, is_home)
        self._folders = folders
        self._engines = engines
        self._open_estate = open_estate
        self._project = project

    async def look_up(self) -> None:
        """Find what Quaymaster made, for folders whose variables are not set. To be done first."""
        folders = self._folders.all()
        if self.addresses.wanting(folders):
            async with self._open_estate() as estate:
                await self.addresses.look_up(estate, folders, self._project)

    # -- addresses

    def url(self, folder: Folder) -> str:
        """Raises Invalid, naming the variable, where there is no address."""
        found = self.addresses.url(folder)
        if not found:
            raise Invalid(
                f"{folder.name}: {folder.variable} is not set",
                next=self._wanted(),
            )
        engine = self._engines.engine_of(found)
        if folder.settings.engine not in (None, engine):
            raise Invalid(
                f"{folder.name}: {self.addresses.source(folder)} is an address of {engine}, database.toml says "
                f"{folder.settings.engine}"
            )
        if engine == "sqlite" and (folder.settings.schemas or folder.settings.extensions):
            raise Invalid(f"{folder.name}: a SQLite database has no schemas and no extensions")
        return found

    def _wanted(self) -> str:
        there = (
            "in the environment, in" if self._folders.reads_environment else f"below {self._folders.root}, in"
        )
        return (
            f"Set it {there} .env, or in .env.dev or .env.prod; or let 'project' in database.toml name the project "
            "that has the database."
        )

    def direct(self, folder: Folder) -> str:
        """Around a pooler."""
        return self.addresses.url(folder, "DIRECT") or self.url(folder)

    def engine(self, folder: Folder) -> Engine:
        return folder.settings.engine or self._engines.engine_of(self.url(folder))

    def target(self, folder: Folder, *, write: bool) -> Target:
        """Where a typed statement goes: one that reads as a role that may only read, where there is one."""
        made = self.addresses.made(folder)
        if made is not None:
            return made.owner if write else made.reader
        reader = None if write else self.addresses.url(folder, "READER")
        url = reader or self.direct(folder)
        if self._engines.engine_of(url) == "postgres":
            return login_of(url)
        path, root = Path(self._engines.place_of(url)).absolute(), self._folders.root.absolute()
        if path.is_relative_to(root):
            return SqliteFile(root=str(root), path=str(path))
        return SqliteFile(root=str(path.resolve().parent), path=str(path.resolve()))

    def is_guarded(self, folder: Folder) -> bool:
        """Whether a role that may only read stands behind `target`."""
        return self.addresses.made(folder) is not None or bool(self.addresses.url(folder, "READER"))

    # -- copies

    @asynccontextmanager
    async def scratch(self, folder: Folder) -> AsyncIterator[str]:
        """The address of an empty database like the folder's, dropped at the end."""
        made = self._served(folder)
        if made is None:
            async with self._engines.scratch(self._shadowed(folder), self._shadow(folder)) as url:
                yield url
        else:
            async with self._open_estate() as estate, estate.empty(made) as url:
                yield url

    @asynccontextmanager
    async def clone(self, folder: Folder) -> AsyncIterator[str]:
        """The address of a copy with all data, dropped at the end."""
        made = self._served(folder)
        if made is None:
            async with self.scratch(folder) as url:
                await self._engines.clone(self.direct(folder), url)
                yield url
        else:
            async with self._open_estate() as estate, estate.clone(made) as url:
                yield url

    async def schema_text(self, folder: Folder, *, without: Sequence[str] = ()) -> str:
        """The schema as SQL that makes it again; not the tables `without`."""
        made, schemas = self._served(folder), folder.settings.schemas
        if made is None:
            return await self._engines.schema_text(self.direct(folder), schemas, without=without)
        async with self._open_estate() as estate:
            return plain(await estate.dumped_schema(made, schema_options(schemas, without=without)))

    # -- backups

    async def keep(self, folder: Folder) -> Kept:
        """A proved backup. Raises what went wrong; nothing is kept then."""
        async with self._open_estate() as estate:
            return await estate.keep(self._subject(folder, estate.caller.team_id))

    @asynccontextmanager
    async def opened(self, folder: Folder, kept: Kept) -> AsyncIterator[str]:
        """The address of a database with what the backup holds, gone at the end."""
        async with self._open_estate() as estate:
            subject = self._subject(folder, estate.caller.team_id)
            async with estate.opened(kept, subject) as url:
                yield url

    async def backups(self, folder: Folder) -> tuple[Backup, ...]:
        """Of this database, the oldest first; failed ones, too."""
        async with self._open_estate() as estate:
            made = self.addresses.made(folder)
            uid = self._identity(folder) if made is None else made.database.uid
            return await estate.backups(uid)

    async def export(self, folder: Folder, id: str, path: Path) -> None:
        """Write what a verified backup holds to a new file for its owner only: for pg_restore, or SQLite's own.

        Raises NotFound, Conflict where there is a file, Corrupt for a backup that was changed.
        """
        if id not in {each.id for each in await self.backups(folder)}:
            raise NotFound(
                f"{folder.name} has no backup {id[:64]}", next="'quaymaster db backups -a' shows them."
            )
        async with self._open_estate() as estate:
            await estate.write(id, path)

    # -- steps

    def _subject(self, folder: Folder, team_id: str) -> Made | Outside:
        made = self.addresses.made(folder)
        if made is not None:
            return made
        from mcp_server.services.backups.outside import Outside
        from mcp_server.services.schemas.host_programs import HostPrograms

        url = self.direct(folder)
        engine = self._engines.engine_of(url)
        return Outside(
            uid=self._identity(folder),
            target=self.target(folder, write=True),
            programs=HostPrograms(self._engines, url, self._shadow(folder)) if engine == "postgres" else None,
            team_id=team_id,
            project=self._project,
        )

    def _identity(self, folder: Folder) -> str:
        url = self.direct(folder)
        return identity_of(self._engines.engine_of(url), self._engines.place_of(url))

    def _served(self, folder: Folder) -> Made | None:
        """What Quaymaster made for the folder, where that has a server."""
        if self._shadow(folder):
            return None
        made = self.addresses.made(folder)
        return made if made is not None and made.database.place is not None else None

    def _shadow(self, folder: Folder) -> str | None:
        return self.addresses.url(folder, "SHADOW")

    def _shadowed(self, folder: Folder) -> str:
        """An address of the engine that a shadow is made on; a SQLite file or a shadow's own needs no other."""
        if folder.settings.engine == "sqlite":
            return "sqlite:///"
        return self._shadow(folder) or self.direct(folder)
