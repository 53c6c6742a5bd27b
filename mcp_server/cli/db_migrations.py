"""What `quaymaster db migrate` does with one database: ask, call, show."""

from __future__ import annotations

import argparse
from typing import Any

from mcp_server.cli.context import OK
from mcp_server.cli.db_answers import PENDING, Answer, Command
from mcp_server.cli.db_dangerous import reset
from mcp_server.cli.db_terminal import Terminal
from mcp_server.cli.db_words import say
from mcp_server.domain.errors import Invalid
from mcp_server.domain.schemas.failures import Refused
from mcp_server.domain.schemas.folders import Folder
from mcp_server.domain.wording import counted
from mcp_server.services.schemas.answers import Status
from mcp_server.services.schemas.comparing import Difference
from mcp_server.services.schemas.databases import Databases


async def migrate(
    databases: Databases, folder: Folder, chosen: argparse.Namespace, terminal: Terminal
) -> Answer:
    return await MIGRATE[chosen.type](databases, folder, chosen, terminal)


async def _status(
    databases: Databases, folder: Folder, chosen: argparse.Namespace, terminal: Terminal
) -> Answer:
    found = await databases.status(folder)
    _show_status(found, terminal)
    code = OK if found.sound and not found.pending else PENDING
    return code, found.model_dump(mode="json")


async def _deploy(
    databases: Databases, folder: Folder, chosen: argparse.Namespace, terminal: Terminal
) -> Answer:
    if chosen.rehearse:
        return await _rehearse(databases, folder, chosen, terminal)
    found = await databases.status(folder)
    for finding in found.lint:
        terminal.tell(f"warning: {finding}")
    if found.pending and not chosen.no_countdown:
        await terminal.count_down(databases.environment)
    return await _apply(databases, folder, chosen, terminal, len(found.pending))


async def _apply(
    databases: Databases, folder: Folder, chosen: argparse.Namespace, terminal: Terminal, pending: int
) -> Answer:
    count = 0

    def told(label: str) -> None:
        nonlocal count
        count += 1
        terminal.bar(count, pending, label)

    try:
        done = await databases.deploy(
            folder,
            tell=told,
            allow_missing=chosen.allow_missing,
            allow_out_of_order=chosen.allow_out_of_order,
        )
    finally:
        terminal.end_bar()
    for label in done:
        terminal.good(f"{folder.name}: applied {label}")
    if not done:
        terminal.print(f"{folder.name}: nothing is pending")
    return OK, {"applied": list(done)}


async def _rehearse(
    databases: Databases, folder: Folder, chosen: argparse.Namespace, terminal: Terminal
) -> Answer:
    report, drift = await databases.rehearse(folder)
    for each in report:
        terminal.print(f"{folder.name}: {each.migration} took {each.seconds:.3f} s on a clone")
        terminal.lines([f"lock {lock}" for lock in each.locks])
        terminal.lines([f"rewrites {name}" for name in each.rewritten])
        terminal.lines([f"{counted(rows, 'row')} of {name}" for name, rows in each.touched.items()])
        terminal.lines([f"warning: {finding}" for finding in each.findings])
    if not report:
        terminal.print(f"{folder.name}: nothing is pending")
    for difference in drift:
        terminal.bad(f"{folder.name}: afterwards, database and schema.sql: {difference}")
    value = {"rehearsed": [each.model_dump(mode="json") for each in report], "drift": list(drift)}
    return (PENDING if drift else OK), value


async def _dev(
    databases: Databases, folder: Folder, chosen: argparse.Namespace, terminal: Terminal
) -> Answer:
    if databases.environment == "production":
        raise Refused("migrate dev writes files from a development database", next="Use migrate -t deploy.")
    written: dict[str, Any] = {}
    if chosen.empty:
        if not chosen.name:
            raise Invalid.field("--name", "the name of the new migration")
        path = databases.write_empty(folder, chosen.name)
        terminal.good(f"{folder.name}: wrote {path.name}")
        return OK, {"written": path.name}
    if chosen.name:
        path, found = await databases.write_migration(folder, chosen.name)
        written = {"written": path.name, **found.model_dump(mode="json")}
        terminal.good(f"{folder.name}: wrote {path.name}, rehearsed up and down")
        _show_difference(found, terminal)
    if chosen.create_only:
        return OK, written
    status = await databases.status(folder)
    code, applied = await _apply(databases, folder, chosen, terminal, len(status.pending))
    if not chosen.name and await databases.is_behind_schema(folder):
        terminal.tell(say("dev.more", terminal.lang, database=folder.name))
    return code, {**written, **applied}


async def _diff(
    databases: Databases, folder: Folder, chosen: argparse.Namespace, terminal: Terminal
) -> Answer:
    found = await databases.difference(folder)
    if found.empty:
        terminal.print(f"{folder.name}: the database is as schema.sql says")
        return OK, found.model_dump(mode="json")
    _show_difference(found, terminal)
    return PENDING, found.model_dump(mode="json")


async def _resolve(
    databases: Databases, folder: Folder, chosen: argparse.Namespace, terminal: Terminal
) -> Answer:
    if chosen.applied:
        decision, version, done = "applied", chosen.applied, 0
    elif chosen.rolled_back:
        decision, version, done = "rolled-back", chosen.rolled_back, 0
    elif chosen.continue_at and chosen.continue_at[0].isdigit():
        decision, version, done = "continue", chosen.continue_at[1], int(chosen.continue_at[0])
    else:
        raise Invalid("say --applied VERSION, --rolled-back VERSION or --continue-at N VERSION")
    said = await databases.resolve(folder, version, decision, done)
    terminal.good(f"{folder.name}: {said}")
    return OK, {"resolved": said}


MIGRATE: dict[str, Command] = {
    "status": _status,
    "deploy": _deploy,
    "dev": _dev,
    "diff": _diff,
    "resolve": _resolve,
    "reset": reset,
}


def _show_status(found: Status, terminal: Terminal) -> None:
    terminal.print(
        f"{found.name}: {len(found.applied)} applied, {len(found.pending)} pending at {found.place}"
    )
    for label in found.pending:
        terminal.print(f"  pending       {label}")
    for word, labels in (
        ("edited", found.edited),
        ("missing", found.missing),
        ("out of order", found.out_of_order),
        ("half applied", found.half),
    ):
        for label in labels:
            terminal.bad(f"  {word.ljust(12)}  {label}")
    for finding in found.lint:
        terminal.tell(f"warning: {finding}")


def _show_difference(found: Difference, terminal: Terminal) -> None:
    terminal.print(f"-- up\n{found.up.rstrip()}\n\n-- down\n{found.down.rstrip()}")
    for each in found.losses:
        terminal.tell(f"warning: up: {each}")
    for each in found.losses_down:
        terminal.tell(f"warning: down: {each}")
    for each in found.unexpressed:
        terminal.tell(f"warning: not expressed, do it by hand: {each}")
