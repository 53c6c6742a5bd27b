"""`db generate` and `db studio`: the typed client of a database, and a page to browse it."""

from __future__ import annotations

import argparse

from mcp_server.cli.context import OK, Context
from mcp_server.cli.db_answers import PENDING, Answer, Command
from mcp_server.cli.db_terminal import Terminal
from mcp_server.domain.schemas.folders import Folder
from mcp_server.services.schemas.databases import Databases


def commands(context: Context) -> dict[str, Command]:
    async def generate(
        databases: Databases, folder: Folder, chosen: argparse.Namespace, terminal: Terminal
    ) -> Answer:
        async with databases.model(folder) as url:
            found = await context.root.client_writer().client(
                url, folder.path / "client", schemas=folder.settings.schemas, check=chosen.check
            )
        done = "out of date" if chosen.check else "written"
        for name in found.written:
            terminal.tell(f"{folder.name}: client/{name} {done}")
        for name in found.removed:
            terminal.tell(f"{folder.name}: client/{name} {done if chosen.check else 'removed'}")
        if found.up_to_date:
            terminal.tell(f"{folder.name}: the client is up to date")
        return PENDING if chosen.check and not found.up_to_date else OK, found._asdict()

    async def studio(
        databases: Databases, folder: Folder, chosen: argparse.Namespace, terminal: Terminal
    ) -> Answer:
        await context.root.serve_studio(
            folder.name,
            databases.places.url(folder),
            databases.places.target(folder, write=False),
            schemas=folder.settings.schemas,
            port=chosen.port,
            writable=chosen.write,
            ready=lambda entrance: terminal.tell(f"{folder.name}: {entrance} (works once; Ctrl-C ends)"),
        )
        return OK, {}

    return {"generate": generate, "studio": studio}
