"""The use cases of `quaymaster db`, over the databases of one code base. Every one takes one database; what is dangerous
is in `dangerous`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.domain.errors import Invalid, NotFound, QuaymasterError
from mcp_server.domain.queries import Bounds, Rows, require_statement
from mcp_server.domain.queries import Statement as Typed
from mcp_server.domain.schemas.catalogs import differences
from mcp_server.domain.schemas.failures import Refused, StatementFailed
from mcp_server.domain.schemas.folders import Folder, Migration
from mcp_server.domain.schemas.statements import Engine, split
from mcp_server.domain.wording import counted
from mcp_server.ports.queries import Statements
from mcp_server.services.schemas import migrating
from mcp_server.services.schemas.answers import Listed, Rehearsed, Status, rehearsed_of, status_of
from mcp_server.services.schemas.chains import FileChain, Ran
from mcp_server.services.schemas.comparing import Difference
from mcp_server.services.schemas.dangerous import Dangerous
from mcp_server.services.schemas.ground import Ground, own, require_no_control
from mcp_server.services.schemas.seeding import run_program

if TYPE_CHECKING:
    pass

SHOWN_BYTES = 64 * 1024 * 1024
LONGEST_SECONDS = 24 * 3600.0
ANY_NUMBER = 2**62
Event = Callable[[str], None]


class Databases:
    def __init__(self, ground: Ground, statements: Statements) -> None:
        self.ground = ground
        self.folders = ground.folders
        self.places = ground.places
        self.environment = ground.environment
        self.dangerous = Dangerous(ground)
        self._statements = statements

    # -- looking ----------------------------------------------------------------------------------

    def chosen(self, names: Sequence[str], *, everything: bool = False) -> tuple[Folder, ...]:
        """Raises Invalid when none is named, NotFound for a name that is no folder."""
        found = {each.name: each for each in self.folders.all()}
        if everything:
            if not found:
                raise NotFound("there is no database below db/", next="'quaymaster db new NAME' makes one.")
            return tuple(found.values())
        if not names:
            raise Invalid("name a database", next="Pass -d NAME, or -a for all of them.")
        for name in names:
            if name not in found:
                known = ", ".join(found) or "none"
                raise NotFound(f"there is no database '{name[:100]}' below db/", next=f"There are: {known}.")
        return tuple(found[name] for name in dict.fromkeys(names))

    def list(self) -> tuple[Listed, ...]:
        return tuple(self._listed(each) for each in self.folders.all())

    async def status(self, folder: Folder) -> Status:
        chain = self.ground.chain(folder)
        async with self.ground.session(folder) as session:
            return status_of(folder.name, self.ground.place(folder), await chain.standing(session))

    def lint_all(self, folder: Folder) -> tuple[str, ...]:
        return self.ground.chain(folder).findings(self.ground.engine(folder))

    async def difference(self, folder: Folder) -> Difference:
        """Between the database and schema.sql, tried on shadow databases in both directions."""
        async with self.ground.session(folder) as session:
            live = own(await session.catalog(), folder)
        goal = await self.ground.goal(folder)
        return await self.ground.difference(folder, live, goal)

    async def validate(self, folder: Folder) -> tuple[str, ...]:
        """Problems, each in one sentence: files that cannot run, and migrations that do not lead to schema.sql.
        The database itself is not read; a shadow is made beside it."""
        chain = self.ground.chain(folder)
        chain.check(self.ground.engine(folder))
        text = self.folders.schema(folder)
        problems = list(chain.problems())
        empty = folder.alembic is None and not self.ground.migrations(folder)
        if text is None and empty:
            return (f"{folder.name} has neither schema.sql nor migrations",)
        goal = await self.ground.goal(folder) if text is not None else None
        if not empty:
            async with self.ground.shadow(folder) as shadow:
                await chain.up(shadow)
                if goal is not None:
                    reached = own(await shadow.catalog(), folder)
                    problems += [f"migrations and schema.sql: {each}" for each in differences(reached, goal)]
        return tuple(problems)

    def new(self, name: str, engine: Engine) -> tuple[Path, str]:
        """The folder of a new database, and the variable of its address. Raises Conflict for one that exists."""
        folder = self.folders.make(name, engine)
        return folder.path, folder.variable

    @asynccontextmanager
    async def model(self, folder: Folder) -> AsyncIterator[str]:
        """The address of a shadow database as schema.sql says, else as migrations do; where there are neither,
        that of the database itself."""
        text = self.folders.schema(folder)
        if text is None and folder.alembic is None and not self.ground.migrations(folder):
            yield self.ground.url(folder)
            return
        async with self.places.scratch(folder) as url:
            async with self.ground.prepared(folder, url) as shadow:
                if text is None:
                    await self.ground.chain(folder).up(shadow)
                else:
                    await self.ground.write_schema(folder, shadow, text)
            yield url

    # -- migrations -------------------------------------------------------------------------------

    async def deploy(
        self,
        folder: Folder,
        *,
        tell: Event,
        allow_missing: bool = False,
        allow_out_of_order: bool = False,
    ) -> tuple[str, ...]:
        """Apply what is pending; the labels of what was."""
        async with self.ground.locked(folder) as session:
            return await self.ground.chain(folder).up(
                session,
                tell=lambda ran: tell(ran.label),
                allow_missing=allow_missing,
                allow_out_of_order=allow_out_of_order,
            )

    async def write_migration(self, folder: Folder, name: str) -> tuple[Path, Difference]:
        """The folder of a new migration from the database to schema.sql; rehearsed in both directions. Pending
        migrations count as applied. Raises Refused when there is nothing to do."""
        files = self.ground.migrations(folder)
        goal = await self.ground.goal(folder)
        async with self.ground.shadow(folder) as shadow:
            await FileChain(files, self.ground.owner).up(shadow)
            start = await shadow.catalog()
        found = await self.ground.difference(folder, start, goal)
        if not found.up:
            raise Refused(
                f"{folder.name}: migrations already lead to schema.sql",
                next="Change schema.sql first, or pass --empty for a migration to write by hand.",
            )
        path = self.folders.write_migration(folder, self._version(files), name, found.up, found.down)
        return path, found

    def write_empty(self, folder: Folder, name: str) -> Path:
        files = self.ground.migrations(folder)
        return self.folders.write_migration(folder, self._version(files), name, "", "")

    async def is_behind_schema(self, folder: Folder) -> bool:
        """Whether schema.sql says anything else than the database."""
        if folder.alembic is not None or self.folders.schema(folder) is None:
            return False
        goal = await self.ground.goal(folder)
        async with self.ground.session(folder) as session:
            return bool(differences(await session.catalog(), goal))

    async def resolve(self, folder: Folder, version: str, decision: str, done: int) -> str:
        files = self.ground.migrations(folder)
        async with self.ground.locked(folder) as session:
            return await migrating.resolve(session, files, version, decision, self.ground.owner, done)

    async def rehearse(self, folder: Folder) -> tuple[tuple[Rehearsed, ...], tuple[str, ...]]:
        """What pending migrations do to a clone with all its data, and how the clone then differs from schema.sql."""
        report: list[Rehearsed] = []
        began = time.monotonic()

        def note(ran: Ran) -> None:
            nonlocal began
            taken = time.monotonic() - began if ran.seconds is None else ran.seconds
            report.append(rehearsed_of(ran, taken))
            began = time.monotonic()

        goal = await self.ground.goal(folder) if self.folders.schema(folder) is not None else None
        async with (
            self.places.clone(folder) as clone,
            self.ground.engines.open(clone, self.ground.limits(folder), make=True) as session,
            session.lock(self.ground.owner, 5),
        ):
            began = time.monotonic()
            await self.ground.chain(folder).up(session, tell=note, watch=True)
            reached = own(await session.catalog(), folder)
            drift = differences(reached, goal) if goal is not None else ()
        return tuple(report), drift

    # -- rows -------------------------------------------------------------------------------------

    async def seed(self, folder: Folder, *, may_run_programs: bool = True) -> str:
        """Run seed.sql in one transaction, or seed.py with the address in its environment."""
        path = self.folders.seed(folder)
        if path is None:
            raise NotFound(f"{folder.name} has neither seed.sql nor seed.py")
        if path.suffix == ".py":
            if not may_run_programs:
                raise Refused("seed.py is a program; it runs from the command line only")
            return await run_program(path, self.folders.root, folder.variable, self.ground.url(folder))
        engine = self.ground.engine(folder)
        where = f"db/{folder.name}/seed.sql"
        statements = split(self.folders.read(path), engine, where=where)
        require_no_control(statements, where)
        async with self.ground.locked(folder) as session:
            await session.transaction(statements, None, where=where)
        return counted(len(statements), "statement")

    async def execute(self, folder: Folder, sql: str, *, write: bool, limit: int = 1000) -> Rows:
        """One statement through the gate of `Statements`; what is written is kept, whatever it loses.

        Raises Invalid for none or several, StatementFailed with the database's words.
        """
        if len(split(sql, self.ground.engine(folder))) != 1:
            raise Invalid("one statement at a time", next="Put several into a migration or into seed.sql.")
        statement = require_statement(Typed(sql=sql))
        target = self.places.target(folder, write=write)
        seconds = folder.settings.statement_timeout or LONGEST_SECONDS
        bounds = Bounds(rows=limit, bytes=SHOWN_BYTES, seconds=seconds, changes=ANY_NUMBER)
        try:
            if not write:
                return await self._statements.read(target, statement, bounds)
            written = await self._statements.write(target, statement, bounds, None)
            if not written.kept:
                written = await self._statements.write(target, statement, bounds, written.effects)
            return written.rows
        except Invalid as error:
            raise _failed(error) from error

    def _version(self, files: Sequence[Migration]) -> str:
        version = f"{_now():%Y%m%d%H%M%S}"
        newest = max((each.order for each in files), default=0)
        return version if int(version) > newest else str(newest + 1)

    def _listed(self, folder: Folder) -> Listed:
        url, source = None, self.places.addresses.source(folder)
        try:
            url = self.places.addresses.url(folder)
        except QuaymasterError as error:
            source = error.message
        return Listed(
            name=folder.name,
            engine=self.ground.engines.engine_of(url) if url else folder.settings.engine,
            variable=folder.variable,
            source=source,
            place=self.ground.engines.place_of(url) if url else None,
            migrations=0 if folder.alembic else len(self.folders.migrations(folder)),
            has_schema=self.folders.schema(folder) is not None,
            has_seed=self.folders.seed(folder) is not None,
            alembic=folder.alembic is not None,
        )


def _failed(error: Invalid) -> StatementFailed:
    """In the words of the database, for whoever can see its rows anyway."""
    words = str(error.details.get("server_message") or error.message)
    if error.details.get("fault") == "read_only":
        return StatementFailed(words, next="Pass --write where it is meant to change something.")
    return StatementFailed(words, next=error.details.get("hint"))


def _now() -> datetime:
    return datetime.now(UTC)
