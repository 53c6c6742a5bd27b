"""Projects of a team: made, shown, changed and deleted with all that belongs to them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

import anyio.to_thread

from mcp_server.domain.backups import Branch
from mcp_server.domain.callers import Caller
from mcp_server.domain.databases import RequestedEngine
from mcp_server.domain.errors import Conflict, Invalid, QuaymasterError, QuotaExceeded
from mcp_server.domain.grants import require
from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.projects import Project, ProjectType, normalise_name, placed
from mcp_server.domain.records import Moment, Value
from mcp_server.domain.results import PlanResult, Result
from mcp_server.domain.validation import changed, checked
from mcp_server.ports.store import Reading, Transaction
from mcp_server.services.access import project_of, team_of
from mcp_server.services.belongings import belongings_of
from mcp_server.services.calls import Call, Calls
from mcp_server.services.databases.service import Databases
from mcp_server.services.host_names import require_own_hosts, taken_project
from mcp_server.services.pages import page_size
from mcp_server.services.plans import draw_token, gate

LetGo = Callable[[Sequence[str]], Awaitable[Sequence[str]]]
DropCopies = Callable[[Sequence[Branch]], Awaitable[None]]

PLACES = "/"
"""No project's name: its absence is held by whoever claims a path."""


class ProjectView(Result):
    """`path` is where the project lies on this host; `database` the name of its database."""

    name: str
    type: ProjectType
    description: str = ""
    path: str | None = None
    database: str | None = None
    created_at: Moment
    updated_at: Moment


class ProjectItem(Value):
    name: str
    type: ProjectType
    description: str = ""
    updated_at: Moment


class ProjectList(Result):
    items: tuple[ProjectItem, ...]
    cursor: str | None = None


async def nothing_to_tidy() -> None:
    """Where nothing runs."""


