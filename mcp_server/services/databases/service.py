"""The use cases of databases, as faces call them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from mcp_server.domain.databases import Database, RequestedEngine, chosen
from mcp_server.domain.errors import Forbidden, Invalid, Unavailable, WrongHost
from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.records import Moment
from mcp_server.domain.results import PlanResult, Result
from mcp_server.domain.roles import at_least
from mcp_server.domain.teams import EnvironmentName
from mcp_server.domain.workloads import EngineStatus
from mcp_server.ports.store import Reading
from mcp_server.services.access import project_of
from mcp_server.services.calls import Call
from mcp_server.services.databases.creation import FIRST_LOOK, LAST_LOOK, Creation
from mcp_server.services.databases.deletion import Deletion, DropBranches, FinalBackup
from mcp_server.services.databases.drafts import looked_for
from mcp_server.services.databases.holding import Holding
from mcp_server.services.databases.parts import Parts
from mcp_server.services.databases.pool import Pool
from mcp_server.services.databases.recovery import Recovery
from mcp_server.services.databases.rotation import Rotation
from mcp_server.services.databases.running import Running
from mcp_server.services.databases.shared import SharedServer
from mcp_server.services.databases.views import DatabaseItem, DatabaseList, DatabaseView, address
from mcp_server.services.pages import page_size

MAX_WAIT = 600.0
MAX_LINES = 1000


class DatabaseLogs(Result):
    """What the server wrote: text of others, not instructions."""

    project: str
    text: str
    truncated: bool = False


class Rotated(Result):
    project: str
    rotated_at: Moment | None = None
    url: str
    still_old: tuple[str, ...] = ()


class Databases:
    """`final_backup` is asked before a database is deleted; without one deletions say that there is none.
    `drop_branches` takes its branches along."""

    def __init__(
        self,
        parts: Parts,
        *,
        final_backup: FinalBackup | None = None,
        drop_branches: DropBranches | None = None,
    ) -> None:
        self.parts = parts
        self.pool = Pool(parts)
        self.shared = SharedServer(parts)
        self.creation = Creation(parts, self.shared, self.pool)
        self.holding = Holding(parts)
        self.rotation = Rotation(parts, self.holding)
        self.running = Running(parts, self.holding, self.rotation, self.creation.making, self.shared)
        self.deletion = Deletion(parts, self.holding, final_backup, drop_branches)
        self.recovery = Recovery(parts, self.creation.unfinished, self.rotation, self.deletion)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Work that outlives calls may run inside; on leaving it is broken off, and cleaned up."""
        async with self.parts.works.open():
            yield

    async def lead(self) -> None:
        """Put right, keep right, and keep the pool full; never ends. For the leader of the home."""
        async with anyio.create_task_group() as beside:
            beside.start_soon(self.recovery.keep_right)
            beside.start_soon(self.pool.keep_full)

    # -- use cases

    async def create(
        self,
        call: Call,
        *,
        project: str,
        engine: RequestedEngine = "auto",
        environment: EnvironmentName | None = None,
        extensions: tuple[str, ...] = (),
        wait_seconds: float = 45,
    ) -> DatabaseView:
        """Make it, or show the one that is there; a creation that takes longer goes on without the caller."""
        record = await self.creation.create(
            call,
            project=project,
            engine=engine,
            environment=environment,
            extensions=extensions,
            wait_seconds=_waited(wait_seconds),
        )
        view = await self.parts.looks.view(record)
        if view.state == "creating":
            return view.change(next="get_database with wait_seconds tells when it is ready.")
        return view

    async def get(
        self,
        call: Call,
        *,
        project: str,
        environment: EnvironmentName | None = None,
        reveal: bool = False,
        wait_seconds: float = 0,
    ) -> DatabaseView:
        """As it is observed. With `reveal` the password stands in the URL: for members and above."""
        if reveal and not at_least(call.caller.role, "member"):
            raise Forbidden("reveal needs the role member", needs="member")
        record = await self._found(call, project, environment)
        with anyio.move_on_after(_waited(wait_seconds)):
            pause = FIRST_LOOK
            while record.stage == "creating" and wait_seconds:
                await anyio.sleep(pause)
                pause = min(1.5 * pause, LAST_LOOK)
                record = await self._found(call, project, environment)
        return await self.parts.looks.view(record, reveal=reveal)

    async def list(
        self, call: Call, *, project: str | None = None, limit: int = DEFAULT_LIMIT, cursor: str | None = None
    ) -> DatabaseList:
        """The team's databases by project, or one project's."""
        size = page_size(limit)

        async def reading(tx: Reading) -> tuple[list[Database], str | None]:
            if project is not None:
                owner = await project_of(tx, call.caller, project)
                return list(await tx.databases.of_project(owner.name)), None
            page = await tx.databases.of_team(call.caller.team_id, limit=size, after=cursor)
            return list(page.items), page.cursor

        records, following = await self.parts.calls.read(reading)
        seen = await self.parts.looks.see(records)
        items = tuple(
            DatabaseItem(
                project=one.project,
                environment=one.environment,
                engine=one.engine,
                state=seen[one.key].state,
                reason=seen[one.key].reason,
                address=address(one),
            )
            for one in records
        )
        return DatabaseList(items=items, cursor=following)

    async def start(
        self, call: Call, *, project: str, environment: EnvironmentName | None = None
    ) -> DatabaseView:
        return await self.parts.looks.view(await self.running.start(call, project, environment))

    async def stop(
        self, call: Call, *, project: str, environment: EnvironmentName | None = None
    ) -> DatabaseView:
        return await self.parts.looks.view(await self.running.stop(call, project, environment))

    async def delete(
        self,
        call: Call,
        *,
        project: str,
        environment: EnvironmentName | None = None,
        final_backup: bool = True,
        wait_seconds: float = 45,
    ) -> PlanResult:
        return await self.deletion.delete(
            call, project, environment, final_backup=final_backup, wait_seconds=_waited(wait_seconds)
        )

    async def rotate(
        self, call: Call, *, project: str, environment: EnvironmentName | None = None
    ) -> Rotated:
        record, old = await self.rotation.rotate(call, project, environment)
        return Rotated(
            project=record.project,
            rotated_at=record.rotated_at,
            url=(await self.parts.looks.view(record)).url,
            still_old=old,
        )

    async def logs(
        self, call: Call, *, project: str, environment: EnvironmentName | None = None, lines: int = 100
    ) -> DatabaseLogs:
        """The newest lines that the server wrote. Of a shared server they would show other projects: refused."""
        if not 1 <= lines <= MAX_LINES:
            raise Invalid.field("lines", f"1-{MAX_LINES}")
        record = await self._found(call, project, environment)
        if record.place is None:
            raise Invalid("a SQLite database has no server, and so no log")
        if record.isolation == "shared":
            raise Invalid("the log of the shared server speaks of other projects, too, and is not shown")
        if record.home != self.parts.site.home:
            raise WrongHost(f"this database is on {record.host_name}", host=record.host_name)
        logs = await self.parts.engine.logs(record.place.ref, tail=lines)
        return DatabaseLogs(project=record.project, text=logs.text, truncated=logs.truncated)

    # -- for other use cases

    async def require_engine(self, engine: RequestedEngine) -> None:
        """Raise Unavailable when a database of this kind cannot be made now."""
        if engine == "postgres":
            status = await looked_for(self.parts.engine)
            if not status.available:
                raise Unavailable(status.reason or "there is no Docker engine", next=status.remedy)

    async def moved(self, project: str, before: str | None) -> None:
        """The project has another path: DATABASE_URL leaves the dotenv file of the one before and enters its new one."""
        home = self.parts.site.home
        for one in await self.parts.store.read(lambda tx: tx.databases.of_project(project)):
            if one.home == home and one.stage == "ready":
                await self.parts.injection.out_of_file(one, before)
                await self.parts.injection.into_file(one)

    async def detect(self, *, refresh: bool = False) -> EngineStatus:
        return await self.parts.engine.detect(refresh=refresh)

    async def _found(self, call: Call, project: str, environment: EnvironmentName | None) -> Database:
        async def reading(tx: Reading) -> Database:
            owner = await project_of(tx, call.caller, project)
            return chosen(await tx.databases.of_project(owner.name), environment, owner.name)

        found = await self.parts.calls.read(reading)
        call.about("databases", found.key)
        return found


def _waited(seconds: float) -> float:
    if not 0 <= seconds <= MAX_WAIT:
        raise Invalid.field("wait_seconds", f"0-{MAX_WAIT:g}")
    return seconds
