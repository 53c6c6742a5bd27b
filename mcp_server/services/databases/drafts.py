"""A database as it is to be kept: drafted outside any transaction, with what the engine and the disk show."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mcp_server.domain.databases import Access, Database, DatabaseServer, Login, RequestedEngine, database_key
from mcp_server.domain.errors import QuaymasterError, Unavailable
from mcp_server.domain.idempotency import remembered_id
from mcp_server.domain.projects import Project
from mcp_server.domain.redaction import redacted_text
from mcp_server.domain.teams import EnvironmentName
from mcp_server.domain.workloads import EngineStatus
from mcp_server.ports.orchestrator import Orchestrator
from mcp_server.ports.store import Reading
from mcp_server.services.access import project_of
from mcp_server.services.calls import Call
from mcp_server.services.databases.parts import Parts
from mcp_server.services.databases.pool import Pool
from mcp_server.services.databases.shared import names_on_shared


@dataclass(frozen=True, slots=True)
class Draft:
    """A record that is not kept yet. `standby` is what it claims, `before` the login that still works there."""

    record: Database
    project: Project
    standby: DatabaseServer | None = None
    before: Login | None = None


class Drafts:
    def __init__(self, parts: Parts, pool: Pool) -> None:
        self._calls = parts.calls
        self._engine = parts.engine
        self._files = parts.files
        self._passwords = parts.passwords
        self._allocation = parts.allocation
        self._places = parts.places
        self._workers = parts.workers
        self._site = parts.site
        self._options = parts.options
        self._pool = pool

    async def draft(
        self,
        call: Call,
        name: str,
        engine: RequestedEngine,
        environment: EnvironmentName | None,
        extensions: tuple[str, ...],
    ) -> Draft | None:
        """Without what only one can have, a standby or a port; `placed` adds that. None when there is a database
        already."""

        async def reading(tx: Reading) -> tuple[Project, Database | None]:
            found = await project_of(tx, call.caller, name)
            return found, await tx.databases.get(database_key(found.name, environment))

        project, existing = await self._calls.read(reading)
        call.about("databases", database_key(project.name, environment))
        if existing is not None:
            return None
        plain = self._plain(call, project, engine, environment, extensions)
        if engine == "sqlite":
            return await self._on_sqlite(plain, project)
        try:
            return await self._on_postgres(plain, project)
        except QuaymasterError as error:
            return await self._fallen_back(plain, project, error)

    async def placed(self, draft: Draft | None, avoid: set[int]) -> Draft | None:
        """On a standby, or else a port, that nobody has at this moment: to be kept before anybody else chooses."""
        if draft is None or draft.record.isolation != "container":
            return draft
        try:
            return await self._placed(draft, avoid)
        except QuaymasterError as error:
            plain = draft.record.change(
                engine="sqlite", isolation="file", place=None, access=None, adopted=False
            )
            return await self._fallen_back(plain, draft.project, error)

    async def _placed(self, draft: Draft, avoid: set[int]) -> Draft:
        record, place = draft.record, draft.record.place
        if place is None:
            return draft
        standby = None if record.adopted else await self._pool.choose(place.image, record.extensions)
        if standby is not None and standby.access is not None:
            return self._claiming(draft, standby, standby.access, place.container)
        port = await self._allocation.candidate(avoid, seed=record.uid)
        return replace(draft, record=record.change(place=place.change(port=port)))

    def _plain(
        self,
        call: Call,
        project: Project,
        engine: RequestedEngine,
        environment: EnvironmentName | None,
        extensions: tuple[str, ...],
    ) -> Database:
        key, caller = call.idempotency_key, call.caller
        return Database(
            project=project.name,
            environment=environment,
            uid=call.new_id("db"),
            project_uid=project.uid,
            team_id=project.team_id,
            home=self._site.home,
            host=self._site.host,
            host_name=self._site.host_name,
            engine="sqlite",
            requested=engine,
            isolation="file",
            worker=self._workers.me,
            extensions=extensions,
            remembered=None if key is None else remembered_id(caller.team_id, caller.id, call.action, key),
            created_at=project.created_at,
            updated_at=project.updated_at,
        )

    async def _fallen_back(self, plain: Database, project: Project, error: QuaymasterError) -> Draft:
        """Raises `error` when nothing but PostgreSQL will do."""
        if plain.requested == "postgres" or plain.extensions:
            raise error
        return await self._on_sqlite(plain.change(fallback=said(error)), project)

    async def _on_sqlite(self, plain: Database, project: Project) -> Draft:
        root = project.path or self._options.files
        path = sqlite_place(self._options.files, project, plain.environment)
        adopted = await self._files.exists(root, path)
        return Draft(plain.change(path=path, adopted=adopted), project)

    async def _on_postgres(self, plain: Database, project: Project) -> Draft:
        status = await looked_for(self._engine)
        if not status.available:
            raise Unavailable(
                status.reason or "there is no Docker engine",
                next="Start Docker, or use engine='sqlite'; 'quaymaster doctor' says what is missing.",
            )
        if self._options.isolation == "shared":
            access = self._passwords.drawn(plain.uid, **names_on_shared(plain.uid))
            return Draft(plain.change(engine="postgres", isolation="shared", access=access), project)
        place, adopted = await self._places.find(plain, port=1)
        access = self._passwords.drawn(plain.uid)
        record = plain.change(
            engine="postgres", isolation="container", adopted=adopted, place=place, access=access
        )
        return Draft(record, project)

    def _claiming(self, draft: Draft, standby: DatabaseServer, access: Access, container: str) -> Draft:
        record = draft.record
        return replace(
            draft,
            record=record.change(
                place=standby.place.change(container=container),
                access=self._passwords.handed_over(access, standby.id, record.uid),
                claimed=standby.place.container,
            ),
            standby=standby,
            before=self._passwords.login_of_server(standby),
        )


async def looked_for(engine: Orchestrator) -> EngineStatus:
    """Who has just started Docker need not wait until an earlier answer is forgotten. Of one that was silent until now
    nothing else is expected."""
    status = await engine.detect()
    if status.available or status.silent:
        return status
    return await engine.detect(refresh=True)


def sqlite_place(files: str, project: Project, environment: EnvironmentName | None) -> str:
    """Where a project's SQLite file lies; one without a path has a directory under the home."""
    name = "dev.db" if environment is None else f"{environment}.db"
    return f"{project.path}/data/{name}" if project.path else f"{files}/{project.uid}/{name}"


def said(error: QuaymasterError) -> str:
    return redacted_text(error.message)
