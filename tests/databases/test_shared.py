"""Many projects on one managed server, which cannot see each other."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from mcp_server.domain.errors import Invalid
from mcp_server.domain.our_workloads import DATABASE_LIMITS
from mcp_server.domain.workloads import Owner
from tests.databases.conftest import MakeYard
from tests.databases.yards import Yard, run_on
from tests.services.engine import DockerEngine


async def test_projects_share_a_server_and_nothing_else(
    make_yard: MakeYard, engine: DockerEngine, owner: Owner
) -> None:
    yard: Yard = await make_yard(isolation="shared")
    second: Yard = await make_yard(isolation="shared")
    for name in ("web", "api"):
        await yard.add_project(name)
    made = await asyncio.gather(
        yard.create(engine="postgres"),
        second.create("web", engine="postgres"),
        yard.create("api", engine="postgres"),
    )
    assert {view.container for view in made} == {made[0].container}
    assert len(engine.containers(owner.installation)) == 1
    shop, web = await yard.url(), await yard.url("web")
    await run_on(shop, "CREATE TABLE secret AS SELECT 42 AS n")
    for stranger in ("postgres", "template1", shop.rpartition("/")[2]):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await run_on(f"{web.rpartition('/')[0]}/{stranger}", "SELECT 1")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run_on(web, "SELECT rolpassword FROM pg_authid")
    names = [row["datname"] for row in await run_on(web, "SELECT datname FROM pg_database")]
    assert not [name for name in names if "shop" in name]
    with pytest.raises(Invalid, match="shared server"):
        await yard.ask("database_logs", project="shop")


async def test_one_is_stopped_rotated_and_deleted_and_the_others_go_on(make_yard: MakeYard) -> None:
    yard: Yard = await make_yard(isolation="shared")
    await yard.add_project("web")
    await yard.create(engine="postgres")
    await yard.create("web", engine="postgres")
    await run_on(await yard.url(), "CREATE TABLE kept AS SELECT 7 AS n")
    assert (await yard.ask("stop_database", project="shop")).state == "stopped"
    with pytest.raises(asyncpg.PostgresError):
        await run_on(await yard.url(), "SELECT 1")
    assert await run_on(await yard.url("web"), "SELECT 1")
    assert (await yard.ask("start_database", project="shop")).state == "running"
    old = await yard.url()
    await yard.ask("rotate_database_password", project="shop")
    assert await run_on(await yard.url(), "SELECT n FROM kept")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await run_on(old, "SELECT 1")
    await yard.delete()
    web = await yard.url("web")
    rows = await run_on(web, "SELECT count(*) AS n FROM pg_database WHERE datname LIKE 'db\\_%'")
    assert rows[0]["n"] == 1
    assert [record.project for record in await yard.records()] == [yard.named("web")]


async def test_a_crowd_of_creations_stays_within_the_tasks_of_the_shared_server(make_yard: MakeYard) -> None:
    yard: Yard = await make_yard(isolation="shared", limits=DATABASE_LIMITS.change(pids=50))
    names = [f"p{number}" for number in range(24)]
    for name in names:
        await yard.add_project(name)
    made = await asyncio.gather(*(yard.create(name, engine="postgres") for name in names))
    assert {view.state for view in made} == {"running"}
