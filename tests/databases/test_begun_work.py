"""What is written down for a caller that goes away in that moment is carried out: its process lives, so nobody else would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from tests.tools.desk import Desk, opened
from tests.tools.lost import lost_in_the_commit


@asynccontextmanager
async def at_the_desk(home: Path, url: str, *, database: bool = True) -> AsyncIterator[Desk]:
    """On PostgreSQL, without an engine: the project's database is on SQLite."""
    async with opened(home, database_url=url) as desk:
        await desk.done("create_project", {"name": "app"})
        if database:
            await desk.done("create_database", {"project": "app", "engine": "sqlite"})
        yield desk


async def become(desk: Desk, tool: str, right: Callable[[Any], bool], **arguments: object) -> None:
    seen: Any = None
    with anyio.move_on_after(20):
        while seen is None or not right(seen):
            seen = await desk.done(tool, arguments)
            await anyio.sleep(0.05)
    assert right(seen), seen


async def test_a_creation(tmp_path: Path, database_url: str):
    async with at_the_desk(tmp_path, database_url, database=False) as desk:
        await lost_in_the_commit(desk, "create_database", project="app", engine="sqlite")
        await become(desk, "get_database", lambda seen: seen["state"] == "running", project="app")


async def test_a_backup(tmp_path: Path, database_url: str):
    async with at_the_desk(tmp_path, database_url) as desk:
        await lost_in_the_commit(desk, "backup_database", project="app")
        await become(
            desk, "list_backups", lambda seen: seen["items"][0]["state"] == "verified", project="app"
        )


async def test_a_branch(tmp_path: Path, database_url: str):
    async with at_the_desk(tmp_path, database_url) as desk:
        await lost_in_the_commit(desk, "branch_database", project="app", name="try")
        await become(desk, "list_branches", lambda seen: seen["items"][0]["state"] == "ready", project="app")


async def test_a_restore(tmp_path: Path, database_url: str):
    async with at_the_desk(tmp_path, database_url) as desk:
        backup = await desk.done("backup_database", {"project": "app"})
        wanted = {"backup_id": backup["id"]}
        plan = await desk.done("restore_database", wanted)
        await lost_in_the_commit(desk, "restore_database", **wanted, plan_token=plan["plan_token"])
        with anyio.fail_after(20):
            while (await desk.call("restore_database", wanted)).is_error:
                await anyio.sleep(0.05)
        assert len((await desk.done("list_backups", {"project": "app"}))["items"]) == 2


async def test_a_deletion(tmp_path: Path, database_url: str):
    async with at_the_desk(tmp_path, database_url) as desk:
        plan = await desk.done("delete_database", {"project": "app"})
        await lost_in_the_commit(desk, "delete_database", project="app", plan_token=plan["plan_token"])
        await become(desk, "list_databases", lambda seen: seen["items"] == [], project="app")


async def test_a_dropped_branch(tmp_path: Path, database_url: str):
    async with at_the_desk(tmp_path, database_url) as desk:
        await desk.done("branch_database", {"project": "app", "name": "try"})
        wanted = {"project": "app", "name": "try"}
        plan = await desk.done("drop_branch", wanted)
        await lost_in_the_commit(desk, "drop_branch", **wanted, plan_token=plan["plan_token"])
        plan = await desk.done("drop_branch", wanted)
        assert (await desk.done("drop_branch", {**wanted, "plan_token": plan["plan_token"]}))[
            "status"
        ] == "done"
        assert (await desk.done("list_branches", {"project": "app"}))["items"] == []