class Projects:
    """`roots`: the directories in which a project's path may lie; `quota`: the most projects of a team.

    `let_go` is told the host names that went with a project, and says what is left of them. `drop_copies` takes away
    the copies whose branches went with it. `tidy` is called when a project was deleted: what ran for it goes.
    """

    def __init__(
        self,
        calls: Calls,
        *,
        roots: Sequence[str] = (),
        quota: int = 200,
        databases: Databases | None = None,
        base_domain: str = "localhost",
        let_go: LetGo | None = None,
        drop_copies: DropCopies | None = None,
        tidy: Callable[[], Awaitable[None]] = nothing_to_tidy,
    ) -> None:
        self._calls = calls
        self._base = base_domain
        self._let_go = let_go
        self._drop_copies = drop_copies
        self._tidy = tidy
        self._databases = databases
        self._roots = tuple(roots)
        self._quota = quota

    async def create(
        self,
        call: Call,
        *,
        name: str,
        type: ProjectType = "nextjs",
        description: str = "",
        path: str | None = None,
        database: Literal["none"] | RequestedEngine = "none",
    ) -> ProjectView:
        """Make a project. Names are lower case with hyphens, and unique over all teams.

        Raises Invalid, Conflict when the name is taken, and QuotaExceeded.
        """
        databases = self._databases
        if database != "none":
            if databases is None:
                raise Invalid.field("database", "only 'none' on this server")
            require(call.caller, "create_database")
            await databases.require_engine(database)
        key = normalise_name(name)
        call.about("projects", key)
        place = await self._place(call.caller, path)
        uid = call.new_id("p")

        async def transaction(tx: Transaction) -> ProjectView:
            await team_of(tx, call.caller, hold=True)
            if await tx.projects.get(key) is not None:
                raise await taken_project(tx, key, self._base, "is taken; names are unique over all teams")
            await _require_own_place(tx, call.caller, place)
            if await tx.projects.count_of_team(call.caller.team_id) >= self._quota:
                raise QuotaExceeded(f"the team has {self._quota} projects, the most it may have")
            now = await tx.now()
            project = checked(
                Project,
                {
                    "name": key,
                    "uid": uid,
                    "team_id": call.caller.team_id,
                    "description": description,
                    "type": type,
                    "path": place,
                    "created_at": now,
                    "updated_at": now,
                },
            )
            added = await tx.projects.add(project)
            await require_own_hosts(tx, key, self._base)
            return _view(added)

        made = await self._calls.write(call, transaction, ProjectView)
        if database == "none" or databases is None:
            return made
        return await self._with_database(call, made, databases, database)

    async def _with_database(
        self, call: Call, made: ProjectView, databases: Databases, engine: RequestedEngine
    ) -> ProjectView:
        """The project with its database. It stands without one, too: then a notice says why."""
        params = {"project": made.name, "engine": engine}
        beside = Call(
            call.caller, "create_database", params, idempotency_key=call.idempotency_key, tell=call.tell
        )
        try:
            database = await databases.create(beside, project=made.name, engine=engine)
        except QuaymasterError as error:
            said = f"The project is made, its database is not: {error.message}"
            return made.change(notices=(*made.notices, said, error.next))
        why = () if database.fallback is None else (f"The database is on SQLite: {database.fallback}",)
        return made.change(
            database=f"{database.engine} ({database.state}) {database.address}",
            notices=(*made.notices, *beside.notices, *why),
        )

    async def get(self, call: Call, *, name: str) -> ProjectView:
        """One project of the caller's team."""
        call.about("projects", normalise_name(name))

        async def reading(tx: Reading) -> ProjectView:
            return _view(await project_of(tx, call.caller, name))

        return await self._calls.read(reading)

    async def list(self, call: Call, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> ProjectList:
        """The projects of the caller's team by name."""
        size = page_size(limit)

        async def reading(tx: Reading) -> ProjectList:
            page = await tx.projects.of_team(call.caller.team_id, limit=size, after=cursor)
            return ProjectList(items=tuple(_item(project) for project in page.items), cursor=page.cursor)

        return await self._calls.read(reading)

    async def update(
        self,
        call: Call,
        *,
        name: str,
        description: str | None = None,
        type: ProjectType | None = None,
        path: str | None = None,
    ) -> ProjectView:
        """Change what is given; None leaves a field as it is, and an empty path takes the path away."""
        call.about("projects", normalise_name(name))
        fields: dict[str, Any] = {"description": description, "type": type}
        fields = {field: value for field, value in fields.items() if value is not None}
        if path is not None:
            fields["path"] = await self._place(call.caller, path or None)

        before: list[Project] = []

        async def transaction(tx: Transaction) -> ProjectView:
            before.clear()
            project = await project_of(tx, call.caller, name, hold=True)
            before.append(project)
            await _require_own_place(tx, call.caller, fields.get("path"))
            after = changed(project, fields)
            if after == project:
                return _view(project)
            return _view(await tx.projects.save(after.change(updated_at=await tx.now())))

        view = await self._calls.write(call, transaction, ProjectView)
        if before and self._databases is not None and before[0].path != view.path:
            await self._databases.moved(view.name, before[0].path)
        return view

    async def delete(self, call: Call, *, name: str) -> PlanResult:
        """Delete a project and all that belongs to it: first the plan, then, with its token, exactly that.

        Nothing on disk is touched. Raises PlanStale when anything that the plan names has changed.
        """
        key = normalise_name(name)
        call.about("projects", key)
        token = draw_token()
        hosts: list[str] = []
        branches: list[Branch] = []

        async def transaction(tx: Transaction) -> PlanResult:
            project = await project_of(tx, call.caller, name, hold=True)
            if kept := await tx.databases.of_project(key):
                raise Conflict(
                    f"the project has a database ({', '.join(one.scope for one in kept)})",
                    next="delete_database first; it keeps a backup unless told not to.",
                )
            belongings = await belongings_of(tx, key)
            if busy := next((one for one in belongings.deployments if one.running), None):
                raise Conflict(
                    f"{busy.deployed_by} deploys there since {busy.created_at:%H:%M:%S} UTC",
                    next=f"Wait for it, or end it with cancel_deployment('{busy.id}').",
                )
            effects = (f"the project '{key}' is deleted", *belongings.effects())
            planned = await gate(
                tx,
                call,
                token,
                target={"project": key, "uid": project.uid},
                holds=(project, *belongings.decisive()),
                effects=effects,
            )
            if planned is not None:
                return planned
            await belongings.remove(tx)
            await tx.projects.remove(project)
            hosts[:] = [one.domain for one in belongings.domains]
            branches[:] = belongings.branches
            return PlanResult(status="done", message=f"The project '{key}' is deleted.", effects=effects)

        done = await self._calls.write(call, transaction, PlanResult)
        if done.status == "done":
            await self._tidy()
        if self._drop_copies is not None:
            await self._drop_copies(branches)
        if self._let_go is None or not hosts:
            return done
        return done.change(notices=(*done.notices, *await self._let_go(hosts)))

    async def _place(self, caller: Caller, path: str | None) -> str | None:
        """The path as it is on disk, links followed.

        Decided before the disk is asked, and again after it answered.
        """
        if path is None:
            return None
        roots = tuple([await _real(root) for root in self._roots])
        place = placed(path, (*self._roots, *roots), caller.transport)
        return placed(await _real(place), roots, caller.transport)


async def _require_own_place(tx: Transaction, caller: Caller, place: str | None) -> None:
    """Callers over HTTP reach files only through a project's path, so one team's path is no way to another's files:
    its databases' addresses, its migrations, its source. Raises Invalid.

    Paths are claimed one after the other: of two teams that ask in the same instant the second sees the first.
    """
    if place is None:
        return
    await tx.projects.hold(PLACES)
    if caller.transport != "http":
        return
    if await tx.projects.foreign_at(caller.team_id, place) is not None:
        raise Invalid.field("path", "is that of another team's project, lies in it, or holds it")


async def _real(path: str) -> str:
    return await anyio.to_thread.run_sync(os.path.realpath, path)


def _view(project: Project) -> ProjectView:
    return ProjectView(
        name=project.name,
        type=project.type,
        description=project.description,
        path=project.path,
        database=project.database_name,
        created_at=project.created_at,
        updated_at=project.updated_at,
    )


def _item(project: Project) -> ProjectItem:
    return ProjectItem(
        name=project.name,
        type=project.type,
        description=project.description[:200],
        updated_at=project.updated_at,
    )
