"""The main job goes on while PostgreSQL is killed and comes back: two real clients, one home, no acknowledged write lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest
from mcp import Client

from tests.acceptance.wire import ERAS, done, make_key, over_http, over_stdio, refused
from tests.services.postgres import PostgresServer
from tests.services.processes import ServerProcess


async def mode_of(client: Client) -> str:
    return str((await done(client, "infrastructure_status"))["mode"])


async def eventually(ask: Callable[[], Awaitable[bool]], *, seconds: float = 40) -> None:
    with anyio.fail_after(seconds):
        while not await ask():
            await anyio.sleep(0.1)


async def stored_titles(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT title FROM work_tasks ORDER BY title")
        return [row["title"] for row in rows]
    finally:
        await connection.close()


@pytest.mark.parametrize("era", ERAS)
async def test_two_clients_go_on_working_while_postgresql_is_killed_and_comes_back(
    own_postgres: PostgresServer, tmp_path: Path, era: str
) -> None:
    url = own_postgres.url
    settings = {"QUAYMASTER_DATABASE_URL": url}
    member = make_key(tmp_path, role="member", **settings)
    owner = make_key(tmp_path, role="owner", **settings)
    titles: list[str] = []

    async def work(client: Client, who: str, phase: str) -> None:
        """Tasks and locks of one client; every title noted here was acknowledged."""
        for number in range(5):
            title = f"{who} {phase} {number}"
            task = await done(client, "create_task", project="shop", title=title, idempotency_key=title)
            titles.append(title)
            path = f"{who}/{phase}/{number}.py"
            held = await done(client, "lock_files", project="shop", paths=[path], task_id=task["id"])
            fences.append(held["fence"])

    fences: list[int] = []
    with ServerProcess.serve(home=tmp_path, settings=settings) as server:
        async with (
            over_stdio(tmp_path, era=era, QUAYMASTER_API_KEY=owner, **settings) as ann,
            over_http(server, member, era=era) as bo,
        ):
            await done(ann, "create_project", name="shop")
            await work(ann, "ann", "before")
            shared = await done(ann, "lock_files", project="shop", paths=["shared/"], agent="ann")

            await anyio.to_thread.run_sync(own_postgres.kill)
            for client, who in ((bo, "bo"), (ann, "ann")):
                await work(client, who, "during")
                assert await mode_of(client) == "degraded"
            error = await refused(bo, "lock_files", project="shop", paths=["shared/a.py"], agent="bo")
            assert (error["code"], error["conflicts"][0]["holder"]) == ("LOCKED", shared["holder"])
            noticed = await done(bo, "create_task", project="shop", title="noticed")
            titles.append("noticed")
            assert any("degraded since" in notice for notice in noticed["notices"])

            await anyio.to_thread.run_sync(own_postgres.start)
            await eventually(lambda: _is(ann, "primary"))
            assert await mode_of(bo) == "primary"
            await work(bo, "bo", "after")
            again = await refused(bo, "lock_files", project="shop", paths=["shared/b.py"], agent="bo")
            assert again["code"] == "LOCKED"
            status = await done(ann, "infrastructure_status")
            assert (status["pending"], status["conflicts"]) == (0, 0)

    assert await stored_titles(url) == sorted(titles)
    assert fences == sorted(set(fences))


async def _is(client: Client, mode: str) -> bool:
    return await mode_of(client) == mode


async def test_a_server_killed_together_with_postgresql_serves_what_it_had_acknowledged(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    settings = {"QUAYMASTER_DATABASE_URL": own_postgres.url}
    key = make_key(tmp_path, role="owner", **settings)
    with ServerProcess.serve(home=tmp_path, settings=settings) as server:
        async with over_http(server, key) as client:
            await done(client, "create_project", name="shop")
            made = await done(client, "create_task", project="shop", title="kept")
        await anyio.to_thread.run_sync(own_postgres.kill)
        server.kill()
    with ServerProcess.serve(home=tmp_path, settings=settings) as server:
        async with over_http(server, key) as client:
            found: dict[str, Any] = await done(client, "get_task", task_id=made["id"])
            assert found["title"] == "kept"
            assert await mode_of(client) == "degraded"
            await done(client, "update_task", task_id=made["id"], status="in-progress")
            await anyio.to_thread.run_sync(own_postgres.start)
            await eventually(lambda: _is(client, "primary"))
            assert (await done(client, "get_task", task_id=made["id"]))["status"] == "in-progress"
