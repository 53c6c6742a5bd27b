"""What each command of `quaymaster db` does with one database: ask, call, show."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from mcp_server.cli.context import OK, Context, table
from mcp_server.cli.db_terminal import Terminal
from mcp_server.cli.db_words import say
from mcp_server.domain.errors import Invalid, QuaymasterError
from mcp_server.domain.schemas.danger import Danger, counted
from mcp_server.domain.schemas.failures import Refused
from mcp_server.domain.schemas.folders import Folder
from mcp_server.services.schemas.answers import Status
from mcp_server.services.schemas.comparing import Difference
from mcp_server.services.schemas.databases import Databases

PENDING = 3
Answer = tuple[int, Any]
Command = Callable[[Databases, Folder, argparse.Namespace, Terminal], Awaitable[Answer]]


# -- migrate -----------------------------------------------------------------------------------------


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
        terminal.lines([f"{rows} rows of {name}" for name, rows in each.touched.items()])
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


async def _reset(
    databases: Databases, folder: Folder, chosen: argparse.Namespace, terminal: Terminal
) -> Answer:
    plan = await databases.dangerous.plan(folder, "reset", is_consented=bool(chosen.token))
    if chosen.plan:
        return _planned(databases, plan, terminal)
    _consent(databases, plan, chosen, terminal)
    saved = await databases.dangerous.reset(folder, plan, tell=terminal.tell, backup=not chosen.no_backup)
    terminal.good(f"{folder.name}: erased and migrated from the start")
    return OK, {"backup": None if saved is None else saved.id}


MIGRATE: dict[str, Command] = {
    "status": _status,
    "deploy": _deploy,
    "dev": _dev,
    "diff": _diff,
    "resolve": _resolve,
    "reset": _reset,
}


# -- rollback, push, pull ----------------------------------------------------------------------------


async def rollback(
    databases: Databases, folder: Folder, chosen: argparse.Namespace, terminal: Terminal
) -> Answer:
    if chosen.list:
        found = await databases.status(folder)
        terminal.lines(found.applied[::-1], indent="")
        if not found.applied:
            terminal.tell(say("applied.none", terminal.lang, database=folder.name))
        return OK, {"applied": list(found.applied)}
    if not chosen.target:
        raise Invalid.field("--target", "a version, a name, a number of steps, or 'base'")
    plan = await databases.dangerous.plan(folder, "rollback", chosen.target, is_consented=bool(chosen.token))
    if chosen.plan:
        return _planned(databases, plan, terminal)
    _consent(databases, plan, chosen, terminal)
    done = await databases.dangerous.rollback(
        folder, plan, chosen.target, tell=terminal.tell, backup=not chosen.no_backup
    )
    terminal.good(f"{folder.name}: took back {', '.join(done) or 'nothing'}")
    return OK, {"taken_back": list(done)}


async def push(
    databases: Databases, folder: Folder, chosen: argparse.Namespace, terminal: Terminal
) -> Answer:
    plan = await databases.dangerous.plan(folder, "push", is_consented=bool(chosen.token))
    if not plan.effects:
        if not plan.left:
            terminal.print(f"{folder.name}: the database is as schema.sql says")
        return _unexpressed(folder, plan.left, terminal, changed=False)
    if chosen.plan:
        return _planned(databases, plan, terminal)
    databases.dangerous.require_accepted(plan, accept_data_loss=chosen.accept_data_loss)
    _consent(databases, plan, chosen, terminal)
    left = await databases.dangerous.push(
        folder,
        plan,
        tell=terminal.tell,
        accept_data_loss=chosen.accept_data_loss,
        backup=not chosen.no_backup,
    )
    terminal.good(f"{folder.name}: {counted(len(plan.effects), 'statement')}")
    return _unexpressed(folder, left, terminal, changed=True)


def _unexpressed(folder: Folder, left: Sequence[str], terminal: Terminal, *, changed: bool) -> Answer:
    for each in left:
        terminal.bad(f"{folder.name}: not expressed, do it by hand: {each}")
    return (PENDING if left else OK), {"changed": changed, "unexpressed": list(left)}


async def pull(
    databases: Databases, folder: Folder, chosen: argparse.Namespace, terminal: Terminal
) -> Answer:
    plan = await databases.dangerous.plan(folder, "pull")
    if chosen.plan:
        return _planned(databases, plan, terminal)
    _consent(databases, plan, chosen, terminal)
    done = await databases.dangerous.pull(folder, plan)
    terminal.good(f"{folder.name}: {done.told(databases.folders.root)}")
    return OK, {"written": str(done.path), "kept": None if done.kept is None else str(done.kept)}


def _consent(databases: Databases, plan: Danger, chosen: argparse.Namespace, terminal: Terminal) -> None:
    if chosen.token:
        databases.dangerous.redeem(chosen.token, plan)
    else:
        terminal.ask_for_codes(plan)


def _planned(databases: Databases, plan: Danger, terminal: Terminal) -> Answer:
    token = databases.dangerous.issue(plan)
    terminal.show(plan)
    terminal.print(token)
    value = plan.model_dump(mode="json", exclude={"digest"})
    return OK, {"status": "planned", "token": token, **value}


# -- the others --------------------------------------------------------------------------------------


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
        terminal.tell(f"only the first {len(found.rows)} rows are shown")
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
ALONE: dict[str, Callable[[Databases, argparse.Namespace, Terminal, Context], Any]] = {
    "list": listed,
    "new": new,
    "debug": debug,
    "version": version,
}
