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
from tests.services.processes import ServerProcess, run_quaymaster
from tests.services.proxy import TcpProxy


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


async def test_what_two_homes_changed_apart_is_shown_with_both_versions_and_decided_by_a_client(
    own_postgres: PostgresServer, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    direct = {"QUAYMASTER_DATABASE_URL": own_postgres.url}
    key = make_key(there, role="owner", **direct)
    with TcpProxy(own_postgres.port) as proxy:
        apart = {"QUAYMASTER_DATABASE_URL": own_postgres.url_of("quaymaster", port=proxy.port)}
        with (
            ServerProcess.serve(home=there, settings=direct) as beside,
            ServerProcess.serve(home=here, settings=apart) as cut_off,
        ):
            async with over_http(beside, key) as ann, over_http(cut_off, key) as bo:
                await done(ann, "create_project", name="shop")
                # What bo's server commits is in its home's registry when it answers, and all before it.
                await done(bo, "create_task", project="shop", title="seen by both")
                proxy.refuse()
                await eventually(lambda: _is(bo, "degraded"))
                await done(bo, "update_project", name="shop", description="as bo says")
                await done(ann, "update_project", name="shop", description="as ann says")
                proxy.forward()
                await eventually(lambda: _is(bo, "primary"))

                for client in (bo, ann):
                    items = (await done(client, "list_conflicts"))["items"]
                    assert [item["about"] for item in items] == ["projects/shop"]
                    assert items[0]["ours"]["description"] == "as bo says"
                    assert items[0]["theirs"]["description"] == "as ann says"
                assert (await done(bo, "infrastructure_status"))["conflicts"] == 1
                told = run_quaymaster("registry", "conflicts", home=here, settings=apart)
                assert told.returncode == 0, told.stderr
                for words in (items[0]["id"], "as bo says", "as ann says"):
                    assert words in told.stdout

                plan = await done(ann, "resolve_conflict", conflict_id=items[0]["id"], keep="ours")
                await done(
                    ann,
                    "resolve_conflict",
                    conflict_id=items[0]["id"],
                    keep="ours",
                    plan_token=plan["plan_token"],
                )
                for client in (bo, ann):
                    assert (await done(client, "get_project", name="shop"))["description"] == "as bo says"
                    assert (await done(client, "list_conflicts"))["items"] == []
        told = run_quaymaster("registry", "conflicts", home=here, settings=apart)
        assert "no conflicts" in told.stdout + told.stderr
