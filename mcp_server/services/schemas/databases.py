"""The use cases of `quaymaster db`, over the databases of one code base.

Every one takes one database. What is dangerous is first planned and then, with somebody's consent, done: the plan is
made again under the lock, and anything that moved in between refuses it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp_server.domain.errors import Invalid, NotFound, PlanStale, QuaymasterError
from mcp_server.domain.queries import Bounds, Rows, require_statement
from mcp_server.domain.queries import Statement as Typed
from mcp_server.domain.schemas.catalogs import Catalog, differences, without_table
from mcp_server.domain.schemas.changes import Changes, changes
from mcp_server.domain.schemas.danger import Action, Danger, digest_of
from mcp_server.domain.schemas.failures import Refused, StatementFailed
from mcp_server.domain.schemas.folders import Folder, Migration
from mcp_server.domain.schemas.renames import Rename, renames_in
from mcp_server.domain.schemas.statements import Engine, Statement, split
from mcp_server.ports.queries import Statements
from mcp_server.ports.schemas import Alembic, Engines, Folders, Limits, Session
from mcp_server.services.schemas import migrating, tokens
from mcp_server.services.schemas.answers import Listed, Rehearsed, Status, rehearsed_of, status_of
from mcp_server.services.schemas.chains import AlembicChain, Chain, FileChain, Ran, refuse_ours
from mcp_server.services.schemas.comparing import Difference, difference, statements_of, way
from mcp_server.services.schemas.places import Places
from mcp_server.services.schemas.seeding import run_program

if TYPE_CHECKING:
    from mcp_server.services.schemas.estate import Kept

SHOWN_BYTES = 64 * 1024 * 1024
LONGEST_SECONDS = 24 * 3600.0
ANY_NUMBER = 2**62
UNLIMITED = Limits(lock_timeout=30.0, statement_timeout=0)
ALEMBIC = "alembic_version"
"""The table in which Alembic keeps its own account."""
Environment = str
Event = Callable[[str], None]


class Databases:
    """`owner` is written into the ledger and the lock. `places` are looked up before anything else is asked."""

    def __init__(
        self,
        folders: Folders,
        engines: Engines,
        alembic: Alembic,
        statements: Statements,
        places: Places,
        environment: Environment,
        owner: str,
    ) -> None:
        self.folders = folders
        self.environment = environment
        self._engines = engines
        self._alembic = alembic
        self._statements = statements
        self.places = places
        self._owner = owner

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
        chain = self._chain(folder)
        async with self._session(folder) as session:
            return status_of(folder.name, self.place(folder), await chain.standing(session))

    def lint_all(self, folder: Folder) -> tuple[str, ...]:
        return self._chain(folder).findings(self.engine(folder))

    async def difference(self, folder: Folder) -> Difference:
        """Between the database and schema.sql, tried on shadow databases in both directions."""
        async with self._session(folder) as session:
            live = _own(await session.catalog(), folder)
        goal = await self._goal(folder)
        return await self._difference(folder, live, goal)

    async def validate(self, folder: Folder) -> tuple[str, ...]:
        """Problems, each in one sentence: files that cannot run, and migrations that do not lead to schema.sql.
        The database itself is not read; a shadow is made beside it."""
        chain = self._chain(folder)
        chain.check(self.engine(folder))
        text = self.folders.schema(folder)
        problems = list(chain.problems())
        empty = folder.alembic is None and not self._migrations(folder)
        if text is None and empty:
            return (f"{folder.name} has neither schema.sql nor migrations",)
        goal = await self._goal(folder) if text is not None else None
        if not empty:
            async with self._shadow(folder) as shadow:
                await chain.up(shadow)
                if goal is not None:
                    reached = _own(await shadow.catalog(), folder)
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
        if text is None and folder.alembic is None and not self._migrations(folder):
            yield self.url(folder)
            return
        async with self.places.scratch(folder) as url:
            async with self._prepared(folder, url) as shadow:
                if text is None:
                    await self._chain(folder).up(shadow)
                else:
                    await self._write_schema(folder, shadow, text)
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
        async with self._locked(folder) as session:
            return await self._chain(folder).up(
                session,
                tell=lambda ran: tell(ran.label),
                allow_missing=allow_missing,
                allow_out_of_order=allow_out_of_order,
            )

    async def write_migration(self, folder: Folder, name: str) -> tuple[Path, Difference]:
        """The folder of a new migration from the database to schema.sql; rehearsed in both directions. Pending
        migrations count as applied. Raises Refused when there is nothing to do."""
        files = self._migrations(folder)
        goal = await self._goal(folder)
        async with self._shadow(folder) as shadow:
            await FileChain(files, self._owner).up(shadow)
            start = await shadow.catalog()
        found = await self._difference(folder, start, goal)
        if not found.up:
            raise Refused(
                f"{folder.name}: migrations already lead to schema.sql",
                next="Change schema.sql first, or pass --empty for a migration to write by hand.",
            )
        path = self.folders.write_migration(folder, self._version(files), name, found.up, found.down)
        return path, found

    def write_empty(self, folder: Folder, name: str) -> Path:
        files = self._migrations(folder)
        return self.folders.write_migration(folder, self._version(files), name, "", "")

    async def is_behind_schema(self, folder: Folder) -> bool:
        """Whether schema.sql says anything else than the database."""
        if folder.alembic is not None or self.folders.schema(folder) is None:
            return False
        goal = await self._goal(folder)
        async with self._session(folder) as session:
            return bool(differences(await session.catalog(), goal))

    async def resolve(self, folder: Folder, version: str, decision: str, done: int) -> str:
        files = self._migrations(folder)
        async with self._locked(folder) as session:
            return await migrating.resolve(session, files, version, decision, self._owner, done)

    async def rehearse(self, folder: Folder) -> tuple[tuple[Rehearsed, ...], tuple[str, ...]]:
        """What pending migrations do to a clone with all its data, and how the clone then differs from schema.sql."""
        report: list[Rehearsed] = []
        began = time.monotonic()

        def note(ran: Ran) -> None:
            nonlocal began
            report.append(rehearsed_of(ran, time.monotonic() - began))
            began = time.monotonic()

        goal = await self._goal(folder) if self.folders.schema(folder) is not None else None
        async with (
            self.places.clone(folder) as clone,
            self._engines.open(clone, self._limits(folder), make=True) as session,
            session.lock(self._owner, 5),
        ):
            began = time.monotonic()
            await self._chain(folder).up(session, tell=note, watch=True)
            reached = _own(await session.catalog(), folder)
            drift = differences(reached, goal) if goal is not None else ()
        return tuple(report), drift

    # -- danger -----------------------------------------------------------------------------------

    async def plan(self, folder: Folder, action: Action, target: str = "") -> Danger:
        """What the action would do. Raises Refused where it may not be done in this environment."""
        self._require_allowed(folder, action)
        if action == "pull":
            return await self._plan_pull(folder)
        async with self._session(folder) as session:
            return await self._plan(folder, session, action, target)

    async def reset(self, folder: Folder, plan: Danger, *, tell: Event, backup: bool = True) -> Kept | None:
        """Erase everything and migrate from the start."""
        chain = self._chain(folder)
        chain.check(self.engine(folder))
        async with self._consented(folder, plan, "", backup) as (session, saved):
            if saved is not None:
                tell(_backup_told(saved))
            await session.erase()
            await chain.up(session)
        return saved

    async def rollback(
        self, folder: Folder, plan: Danger, target: str, *, tell: Event, backup: bool = True
    ) -> tuple[str, ...]:
        """Run the down files of what lies behind the target, newest first, one transaction each."""
        async with self._consented(folder, plan, target, backup) as (session, saved):
            if saved is not None:
                tell(_backup_told(saved))
                await self._rehearse_down(folder, saved, target)
            return await self._chain(folder).down(session, target, tell=lambda ran: tell(ran.label))

    async def push(
        self, folder: Folder, plan: Danger, *, tell: Event, accept_data_loss: bool, backup: bool = True
    ) -> tuple[str, ...]:
        """Make the database as schema.sql says, in one transaction; what could not be expressed."""
        self.require_accepted(plan, accept_data_loss=accept_data_loss)
        goal = await self._goal(folder)
        async with self._consented(folder, plan, "", backup) as (session, saved):
            if saved is not None:
                tell(_backup_told(saved))
            script = await self._way(folder, _own(await session.catalog(), folder), goal)
            await session.transaction(statements_of(script), None, where="push")
            return differences(_own(await session.catalog(), folder), goal)

    def require_accepted(self, plan: Danger, *, accept_data_loss: bool) -> None:
        """Raise Refused for a plan that loses data where nobody said that it may."""
        if plan.losses and not accept_data_loss:
            raise Refused(
                f"data would be lost: {'; '.join(plan.losses)}",
                next="Pass --accept-data-loss when that is meant. Nothing has been changed.",
            )

    async def pull(self, folder: Folder, plan: Danger) -> Path:
        """Overwrite schema.sql with the database's schema; the file that was there is kept beside the backups."""
        self._require_same(plan, await self._plan_pull(folder))
        before = self.folders.schema(folder)
        if before is not None:
            kept = self.folders.state("backups", folder.name, f"schema-{_now():%Y%m%dT%H%M%S%f}.sql")
            kept.write_text(before, encoding="utf-8")
        without = ALEMBIC if folder.alembic is not None else None
        text = await self.places.schema_text(folder, without=without)
        return self.folders.write_schema(folder, text)

    def issue(self, plan: Danger) -> str:
        """A token for exactly this plan; see `redeem`."""
        return tokens.issue(self.folders, plan, _now())

    def redeem(self, token: str, plan: Danger) -> None:
        """Use the token up. Raises PlanStale unless it stands for this plan and is still good."""
        tokens.redeem(self.folders, token, plan, _now())

    # -- rows -------------------------------------------------------------------------------------

    async def seed(self, folder: Folder, *, may_run_programs: bool = True) -> str:
        """Run seed.sql in one transaction, or seed.py with the address in its environment."""
        path = self.folders.seed(folder)
        if path is None:
            raise NotFound(f"{folder.name} has neither seed.sql nor seed.py")
        if path.suffix == ".py":
            if not may_run_programs:
                raise Refused("seed.py is a program; it runs from the command line only")
            return await run_program(path, self.folders.root, folder.variable, self.url(folder))
        engine = self.engine(folder)
        where = f"db/{folder.name}/seed.sql"
        statements = split(self.folders.read(path), engine, where=where)
        _require_no_control(statements, where)
        async with self._locked(folder) as session:
            await session.transaction(statements, None, where=where)
        return f"{len(statements)} statements"

    async def execute(self, folder: Folder, sql: str, *, write: bool, limit: int = 1000) -> Rows:
        """One statement through the gate of `Statements`; what is written is kept, whatever it loses.

        Raises Invalid for none or several, StatementFailed with the database's words.
        """
        if len(split(sql, self.engine(folder))) != 1:
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

    # -- steps ------------------------------------------------------------------------------------

    def url(self, folder: Folder) -> str:
        """Raises Invalid, naming the variable, where there is no address."""
        return self.places.url(folder)

    def engine(self, folder: Folder) -> Engine:
        return self.places.engine(folder)

    def place(self, folder: Folder) -> str:
        return self._engines.place_of(self.url(folder))

    @asynccontextmanager
    async def _session(self, folder: Folder, *, make: bool = False) -> AsyncIterator[Session]:
        async with self._engines.open(self.places.direct(folder), self._limits(folder), make=make) as session:
            yield session

    @asynccontextmanager
    async def _locked(self, folder: Folder) -> AsyncIterator[Session]:
        wait = folder.settings.lock_wait
        async with self._session(folder, make=True) as session, session.lock(self._owner, wait):
            yield session

    @asynccontextmanager
    async def _shadow(self, folder: Folder) -> AsyncIterator[Session]:
        async with self.places.scratch(folder) as url, self._prepared(folder, url) as session:
            yield session

    @asynccontextmanager
    async def _prepared(self, folder: Folder, url: str) -> AsyncIterator[Session]:
        """A session on an empty database, with the folder's extensions."""
        async with (
            self._engines.open(url, self._unlimited(folder), make=True) as session,
            session.lock(self._owner, 5),
        ):
            for name in folder.settings.extensions:
                quoted = name.replace('"', '""')
                make = Statement(f'CREATE EXTENSION IF NOT EXISTS "{quoted}"', 1, ("create",))
                await session.transaction([make], None)
            yield session

    @asynccontextmanager
    async def _consented(
        self, folder: Folder, plan: Danger, target: str, backup: bool
    ) -> AsyncIterator[tuple[Session, Kept | None]]:
        """The locked session, when the plan is still the same; with a proved backup."""
        async with self._locked(folder) as session:
            self._require_same(plan, await self._plan(folder, session, plan.action, target))
            yield session, await self.places.keep(folder) if backup else None

    async def _plan(self, folder: Folder, session: Session, action: Action, target: str) -> Danger:
        chain = self._chain(folder)
        live = _own(await session.catalog(), folder)
        losses: tuple[str, ...] = ()
        state: dict[str, Any] = {
            "target": target,
            "migrations": None if action == "push" else (standing := await chain.standing(session)).state,
            "catalog": live.flat(),
        }
        if action == "rollback":
            effects = await chain.way_back(session, target)
        elif action == "reset":
            losses = tuple(f"table {name} and its rows" for name in sorted(live.tables))
            whole = ", ".join(folder.settings.schemas) or "the database"
            effects = (
                f"drop everything in {whole} ({len(live.tables)} tables)",
                f"run {len(standing.applied) + len(standing.pending)} migrations from the start",
            )
        else:
            goal = await self._goal(folder)
            script = await self._way(folder, live, goal)
            effects, losses = tuple(f"{each};" for each in script.statements), script.losses
            state["goal"] = goal.flat()
        return self._danger(folder, action, effects, losses, state)

    async def _plan_pull(self, folder: Folder) -> Danger:
        async with self._session(folder) as session:
            live = _own(await session.catalog(), folder)
        before = self.folders.schema(folder)
        lines = 0 if before is None else len(before.splitlines())
        effects = (f"overwrite db/{folder.name}/schema.sql ({lines} lines) with the schema of the database",)
        return self._danger(folder, "pull", effects, (), {"file": before, "catalog": live.flat()})

    def _danger(
        self,
        folder: Folder,
        action: Action,
        effects: tuple[str, ...],
        losses: tuple[str, ...],
        state: dict[str, Any],
    ) -> Danger:
        place = self.place(folder)
        return Danger(
            action=action,
            database=folder.name,
            environment=self.environment,
            place=place,
            effects=effects,
            losses=losses,
            digest=digest_of(action, folder.name, self.environment, place, state),
        )

    def _require_allowed(self, folder: Folder, action: Action) -> None:
        allowed: Sequence[str] = folder.settings.production.allow
        if self.environment == "production" and action in ("reset", "push") and action not in allowed:
            raise Refused(
                f"{action} is refused in production",
                next=f"Use migrations; or let database.toml of '{folder.name}' say [production] allow = [\"{action}\"].",
            )

    def _require_same(self, plan: Danger, now: Danger) -> None:
        self._require_allowed_plan(plan)
        if plan.digest != now.digest:
            raise PlanStale(
                "files or database have changed since the plan was made", next="Look at a new plan."
            )

    def _require_allowed_plan(self, plan: Danger) -> None:
        if plan.environment != self.environment:
            raise PlanStale("the plan was made for another environment")

    async def _rehearse_down(self, folder: Folder, saved: Kept, target: str) -> None:
        """The down files run on the backup first: one that fails there never meets the database."""
        async with (
            self.places.opened(folder, saved) as scratch,
            self._engines.open(scratch, self._unlimited(folder), make=True) as session,
            session.lock(self._owner, 5),
        ):
            await self._chain(folder).down(session, target)

    async def _goal(self, folder: Folder) -> Catalog:
        """The catalog of a shadow database made from schema.sql."""
        text = self.folders.schema(folder)
        if text is None:
            raise Invalid(
                f"there is no db/{folder.name}/schema.sql", next="Write it, or make it with 'db pull'."
            )
        async with self._shadow(folder) as shadow:
            await self._write_schema(folder, shadow, text)
            return _own(await shadow.catalog(), folder)

    async def _write_schema(self, folder: Folder, shadow: Session, text: str) -> None:
        where = f"db/{folder.name}/schema.sql"
        statements = split(text, shadow.engine, where=where)
        _require_no_control(statements, where)
        await shadow.transaction(statements, None, where=where)

    async def _difference(self, folder: Folder, start: Catalog, goal: Catalog) -> Difference:
        async with self._shadow(folder) as shadow:
            return await difference(shadow, start, goal, self._renames(folder))

    async def _way(self, folder: Folder, start: Catalog, goal: Catalog) -> Changes:
        renames = self._renames(folder)
        if not renames:
            return changes(start, goal)
        async with self._shadow(folder) as shadow:
            return await way(shadow, start, goal, renames)

    def _renames(self, folder: Folder) -> tuple[Rename, ...]:
        return renames_in(self.folders.schema(folder) or "", where=f"db/{folder.name}/schema.sql")

    def _chain(self, folder: Folder) -> Chain:
        if folder.alembic is not None:
            return AlembicChain(folder, self._alembic)
        return FileChain(self._migrations(folder), self._owner)

    def _migrations(self, folder: Folder) -> tuple[Migration, ...]:
        refuse_ours(folder, "Write revisions with 'alembic revision', mark them with 'alembic stamp'.")
        return self.folders.migrations(folder)

    def _limits(self, folder: Folder) -> Limits:
        settings = folder.settings
        return Limits(settings.lock_timeout, settings.statement_timeout, settings.schemas)

    def _unlimited(self, folder: Folder) -> Limits:
        return UNLIMITED._replace(schemas=folder.settings.schemas)

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
            engine=self._engines.engine_of(url) if url else folder.settings.engine,
            variable=folder.variable,
            source=source,
            place=self._engines.place_of(url) if url else None,
            migrations=0 if folder.alembic else len(self.folders.migrations(folder)),
            has_schema=self.folders.schema(folder) is not None,
            has_seed=self.folders.seed(folder) is not None,
            alembic=folder.alembic is not None,
        )


def _own(catalog: Catalog, folder: Folder) -> Catalog:
    return catalog if folder.alembic is None else without_table(catalog, ALEMBIC)


def _require_no_control(statements: Sequence[Statement], where: str) -> None:
    for each in statements:
        if each.controls_transaction:
            raise Invalid(f"{where}, line {each.line}: the file runs in one transaction already")


def _failed(error: Invalid) -> StatementFailed:
    """In the words of the database, for whoever can see its rows anyway."""
    words = str(error.details.get("server_message") or error.message)
    if error.details.get("fault") == "read_only":
        return StatementFailed(words, next="Pass --write where it is meant to change something.")
    return StatementFailed(words, next=error.details.get("hint"))


def _backup_told(saved: Kept) -> str:
    return f"backup {saved.id} ({saved.bytes} bytes, {len(saved.tables)} entries), restored and compared"


def _now() -> datetime:
    return datetime.now(UTC)
