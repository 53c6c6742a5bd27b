"""PostgreSQL goes away between any two calls: deployments go on, and are in PostgreSQL afterwards."""

from __future__ import annotations

import anyio
import pytest

from mcp_server.adapters.failover.store import FailoverStore
from tests.deployments.conftest import Harbour
from tests.services.postgres import PostgresServer
from tests.tools.desk import Desk


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
