"""What `quaymaster db` says of a code base: its databases, a new one, what is seen here."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from typing import Any

from mcp_server.cli.context import Context, table
from mcp_server.cli.db_terminal import Terminal
from mcp_server.cli.db_words import say
from mcp_server.domain.errors import QuaymasterError
from mcp_server.services.schemas.databases import Databases


def listed(databases: Databases, chosen: argparse.Namespace, terminal: Terminal, context: Context) -> Any:
    found = databases.list()
    if not found:
        terminal.tell(say("list.none", terminal.lang))
        return {"databases": []}
    rows = [
        [
            each.name,
            each.engine or "?",
            each.place or (each.source if each.source != each.variable else f"{each.variable} is not set"),
            each.source,
            str(each.migrations),
            " ".join(
                word
                for word, there in (
                    ("schema", each.has_schema),
                    ("seed", each.has_seed),
                    ("alembic", each.alembic),
                )
                if there
            ),
        ]
        for each in found
    ]
    for line in table(rows, ("NAME", "ENGINE", "PLACE", "FROM", "MIGRATIONS", "FILES")):
        terminal.print(line)
    return {"databases": [each.model_dump(mode="json") for each in found]}


def new(databases: Databases, chosen: argparse.Namespace, terminal: Terminal, context: Context) -> Any:
    path, variable = databases.new(chosen.name, chosen.engine)
    terminal.good(f"wrote {path}; its address is read from {variable}")
    return {"path": str(path), "variable": variable}


def debug(databases: Databases, chosen: argparse.Namespace, terminal: Terminal, context: Context) -> Any:
    value: dict[str, Any] = {
        "version": context.root.version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "directory": str(databases.folders.root),
        "environment": databases.environment,
        "databases": {},
    }
    for each in databases.list():
        value["databases"][each.name] = each.model_dump(mode="json", exclude={"name"})
        try:
            value["databases"][each.name]["warnings"] = list(
                databases.lint_all(databases.chosen([each.name])[0])
            )
        except QuaymasterError as error:
            value["databases"][each.name]["problem"] = error.message
    for name, text in value.items():
        if name != "databases":
            terminal.print(f"{name}: {text}")
    for name, found in value["databases"].items():
        terminal.print(f"{name}:")
        terminal.lines([f"{key}: {text}" for key, text in found.items()])
    return value


def version(databases: Databases, chosen: argparse.Namespace, terminal: Terminal, context: Context) -> Any:
    terminal.print(context.root.version())
    return {"version": context.root.version()}


ALONE: dict[str, Callable[[Databases, argparse.Namespace, Terminal, Context], Any]] = {
    "list": listed,
    "new": new,
    "debug": debug,
    "version": version,
}
