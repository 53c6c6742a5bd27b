"""The schemas of a project's databases, for callers of tools: under its path, with addresses from its dotenv files.

Over HTTP a SQLite file must lie below the project's path, and Alembic's programs where the operator lets them run. seed.py,
a program, is never run for a tool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from mcp_server.domain.callers import Caller
from mcp_server.domain.databases import Login
from mcp_server.domain.errors import Conflict, Forbidden, Invalid, QuaymasterError
from mcp_server.domain.projects import Project
from mcp_server.domain.queries import Statement, require_statement
from mcp_server.domain.records import Value
from mcp_server.domain.results import PlanResult, Result
from mcp_server.domain.schemas.danger import Action, digest_of
from mcp_server.domain.schemas.folders import Folder
from mcp_server.ports.store import Reading, Transaction
from mcp_server.services.access import project_of
from mcp_server.services.calls import Call, Calls
from mcp_server.services.plans import draw_token, gate
from mcp_server.services.schemas.answers import Rehearsed, Status
from mcp_server.services.schemas.comparing import NO_DIFFERENCE
from mcp_server.services.schemas.databases import Databases
from mcp_server.services.statements import Asked, QueryResult, StatementGate

EnvironmentOf = Literal["development", "test", "preview", "staging", "production"]
Find = Callable[[Path, str, Caller, Project], Databases]
IS_SUPERUSER = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user"


class Unreached(Value):
    name: str
    code: str
    message: str
    next: str


class SchemaStatus(Result):
    """`unreached` are those of several that could not be looked at."""

    databases: tuple[Status, ...]
    unreached: tuple[Unreached, ...] = ()


class MigrationPlan(Result):
    """`up` and `down` lead from the database to schema.sql and back; `rehearsed` are the pending migrations on a
    clone, and `drift` is how that then differs from schema.sql."""

    up: str
    down: str
    losses: tuple[str, ...]
    unexpressed: tuple[str, ...]
    rehearsed: tuple[Rehearsed, ...] = ()
    drift: tuple[str, ...] = ()


class SchemaDone(Result):
    message: str


class SchemaProblems(Result):
    valid: bool
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


class ProjectSchemas:
    """`find(root, environment, caller, project)` gives the databases below a path; `program_roots` are the directories
    whose programs callers over HTTP may start."""

    def __init__(
        self, calls: Calls, gate: StatementGate, find: Find, program_roots: Sequence[str] = ()
    ) -> None:
        self._calls = calls
        self._gate = gate
        self._find = find
        self._program_roots = tuple(program_roots)

    async def status(
        self, call: Call, project: str, database: str | None, environment: EnvironmentOf
    ) -> SchemaStatus:
        databases, _ = await self._of(call, project, environment)
        folders = databases.chosen([database] if database else [], everything=database is None)
        found: list[Status] = []
        failed: dict[str, QuaymasterError] = {}
        for each in folders:
            try:
                self._require_inside(call, databases, each)
                self._require_may_run(call, each)
                found.append(await databases.status(each))
            except QuaymasterError as error:
                failed[each.name] = error
        if failed and not found:
            raise next(iter(failed.values()))
        unreached = [
            Unreached(name=name, code=error.code, message=error.message, next=error.next)
            for name, error in failed.items()
        ]
        return SchemaStatus(databases=tuple(found), unreached=tuple(unreached))

    async def plan(
        self, call: Call, project: str, database: str, environment: EnvironmentOf, rehearse: bool
    ) -> MigrationPlan:
        databases, folder, _ = await self._one(call, project, database, environment)
        written = databases.folders.schema(folder) is not None
        # A rehearsal needs no schema.sql, and an Alembic project usually has none.
        found = await databases.difference(folder) if written or not rehearse else NO_DIFFERENCE
        rehearsed: tuple[Rehearsed, ...] = ()
        drift: tuple[str, ...] = ()
        if rehearse:
            self._require_may_run(call, folder)
            rehearsed, drift = await databases.rehearse(folder)
        return MigrationPlan(
            up=found.up,
            down=found.down,
            losses=found.losses,
            unexpressed=found.unexpressed,
            rehearsed=rehearsed,
            drift=drift,
        )

    async def apply(self, call: Call, project: str, database: str, environment: EnvironmentOf) -> PlanResult:
        databases, folder, held = await self._one(call, project, database, environment)
        self._require_may_run(call, folder)
        found = await databases.status(folder)
        effects = (*(f"apply {label}" for label in found.pending), *found.lint)
        digest = digest_of("apply", folder.name, environment, found.place, found.model_dump(mode="json"))
        planned = await self._gated(call, held, folder, environment, digest, effects)
        if planned is not None:
            return planned
        done = await databases.deploy(folder, tell=lambda label: None)
        return _done(f"Applied {', '.join(done) or 'nothing'}.", effects)

    async def change(
        self,
        call: Call,
        project: str,
        database: str,
        environment: EnvironmentOf,
        action: Action,
        target: str = "",
        accept_data_loss: bool = False,
    ) -> PlanResult:
        """rollback, push or pull: planned first, then done with a proved backup."""
        databases, folder, held = await self._one(call, project, database, environment)
        if action == "rollback":
            self._require_may_run(call, folder)
        is_consented = call.plan_token is not None
        plan = await databases.dangerous.plan(folder, action, target, is_consented=is_consented)
        if action == "push" and not plan.effects:
            return _done(_pushed(plan.left), ())
        effects = (
            *plan.effects,
            *(f"lost: {loss}" for loss in plan.losses),
            *(f"left as it is, do it by hand: {each}" for each in plan.left),
        )
        planned = await self._gated(call, held, folder, environment, plan.digest, effects)
        if planned is not None:
            return planned
        said: list[str] = []
        if action == "rollback":
            done = await databases.dangerous.rollback(folder, plan, target, tell=said.append)
            return _done(f"Took back {', '.join(done)}.", effects)
        if action == "push":
            left = await databases.dangerous.push(
                folder, plan, tell=said.append, accept_data_loss=accept_data_loss
            )
            return _done(_pushed(left), effects)
        pulled = (await databases.dangerous.pull(folder, plan)).told(databases.folders.root)
        return _done(f"{pulled[0].upper()}{pulled[1:]}.", effects)

    async def seed(self, call: Call, project: str, database: str, environment: EnvironmentOf) -> SchemaDone:
        databases, folder, _ = await self._one(call, project, database, environment)
        return SchemaDone(message=await databases.seed(folder, may_run_programs=False))

    async def validate(
        self, call: Call, project: str, database: str, environment: EnvironmentOf
    ) -> SchemaProblems:
        databases, folder, _ = await self._one(call, project, database, environment)
        self._require_may_run(call, folder)
        problems = await databases.validate(folder)
        return SchemaProblems(valid=not problems, problems=problems, warnings=databases.lint_all(folder))

    async def execute(
        self, call: Call, project: str, database: str, environment: EnvironmentOf, sql: str, write: bool
    ) -> QueryResult:
        """As query_database: what reads leaves nothing, what would change many rows or lose a table is planned."""
        statement = require_statement(Statement(sql=sql))
        databases, folder, held = await self._one(call, project, database, environment)
        asked = Asked(
            name=folder.name,
            uid=f"{held.uid}/{folder.name}/{databases.ground.place(folder)}",
            target=databases.places.target(folder, write=write),
            hold=partial(_same, project=held),
        )
        if write:
            return await self._gate.write(call, asked, statement)
        if isinstance(asked.target, Login) and not databases.places.is_guarded(folder):
            await self._require_no_superuser(asked, folder)
        return await self._gate.read(asked, statement)

    # -- steps ------------------------------------------------------------------------------------

    async def _one(
        self, call: Call, project: str, database: str, environment: EnvironmentOf
    ) -> tuple[Databases, Folder, Project]:
        databases, held = await self._of(call, project, environment)
        [folder] = databases.chosen([database])
        self._require_inside(call, databases, folder)
        return databases, folder, held

    async def _of(self, call: Call, name: str, environment: EnvironmentOf) -> tuple[Databases, Project]:
        async def reading(tx: Reading) -> Project:
            return await project_of(tx, call.caller, name)

        project = await self._calls.read(reading)
        call.about("project", project.name)
        if project.path is None:
            raise Invalid(
                f"the project '{project.name}' has no path", next="update_project gives it one on this host."
            )
        databases = self._find(Path(project.path), environment, call.caller, project)
        await databases.places.look_up()
        return databases, project

    async def _require_no_superuser(self, asked: Asked, folder: Folder) -> None:
        """A read-only transaction holds what changes rows, and not what else a superuser may do."""
        if (await self._gate.read(asked, Statement(sql=IS_SUPERUSER))).rows == ((True,),):
            reader = f"{folder.variable.removesuffix('_URL')}_READER_URL"
            raise Forbidden(
                f"{folder.variable} is a superuser's, for which a read-only transaction is no wall",
                next=f"Set {reader} to a role that may only read, or {folder.variable} to one that is no superuser.",
            )

    def _require_inside(self, call: Call, databases: Databases, folder: Folder) -> None:
        if call.caller.transport != "http" or databases.places.engine(folder) != "sqlite":
            return
        place, root = Path(databases.ground.place(folder)).resolve(), databases.folders.root.resolve()
        if not place.is_relative_to(root):
            raise Forbidden("over HTTP a SQLite file must lie below the project's path")

    def _require_may_run(self, call: Call, folder: Folder) -> None:
        """env.py runs as the user of this server: for who works on its host, and for who comes from elsewhere only
        where the operator says so."""
        if call.caller.transport != "http" or folder.alembic is None:
            return
        home = folder.alembic.resolve()
        if not any(home.is_relative_to(Path(root).resolve()) for root in self._program_roots):
            raise Forbidden(
                f"'{folder.name}' is an Alembic project, whose programs are not run over HTTP here",
                next="Let the operator name its directory in QUAYMASTER_PROGRAM_ROOTS, run 'quaymaster db migrate' on "
                "the server's host, or work over stdio.",
            )

    async def _gated(
        self,
        call: Call,
        project: Project,
        folder: Folder,
        environment: EnvironmentOf,
        digest: str,
        effects: tuple[str, ...],
    ) -> PlanResult | None:
        """The plan, or None when its token was just used. A token is good once, so no key is kept beside it."""
        token = draw_token()
        alone = replace(call, idempotency_key=None)
        target = {
            "project": project.key,
            "database": folder.name,
            "environment": environment,
            "digest": digest,
        }

        async def transaction(tx: Transaction) -> PlanResult:
            held = await project_of(tx, call.caller, project.name, hold=True)
            planned = await gate(tx, alone, token, target=target, holds=(held,), effects=effects)
            return planned or _done("", effects)

        result = await self._calls.write(alone, transaction, PlanResult)
        call.recorded = result.status == "planned"
        return result if result.status == "planned" else None


def _pushed(left: tuple[str, ...]) -> str:
    if left:
        return f"schema.sql says what no statement of a push can express; do it by hand: {'; '.join(left)}."
    return "The database is as schema.sql says."


def _done(message: str, effects: tuple[str, ...]) -> PlanResult:
    return PlanResult(status="done", message=message, effects=effects)


async def _same(tx: Transaction, *, project: Project) -> Project:
    held = await tx.projects.hold(project.key)
    if held is None or held.uid != project.uid:
        raise Conflict("the project was changed meanwhile")
    return held
