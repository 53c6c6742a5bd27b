"""The commands of `quaymaster db` for one database, and what each does: ask, call, show."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mcp_server.cli.context import OK, table
from mcp_server.cli.db_answers import PENDING, Answer, Command
from mcp_server.cli.db_dangerous import pull, push, rollback
from mcp_server.cli.db_migrations import migrate
from mcp_server.cli.db_terminal import Terminal
from mcp_server.domain.errors import Invalid
from mcp_server.domain.schemas.folders import Folder
from mcp_server.domain.wording import counted
from mcp_server.services.schemas.databases import Databases


async def seed(
    databases: Databases, folder: Folder, chosen: argparse.Namespace, terminal: Terminal
) -> Answer:
    said = await databases.seed(folder)
    terminal.good(f"{folder.name}: {said}")
    return OK, {"seeded": said}


async def validate(
    databases: Databases, folder: Folder, chosen: argparse.Namespace, terminal: Terminal
) -> Answer:
    problems = await databases.validate(folder)
    warnings = databases.lint_all(folder)
    for each in warnings:
        terminal.tell(f"warning: {each}")
    for each in problems:
        terminal.bad(f"{folder.name}: {each}")
    if not problems:
        terminal.good(f"{folder.name}: valid")
    return (PENDING if problems else OK), {"problems": list(problems), "warnings": list(warnings)}


async def execute(
    databases: Databases, folder: Folder, chosen: argparse.Namespace, terminal: Terminal
) -> Answer:
    if bool(chosen.query) == bool(chosen.file):
        raise Invalid("pass the statement by -q, or its file by -f")
    if chosen.limit < 1:
        raise Invalid.field("--limit", "1 or more")
    sql = chosen.query or databases.folders.read(databases.folders.root / Path(chosen.file))
    if sql == "-":
        sql = sys.stdin.read()
    found = await databases.execute(folder, sql, write=chosen.write, limit=chosen.limit)
    if found.columns and not terminal.as_json:
        rows = [["NULL" if cell is None else str(cell) for cell in row] for row in found.rows]
        for line in table(rows, [each.name for each in found.columns]):
            terminal.print(line)
    elif not found.columns:
        terminal.print("done")
    if found.truncated:
        terminal.tell(f"cut after {counted(len(found.rows), 'row')}")
    value = {
        "columns": [each.name for each in found.columns],
        "rows": [list(row) for row in found.rows],
        "more": found.truncated,
    }
    return OK, value


async def backups(
    databases: Databases, folder: Folder, chosen: argparse.Namespace, terminal: Terminal
) -> Answer:
    if chosen.export:
        path = databases.folders.root / chosen.export[1]
        await databases.places.export(folder, chosen.export[0], path)
        terminal.good(f"{folder.name}: wrote {path}")
        return OK, {"written": str(path)}
    found = await databases.places.backups(folder)
    rows = [
        [
            each.id,
            f"{each.created_at:%Y-%m-%d %H:%M:%S}",
            _state(each.stage),
            str(each.bytes),
            each.error or "",
        ]
        for each in found
    ]
    for line in table(rows, ("ID", "MADE (UTC)", "STATE", "BYTES", "")) if rows else [f"{folder.name}: none"]:
        terminal.print(line)
    kept = {"id", "created_at", "stage", "bytes", "verified_at", "error"}
    return OK, {"backups": [each.model_dump(mode="json", include=kept) for each in found]}


def _state(stage: str) -> str:
    return "verified" if stage == "kept" else stage


TABLE: dict[str, Command] = {
    "migrate": migrate,
    "rollback": rollback,
    "push": push,
    "pull": pull,
    "seed": seed,
    "validate": validate,
    "execute": execute,
    "backups": backups,
}
