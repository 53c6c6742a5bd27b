"""A team with projects and the use cases of databases, over a real store and a real engine."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from mcp_server.adapters.dotenv.blocks import DotenvBlocks
from mcp_server.adapters.host.machine import ThisMachine
from mcp_server.adapters.host.seats import HomeSeats
from mcp_server.adapters.host.workers import HomeWorkers
from mcp_server.adapters.memory.cache import MemoryCache
from mcp_server.adapters.postgres_projects.logins import AsyncpgLogins
from mcp_server.adapters.sealing.aes import AesSealer
from mcp_server.adapters.sealing.keys import setting_and_file
from mcp_server.adapters.sqlite.files import DiskSqliteFiles
from mcp_server.domain.callers import Caller
from mcp_server.domain.databases import Database, DatabaseServer, PortAllocation, Site
from mcp_server.domain.projects import Project
from mcp_server.domain.teams import Team
from mcp_server.ports.orchestrator import Orchestrator
from mcp_server.ports.store import Intent, Store, Transaction
from mcp_server.services.calls import Call, Calls
from mcp_server.services.databases.options import GB, Options, Step, no_step
from mcp_server.services.databases.parts import Parts
from mcp_server.services.databases.service import Databases
from mcp_server.services.projects import Projects
from mcp_server.services.trail import Trail

SET_UP = Intent("create_project", "set-up")
ANN = Caller(team_id="t1", role="admin", user="ann", key_id="k-ann", transport="http")
VIC = Caller(team_id="t1", role="viewer", user="vic", key_id="k-vic", transport="http")
EVE = Caller(team_id="t2", role="owner", user="eve", key_id="k-eve", transport="http")


@dataclass
class Yard:
    """`mark` is in every name on the engine. Ports come from a range of this yard's own."""

    store: Store
    databases: Databases
    projects: Projects
    mark: str
    home: Path
    calls: Calls
    trail: Trail

    async def ask(
        self,
        action: str,
        *,
        caller: Caller = ANN,
        key: str | None = None,
        token: str | None = None,
        **arguments: Any,
    ) -> Any:
        """One call, as a face makes it."""
        use_cases: dict[str, Any] = {
            "create_database": self.databases.create,
            "get_database": self.databases.get,
            "list_databases": self.databases.list,
            "start_database": self.databases.start,
            "stop_database": self.databases.stop,
            "delete_database": self.databases.delete,
            "rotate_database_password": self.databases.rotate,
            "database_logs": self.databases.logs,
            "create_project": self.projects.create,
            "delete_project": self.projects.delete,
        }
        for argument in ("project", "name"):
            if argument in arguments:
                arguments[argument] = self.named(arguments[argument])
        call = Call(caller=caller, action=action, params=arguments, idempotency_key=key, plan_token=token)
        return await self.calls.perform(call, lambda: use_cases[action](call, **arguments))

    def named(self, project: str) -> str:
        """The project's name in this test: others on the same engine have networks, too."""
        return f"{project}-{self.mark}"

    async def create(self, project: str = "shop", **arguments: Any) -> Any:
        return await self.ask("create_database", project=project, **arguments)

    async def get(self, project: str = "shop", **arguments: Any) -> Any:
        return await self.ask("get_database", project=project, **arguments)

    async def delete(self, project: str = "shop", **arguments: Any) -> Any:
        """The plan, and then its token."""
        plan = await self.ask("delete_database", project=project, **arguments)
        return await self.ask("delete_database", project=project, token=plan.plan_token, **arguments)

    async def url(self, project: str = "shop", **arguments: Any) -> str:
        text: str = (await self.get(project, reveal=True, **arguments)).url
        return text

    async def record(self, project: str = "shop", scope: str = "all") -> Database | None:
        key = f"{self.named(project)}/{scope}"
        return await self.store.read(lambda tx: tx.databases.get(key))

    async def records(self) -> list[Database]:
        home = self.databases.parts.site.home
        return list(await self.store.read(lambda tx: tx.databases.of_home(home)))

    async def servers(self) -> list[DatabaseServer]:
        home = self.databases.parts.site.home
        return list(await self.store.read(lambda tx: tx.database_servers.of_home(home)))

    async def ports(self) -> list[PortAllocation]:
        host = self.databases.parts.site.host
        return list(await self.store.read(lambda tx: tx.ports.of_host(host)))

    async def add_project(self, name: str, path: str | None = None, team: str = "t1") -> None:
        async def transaction(tx: Transaction) -> None:
            now = await tx.now()
            await tx.projects.add(
                Project(
                    name=self.named(name),
                    uid=f"p-{name}",
                    team_id=team,
                    path=path,
                    created_at=now,
                    updated_at=now,
                )
            )

        await self.store.run(transaction, SET_UP)


async def run_on(url: str, sql: str, *arguments: object) -> list[asyncpg.Record]:
    """One statement over a connection of its own."""
    connection = await asyncpg.connect(url, timeout=10, ssl=False)
    try:
        return list(await connection.fetch(sql, *arguments))
    finally:
        await connection.close()


async def furnish(store: Store, mark: str) -> None:
    """Teams t1 and t2 with the projects shop and den, once."""

    async def transaction(tx: Transaction) -> None:
        now = await tx.now()
        if await tx.teams.get("t1") is not None:
            return
        for team, project in (("t1", "shop"), ("t2", "den")):
            await tx.teams.add(
                Team(id=team, name=team, slug=team, owner="o@example.org", created_at=now, updated_at=now)
            )
            await tx.projects.add(
                Project(
                    name=f"{project}-{mark}", uid=f"p-{project}", team_id=team, created_at=now, updated_at=now
                )
            )

    await store.run(transaction, SET_UP)


@asynccontextmanager
async def a_yard(
    store: Store,
    home: Path,
    engine: Orchestrator,
    *,
    installation: str,
    image: str,
    ports: range,
    mark: str = "",
    host: str = "",
    step: Step = no_step,
    machine: Any = None,
    final_backup: Any = None,
    logins: Any = None,
    **options: Any,
) -> AsyncIterator[Yard]:
    """A server's use cases. Two yards over one store and home are two servers of it."""
    mark = mark or secrets.token_hex(3)
    workers = HomeWorkers.open(home)
    trail = Trail(store)
    calls = Calls(store, MemoryCache(), trail, rate_limit=1_000_000)
    wanted: dict[str, Any] = {
        "files": str(home / "databases"),
        "image": image,
        "vector_image": image,
        "container": f"qt-{mark}-db-{{project}}",
        "volume": f"qt-{mark}-data-{{project}}",
        "ports": ports,
        "pool": 0,
        "spare": GB // 4,
        "ready_seconds": 90.0,  # tests share their machine
    }
    databases = Databases(
        Parts(
            store=store,
            calls=calls,
            engine=engine,
            logins=logins or AsyncpgLogins(),
            files=DiskSqliteFiles(),
            env_files=DotenvBlocks(),
            machine=machine or ThisMachine(),
            workers=workers,
            seats=HomeSeats(home),
            sealer=AesSealer(setting_and_file(None, home)),
            site=Site(
                installation=installation, home=f"home-{mark}", host=host or f"host-{mark}", host_name="box"
            ),
            options=Options(**{**wanted, **options}),
            step=step,
        ),
        final_backup=final_backup,
    )
    try:
        await furnish(store, mark)
        async with databases.working():
            projects = Projects(calls, roots=("/",), databases=databases)
            yield Yard(store, databases, projects, mark, home, calls, trail)
    finally:
        workers.close()
