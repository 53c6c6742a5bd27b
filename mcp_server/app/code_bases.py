"""The databases of a code base, for `quaymaster db` and the tools that do the same."""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.adapters.host.collector import resting
from mcp_server.app.identity import local_user

if TYPE_CHECKING:
    from mcp_server.app.house import House
    from mcp_server.config import Settings
    from mcp_server.domain.callers import Caller
    from mcp_server.domain.projects import Project
    from mcp_server.domain.queries import Target
    from mcp_server.services.generate import Generate
    from mcp_server.services.schemas.databases import Databases as CodeDatabases
    from mcp_server.services.schemas.estate import Estate, OpenEstate
    from mcp_server.services.schemas.projects import ProjectSchemas


def client_writer() -> Generate:
    """What `db generate` writes clients with."""
    from mcp_server.adapters.catalog.shapes import LiveShapes
    from mcp_server.services.generate import Generate

    return Generate(LiveShapes())


async def serve_studio(
    name: str,
    url: str,
    reader: Target,
    *,
    schemas: tuple[str, ...],
    port: int,
    writable: bool,
    ready: Callable[[str], None],
) -> None:
    """Serve the studio on loopback until a signal; `ready` is told the address that works once. Typed statements go
    to `reader`."""
    from mcp_server.adapters.catalog.browsers import browser_of
    from mcp_server.adapters.project_sql.statements import ProjectStatements
    from mcp_server.http.serving import WebServer, address_of, listening_socket
    from mcp_server.http.studio.app import studio_app
    from mcp_server.services.studio import Studio

    studio = Studio(name, browser_of(url, schemas), ProjectStatements(), reader, writable=writable)
    gate = studio_app(studio)
    listening = listening_socket("127.0.0.1", port)
    entrance = f"{address_of(listening)}/?token={gate.token}"

    async def nothing_to_drain() -> None:
        return

    server = WebServer(gate, ready=lambda: ready(entrance), drain=nothing_to_drain)
    await server.run_on(listening)


def code_databases(
    root: Path,
    environ: Mapping[str, str],
    environment: str,
    find_settings: Callable[[], Settings],
    *,
    owner: str | None = None,
) -> CodeDatabases:
    """The databases below `root`/db, for the person at the command line. The home is opened when it is needed:
    for a database that it made, for a backup, and then with these settings."""

    def open_estate() -> AbstractAsyncContextManager[Estate]:
        return _estate_at(find_settings())

    return _databases(
        root,
        environ,
        environment,
        owner or f"{local_user()} on {platform.node()}",
        open_estate,
        is_home=lambda: find_settings().home.exists(),
    )


def project_schemas(house: House) -> ProjectSchemas:
    """For callers of tools: addresses come from dotenv files only."""
    from mcp_server.adapters.project_sql.statements import ProjectStatements
    from mcp_server.services.schemas.projects import ProjectSchemas
    from mcp_server.services.statements import StatementGate

    def find(root: Path, environment: str, caller: Caller, project: Project) -> CodeDatabases:
        @asynccontextmanager
        async def open_estate() -> AsyncIterator[Estate]:
            yield estate_of(house, caller)

        return _databases(root, None, environment, caller.user, open_estate, project=project.name)

    gate = StatementGate(house.calls, house.store, ProjectStatements())
    return ProjectSchemas(house.calls, gate, find, house.settings.program_roots)


def estate_of(house: House, caller: Caller) -> Estate:
    from mcp_server.adapters.backup_files.scratch import HomeScratch
    from mcp_server.adapters.backup_files.sealed import SealedFiles
    from mcp_server.adapters.project_sql.sums import FileCopies, ProjectSums
    from mcp_server.domain.backups import Retention
    from mcp_server.services.backups.outside import OutsideBackups
    from mcp_server.services.schemas.estate import Estate

    parts, settings = house.databases.parts, house.settings
    files, scratch = (
        SealedFiles(settings.home / "backups", parts.sealer),
        HomeScratch(settings.home / "scratch"),
    )
    retention = Retention(most=settings.backup_keep, days=settings.backup_days)
    outside = OutsideBackups(parts, files, ProjectSums(), FileCopies(), scratch, retention)
    return Estate(parts, house.backups, outside, files, scratch, caller)


@asynccontextmanager
async def _estate_at(settings: Settings) -> AsyncIterator[Estate]:
    """As the key of QUAYMASTER_API_KEY sees it, else as the operator. What is raised inside comes out as itself."""
    from mcp_server.app.house import open_app
    from mcp_server.services.signin import local_owner

    try:
        async with open_app(settings) as house:
            caller = local_owner(local_user(), transport="cli")
            if settings.api_key is not None:
                key = settings.api_key.get_secret_value()
                caller = await house.sign_in.authenticate(key, transport="cli")
            yield estate_of(house, caller)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from error.__cause__


def _databases(
    root: Path,
    environ: Mapping[str, str] | None,
    environment: str,
    owner: str,
    open_estate: OpenEstate,
    *,
    project: str | None = None,
    is_home: Callable[[], bool] = lambda: True,
) -> CodeDatabases:
    with resting():
        from mcp_server.adapters.project_sql.statements import ProjectStatements
        from mcp_server.adapters.schemas.alembic import AlembicProjects
        from mcp_server.adapters.schemas.engines import LiveEngines
        from mcp_server.adapters.schemas.folders import DiskFolders
        from mcp_server.services.schemas.databases import Databases
        from mcp_server.services.schemas.ground import Ground
        from mcp_server.services.schemas.places import Places

    folders, engines = DiskFolders(root, environ), LiveEngines(root)
    places = Places(folders, engines, environment, open_estate, project, is_home)
    ground = Ground(folders, engines, AlembicProjects(root, environ), places, environment, owner)
    return Databases(ground, ProjectStatements())
