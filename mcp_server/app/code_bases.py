"""The databases of a code base, for `quaymaster db` and the tools that do the same."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_server.app.identity import local_user
from mcp_server.services.calls import Calls

if TYPE_CHECKING:
    from mcp_server.services.generate import Generate
    from mcp_server.services.schemas.databases import Databases as CodeDatabases
    from mcp_server.services.schemas.projects import ProjectSchemas


def client_writer() -> Generate:
    """What `db generate` writes clients with."""
    from mcp_server.adapters.catalog.shapes import LiveShapes
    from mcp_server.services.generate import Generate

    return Generate(LiveShapes())


async def serve_studio(
    name: str,
    url: str,
    *,
    schemas: tuple[str, ...],
    port: int,
    writable: bool,
    ready: Callable[[str], None],
) -> None:
    """Serve the studio on loopback until a signal; `ready` is told the address that works once."""
    from mcp_server.adapters.catalog.browsers import browser_of
    from mcp_server.http.serving import WebServer, address_of, listening_socket
    from mcp_server.http.studio.app import studio_app
    from mcp_server.services.studio import Studio

    gate = studio_app(Studio(name, browser_of(url, schemas), writable=writable))
    listening = listening_socket("127.0.0.1", port)
    entrance = f"{address_of(listening)}/?token={gate.token}"

    async def nothing_to_drain() -> None:
        return

    server = WebServer(gate, ready=lambda: ready(entrance), drain=nothing_to_drain)
    await server.run_on(listening)


def code_databases(
    root: Path, environ: Mapping[str, str] | None, environment: str, *, owner: str | None = None
) -> CodeDatabases:
    """The databases below `root`/db. Without `environ` their addresses come from the dotenv files there only."""
    from mcp_server.adapters.schemas.engines import LiveEngines
    from mcp_server.adapters.schemas.folders import DiskFolders
    from mcp_server.services.schemas.databases import Databases

    who = owner or f"{local_user()} on {platform.node()}"
    return Databases(DiskFolders(root, environ), LiveEngines(root), environment, who)


def project_schemas(calls: Calls) -> ProjectSchemas:
    from mcp_server.services.schemas.projects import ProjectSchemas

    return ProjectSchemas(
        calls, lambda root, environment, owner: code_databases(root, None, environment, owner=owner)
    )
