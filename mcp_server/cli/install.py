"""`install CLIENT`: write this server into an MCP client's configuration."""

from __future__ import annotations

import json
import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from mcp_server.cli.context import OK, Context
from mcp_server.cli.parsing import Commands
from mcp_server.domain.errors import Conflict

NAME = "quaymaster"


class Client(NamedTuple):
    """Where a client keeps its servers: a file, and the name of the section in it."""

    file: Path
    section: str
    typed: bool = False


def add(commands: Commands) -> None:
    install = commands.add_parser("install", help="add this server to an MCP client's configuration")
    install.add_argument("client", choices=("claude-desktop", "claude-code", "cursor", "vscode"))
    install.add_argument("--print", action="store_true", dest="only_print", help="show it and write nothing")
    install.add_argument("--file", type=Path, help="another configuration file")
    install.set_defaults(run=run_install)


def run_install(chosen: Namespace, context: Context) -> int:
    client = clients(context.environ, context.cwd, sys.platform)[chosen.client]
    if chosen.file is not None:
        client = client._replace(file=chosen.file)
    entry = server_entry(client, context.settings.home)
    if chosen.only_print:
        context.print_json({client.section: {NAME: entry}})
        return OK
    backup = write_entry(client, entry, datetime.now(UTC))
    context.tell(f"written to {client.file}" + (f"; the file as it was: {backup}" if backup else ""))
    if context.settings.database_url is not None:
        context.tell(
            "add QUAYMASTER_DATABASE_URL and QUAYMASTER_API_KEY to its env: a client passes no others"
        )
    return OK


def clients(environ: Mapping[str, str], cwd: Path, system: str) -> dict[str, Client]:
    """The configuration files of the known clients; project files lie in `cwd`."""
    home = Path(environ.get("HOME") or Path.home())
    desktop = {
        "darwin": home / "Library" / "Application Support" / "Claude",
        "win32": Path(environ.get("APPDATA", home)) / "Claude",
    }.get(system, Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "Claude")
    return {
        "claude-desktop": Client(desktop / "claude_desktop_config.json", "mcpServers"),
        "claude-code": Client(cwd / ".mcp.json", "mcpServers", typed=True),
        "cursor": Client(home / ".cursor" / "mcp.json", "mcpServers"),
        "vscode": Client(cwd / ".vscode" / "mcp.json", "servers", typed=True),
    }


def server_entry(client: Client, home: Path) -> dict[str, Any]:
    """How a client starts this server over stdio. Holds no secret.

    A client starts it in the directory that somebody works in: `-P` keeps Python from importing what lies there.
    """
    command = shutil.which(NAME)
    start = [command, "stdio"] if command else [sys.executable, "-P", "-m", "mcp_server", "stdio"]
    entry = {"command": start[0], "args": start[1:], "env": {"QUAYMASTER_HOME": str(home)}}
    return {"type": "stdio", **entry} if client.typed else entry


def write_entry(client: Client, entry: dict[str, Any], now: datetime) -> Path | None:
    """Put the entry beside what is there; returns the copy of the file as it was.

    Raises Conflict for a file that is not plain JSON: it is left alone.
    """
    before = client.file.read_text(encoding="utf-8") if client.file.exists() else ""
    merged = _merged(before, client, entry)
    client.file.parent.mkdir(parents=True, exist_ok=True)
    backup = None
    if before:
        backup = client.file.with_name(f"{client.file.name}.{now.strftime('%Y%m%dT%H%M%SZ')}.bak")
        shutil.copy2(client.file, backup)
    new = client.file.with_name(f"{client.file.name}.new")
    new.write_text(json.dumps(merged, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if backup is not None:
        shutil.copymode(backup, new)
    os.replace(new, client.file)
    return backup


def _merged(before: str, client: Client, entry: dict[str, Any]) -> dict[str, Any]:
    try:
        present = json.loads(before or "{}")
        section = present.setdefault(client.section, {})
        section[NAME] = entry
    except (ValueError, AttributeError, TypeError) as error:
        raise Conflict(
            f"{client.file} is not plain JSON and was left as it is",
            next="Add what 'quaymaster install CLIENT --print' shows by hand.",
        ) from error
    merged: dict[str, Any] = present
    return merged
