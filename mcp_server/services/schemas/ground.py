"""What every use case on a database stands on: its sessions, its migrations, and shadow databases of what files say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from mcp_server.domain.errors import Invalid
from mcp_server.domain.schemas.catalogs import Catalog, accounts_of_alembic, without_tables
from mcp_server.domain.schemas.changes import Changes, changes
from mcp_server.domain.schemas.folders import Folder, Migration
from mcp_server.domain.schemas.renames import Rename, renames_in
from mcp_server.domain.schemas.statements import Engine, Statement, split
from mcp_server.ports.schemas import Alembic, Engines, Folders, Limits, Session
from mcp_server.services.schemas.chains import AlembicChain, Chain, FileChain, refuse_ours
from mcp_server.services.schemas.comparing import Difference, difference, way
from mcp_server.services.schemas.places import Places

UNLIMITED = Limits(lock_timeout=30.0, statement_timeout=0)


class Ground:
    """`owner` is written into the ledger and the lock. `places` are looked up before anything else is asked."""

    def __init__(
        self,
        folders: Folders,
        engines: Engines,
        alembic: Alembic,
        places: Places,
        environment: str,
        owner: str,
    ) -> None:
        self.folders = folders
        self.engines = engines
        self.places = places
        self.environment = environment
        self.owner = owner
        self._alembic = alembic

    def url(self, folder: Folder) -> str:
        """Raises Invalid, naming the variable, where there is no address."""
        return self.places.url(folder)

    def engine(self, folder: Folder) -> Engine:
        return self.places.engine(folder)

    def place(self, folder: Folder) -> str:
        return self.engines.place_of(self.url(folder))

    @asynccontextmanager
    async def session(self, folder: Folder, *, make: bool = False) -> AsyncIterator[Session]:
        async with self.engines.open(self.places.direct(folder), self.limits(folder), make=make) as session:
            yield session

    @asynccontextmanager
    async def locked(self, folder: Folder) -> AsyncIterator[Session]:
        wait = folder.settings.lock_wait
        async with self.session(folder, make=True) as session, session.lock(self.owner, wait):
            yield session

    @asynccontextmanager
    async def shadow(self, folder: Folder) -> AsyncIterator[Session]:
        async with self.places.scratch(folder) as url, self.prepared(folder, url) as session:
            yield session

    @asynccontextmanager
    async def prepared(self, folder: Folder, url: str) -> AsyncIterator[Session]:
        """A session on an empty database, with the folder's extensions."""
        async with (
            self.engines.open(url, self.unlimited(folder), make=True) as session,
            session.lock(self.owner, 5),
        ):
            for name in folder.settings.extensions:
                quoted = name.replace('"', '""')
                make = Statement(f'CREATE EXTENSION IF NOT EXISTS "{quoted}"', 1, ("create",))
                await session.transaction([make], None)
            yield session

    async def goal(self, folder: Folder) -> Catalog:
        """The catalog of a shadow database made from schema.sql."""
        text = self.folders.schema(folder)
        if text is None:
            raise Invalid(
                f"there is no db/{folder.name}/schema.sql", next="Write it, or make it with 'db pull'."
            )
        async with self.shadow(folder) as shadow:
            await self.write_schema(folder, shadow, text)
            return own(await shadow.catalog(), folder)

    async def write_schema(self, folder: Folder, shadow: Session, text: str) -> None:
        where = f"db/{folder.name}/schema.sql"
        statements = split(text, shadow.engine, where=where)
        require_no_control(statements, where)
        await shadow.transaction(statements, None, where=where)

    async def difference(self, folder: Folder, start: Catalog, goal: Catalog) -> Difference:
        async with self.shadow(folder) as shadow:
            return await difference(shadow, start, goal, self._renames(folder))

    async def way(
        self, folder: Folder, start: Catalog, goal: Catalog, *, is_tried: bool
    ) -> tuple[Changes, tuple[str, ...]]:
        """The script, and what it cannot express; of one that was tried already only the script."""
        renames = self._renames(folder)
        if is_tried and not renames:
            return changes(start, goal), ()
        async with self.shadow(folder) as shadow:
            return await way(shadow, start, goal, renames)

    def _renames(self, folder: Folder) -> tuple[Rename, ...]:
        return renames_in(self.folders.schema(folder) or "", where=f"db/{folder.name}/schema.sql")

    def chain(self, folder: Folder) -> Chain:
        if folder.alembic is not None:
            return AlembicChain(folder, self._alembic)
        return FileChain(self.migrations(folder), self.owner)

    def migrations(self, folder: Folder) -> tuple[Migration, ...]:
        refuse_ours(folder, "Write revisions with 'alembic revision', mark them with 'alembic stamp'.")
        return self.folders.migrations(folder)

    def limits(self, folder: Folder) -> Limits:
        settings = folder.settings
        return Limits(settings.lock_timeout, settings.statement_timeout, settings.schemas)

    def unlimited(self, folder: Folder) -> Limits:
        return UNLIMITED._replace(schemas=folder.settings.schemas)


def accounts(catalog: Catalog, folder: Folder) -> tuple[str, ...]:
    """The tables in which Alembic keeps its own account, in a project of Alembic's."""
    return () if folder.alembic is None else accounts_of_alembic(catalog)


def own(catalog: Catalog, folder: Folder) -> Catalog:
    """Without what Alembic keeps for itself."""
    return without_tables(catalog, accounts(catalog, folder))


def require_no_control(statements: Sequence[Statement], where: str) -> None:
    """Raise Invalid for a statement that would end the transaction which the whole file is in."""
    for each in statements:
        if each.controls_transaction:
            raise Invalid(f"{where}, line {each.line}: the file runs in one transaction already")
