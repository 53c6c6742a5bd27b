"""How databases are shown: what was wanted, and what is observed now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from mcp_server.domain.databases import (
    MASK,
    Database,
    Engine,
    Isolation,
    ObservedState,
    Site,
)
from mcp_server.domain.errors import QuaymasterError
from mcp_server.domain.records import Moment, Value
from mcp_server.domain.results import Result
from mcp_server.domain.teams import EnvironmentName
from mcp_server.domain.workloads import Observed
from mcp_server.ports.databases import SqliteFiles, Workers
from mcp_server.ports.orchestrator import Orchestrator
from mcp_server.services.databases.passwords import Passwords


class DatabaseView(Result):
    """`state` is observed. The password in `url` is masked unless it was asked for."""

    project: str
    environment: EnvironmentName | None = None
    engine: Engine
    isolation: Isolation
    state: ObservedState
    reason: str | None = Field(default=None, description="Why the state is what it is")
    fallback: str | None = Field(default=None, description="Why it is not on PostgreSQL")
    address: str = ""
    url: str = ""
    container: str | None = None
    image: str | None = None
    extensions: tuple[str, ...] = ()
    host: str
    created_at: Moment
    next: str | None = None


class DatabaseItem(Value):
    project: str
    environment: EnvironmentName | None = None
    engine: Engine
    state: ObservedState
    reason: str | None = None
    address: str = ""


class DatabaseList(Result):
    items: tuple[DatabaseItem, ...]
    cursor: str | None = None


class Seen(Value):
    state: ObservedState
    reason: str | None = None


class Looks:
    """What the engine and the disk say of databases."""

    def __init__(
        self, engine: Orchestrator, files: SqliteFiles, passwords: Passwords, workers: Workers, site: Site
    ) -> None:
        self._engine = engine
        self._files = files
        self._passwords = passwords
        self._workers = workers
        self._site = site

    async def view(self, database: Database, *, reveal: bool = False) -> DatabaseView:
        seen = (await self.see([database]))[database.key]
        url = self._passwords.url(database) if reveal else self._passwords.url(database, masked=MASK)
        return DatabaseView(
            project=database.project,
            environment=database.environment,
            engine=database.engine,
            isolation=database.isolation,
            state=seen.state,
            reason=seen.reason,
            fallback=database.fallback,
            address=address(database),
            url=url.get_secret_value(),
            container=database.place.container if database.place else None,
            image=database.place.image if database.place else None,
            extensions=database.extensions,
            host=database.host_name,
            created_at=database.created_at,
        )

    async def see(self, databases: Sequence[Database]) -> Mapping[str, Seen]:
        """By key. One look at the engine for all of them."""
        on_engine = [one for one in databases if one.place is not None and one.home == self._site.home]
        containers: dict[str, Observed] | str = {}
        if on_engine:
            containers = await self._containers([one.place.container for one in on_engine if one.place])
        return {one.key: await self._seen(one, containers) for one in databases}

    async def _containers(self, names: Sequence[str]) -> dict[str, Observed] | str:
        """By name, or why the engine cannot be asked."""
        try:
            if len(names) == 1:
                found = await self._engine.inspect(names[0])
                return {} if found is None else {found.name: found}
            return {found.name: found for found in await self._engine.list(self._site.labels())}
        except QuaymasterError as error:
            return error.message

    async def _seen(self, database: Database, containers: dict[str, Observed] | str) -> Seen:
        if database.home != self._site.home:
            return Seen(state="error", reason=f"it is on {database.host_name}; ask a server there")
        if database.stage == "creating":
            if self._workers.alive(database.worker):
                return Seen(state="creating")
            return Seen(state="error", reason="its creation was broken off; it will be cleared away")
        if database.stage == "deleting":
            return Seen(state="error", reason="it is being deleted")
        if database.path is not None:
            wrong = await self._files.check(database.path)
            return Seen(state="running") if wrong is None else Seen(state="error", reason=wrong)
        if isinstance(containers, str):
            return Seen(state="error", reason=containers)
        return of_container(database, containers)


def of_container(database: Database, containers: Mapping[str, Observed]) -> Seen:
    """What a container's state means for its database."""
    place = database.place
    found = containers.get(place.container) if place else None
    if place is None or found is None:
        return Seen(state="error", reason="its container is gone; start_database makes it anew on its data")
    if not place.owner.owns(found.labels):
        return Seen(state="error", reason="a container of somebody else bears its name")
    if found.state == "running" and database.wanted == "stopped" and database.isolation == "shared":
        return Seen(state="stopped")
    if found.state == "running":
        if found.health == "unhealthy":
            return Seen(state="error", reason="its server does not pass its health check")
        return Seen(state="running")
    if found.state in ("created", "exited", "paused"):
        ended = database.wanted == "running" and found.state == "exited"
        return Seen(state="stopped", reason="its server ended by itself" if ended else None)
    return Seen(state="error", reason=f"its container is {found.state}")


def address(database: Database) -> str:
    if database.path is not None:
        return database.path
    if database.place is None or database.access is None:
        return ""
    return f"127.0.0.1:{database.place.port}/{database.access.database}"
