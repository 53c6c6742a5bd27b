"""PostgreSQL goes away between any two calls: deployments go on, and are in PostgreSQL afterwards."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest

from mcp_server.adapters.failover.store import FailoverStore
from tests.deployments.conftest import Harbour
from tests.deployments.test_engine_faults import dying_at, steps_of
from tests.deployments.test_faults import CLEANUP, DEPLOY, SWITCH, points, two_versions
from tests.deployments.truth import told_truly
from tests.services.postgres import PostgresServer
from tests.tools.desk import Desk

BOTH = ("blue", "green")


async def in_mode(desk: Desk, mode: str) -> None:
    with anyio.fail_after(60):
        while (await desk.house.store.status()).mode != mode:
            await anyio.sleep(0.1)


@pytest.mark.timeout(300)
async def test_deploy_promote_and_rollback_go_on_without_postgresql_and_are_replayed(
    harbour: Harbour, own_postgres: PostgresServer
) -> None:
    installation = ""
    try:
        async with harbour.server(database_url=own_postgres.url) as desk:
            installation = desk.house.hosting.site.installation
            ann = {"project": harbour.project}
            await desk.done("create_project", {"name": harbour.project})
            await desk.done("set_environment", {**ann, "variables": {"COLOUR": "red"}})
            await desk.done("deploy_project", harbour.deploy())
            await desk.done("promote", ann)
            own_postgres.kill()
            second = await desk.done("deploy_project", harbour.deploy("demo-v2"))
            assert (second["status"], "degraded" in second["notices"][0]) == ("success", True)
            shown = await desk.done("get_environment", {**ann, "reveal": True})
            assert shown["variables"][0]["value"] == "red"
            await desk.done("promote", ann)
            assert (harbour.version(), harbour.ask("/env/COLOUR").body) == ("v2", "red\n")
            await desk.done("set_environment", {**ann, "variables": {"COLOUR": "blue"}})
            await desk.done("rollback", {**ann, "reason": "without PostgreSQL"})
            assert harbour.version() == "v1"
            assert isinstance(desk.house.store, FailoverStore)
            before = await desk.done("slot_status", ann)
            own_postgres.start()
            await in_mode(desk, "primary")
            after = await desk.done("slot_status", ann)
            assert (after["active"], after["green"]["state"]) == ("blue", "deployed")
            assert after["blue"]["deployment"] == before["blue"]["deployment"]
            listed = (await desk.done("list_deployments", ann))["deployments"]
            assert [(one["status"], bool(one["rolled_back_at"])) for one in listed] == [
                ("success", True),
                ("success", False),
            ]
            replayed = await desk.done("get_environment", {**ann, "reveal": True})
            assert replayed["variables"][0]["value"] == "blue"
            await desk.done("promote", ann)
            assert harbour.version() == "v2"
    finally:
        harbour.engine.clear(installation)


@pytest.mark.timeout(1200)
async def test_postgresql_that_is_killed_at_any_step_ends_neither_a_deploy_nor_a_switch(
    harbour: Harbour, own_postgres: PostgresServer, soak: bool, rng: random.Random
) -> None:
    installation, ann = "", {"project": harbour.project}
    try:
        async with harbour.server(database_url=own_postgres.url) as desk:
            installation = desk.house.hosting.site.installation
            harbour.owner = desk.house.hosting.site.owner()
            await two_versions(desk, harbour)
            for point in points([one for one in DEPLOY if "edge." not in one], soak, rng, 2):
                steps_of(desk, dying_at(point, own_postgres.kill))
                again = await desk.done("deploy_project", harbour.deploy("demo-v2"))
                assert again["status"] == "success", (point, again)
                await back(desk, harbour, own_postgres)
            for point in points([one for one in SWITCH if not one.startswith("edge.")], soak, rng, 2):
                steps_of(desk, dying_at(point, own_postgres.kill))
                await desk.done("promote", ann)
                assert harbour.version() == "v2", point
                await back(desk, harbour, own_postgres)
                steps_of(desk, dying_at(point, own_postgres.kill))
                await desk.done("rollback", {**ann, "reason": "drill"})
                assert harbour.version() == "v1", point
                await back(desk, harbour, own_postgres)
            for point in points(CLEANUP, soak, rng, 1):
                plan = await desk.done("cleanup_slot", ann)
                steps_of(desk, dying_at(point, own_postgres.kill))
                await desk.done("cleanup_slot", {**ann, "plan_token": plan["plan_token"]})
                status = await back(desk, harbour, own_postgres)
                assert status["green"]["state"] == "empty", point
                await desk.done("deploy_project", harbour.deploy("demo-v2"))
    finally:
        harbour.engine.clear(installation)


async def back(desk: Desk, harbour: Harbour, postgres: PostgresServer) -> dict[str, Any]:
    """The status is true while PostgreSQL is away, and the same once it is back."""
    steps_of(desk, lambda _: None)
    without = await told_truly(desk, harbour)
    postgres.start()
    await in_mode(desk, "primary")
    after = await told_truly(desk, harbour)
    names = ("active", "rollback", "rollback_version", "last_switch")
    assert {name: after[name] for name in names} == {name: without[name] for name in names}
    assert [after[slot]["deployment"] for slot in BOTH] == [without[slot]["deployment"] for slot in BOTH]
    return after
