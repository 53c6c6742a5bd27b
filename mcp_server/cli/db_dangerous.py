"""What `quaymaster db` does with somebody's consent only: reset, rollback, push, pull."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mcp_server.cli.context import OK
from mcp_server.cli.db_answers import PENDING, Answer
from mcp_server.cli.db_terminal import Terminal
from mcp_server.cli.db_words import say
from mcp_server.domain.errors import Invalid
from mcp_server.domain.schemas.danger import Danger
from mcp_server.domain.schemas.folders import Folder
from mcp_server.domain.wording import counted
from mcp_server.services.schemas.databases import Databases


async def reset(
    databases: Databases, folder: Folder, chosen: argparse.Namespace, terminal: Terminal
) -> Answer:
    plan = await databases.dangerous.plan(folder, "reset", is_consented=bool(chosen.token))
    if chosen.plan:
        return _planned(databases, plan, terminal)
    _consent(databases, plan, chosen, terminal)
    saved = await databases.dangerous.reset(folder, plan, tell=terminal.tell, backup=not chosen.no_backup)
    terminal.good(f"{folder.name}: erased and migrated from the start")
    return OK, {"backup": None if saved is None else saved.id}


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
