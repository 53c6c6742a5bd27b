"""A server that is killed at any named step: the next one settles, tells the truth, and goes on."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.acceptance import wire
from tests.deployments.conftest import Harbour
from tests.deployments.truth import told_truly
from tests.services.processes import ServerProcess
from tests.tools.desk import Desk

DEPLOY = [
    "deploy.reserved",
    "deploy.vacate.drained",
    "deploy.vacate.emptied",
    "slots.removed",
    "slots.start.port",
    "slots.start.created",
    "slots.start.started",
    "deploy.healthy",
    "slots.edge.joined",
    "edge.preview.written",
    "slots.edge.preview",
    "deploy.routed",
    "deploy.settled",
]
SWITCH = [
    "switch.intended",
    "switch.running",
    "switch.before_point",
    "edge.point.written",
    "edge.point.switched",
    "edge.point.done",
    "switch.pointed",
    "switch.probed",
    "switch.before_settle",
    "switch.settled",
]
COLD = ["slots.removed", "slots.start.created", "switch.cold.healthy", "switch.cold.filled", "switch.pointed"]
CLEANUP = ["cleanup.emptied", "slots.removed", "cleanup.removed"]


def killed_at(harbour: Harbour, point: str, tool: str, /, **arguments: Any) -> None:
    """A server of its own makes the call and is killed when it passes the point."""
    settings = {
        **harbour.environ,
        "DOCKER_HOST": harbour.engine.address,
        "QUAYMASTER_FAULT": f"{point}:KILL",
        "QUAYMASTER_ENV": "development",
        "LOGNAME": "ann",
    }
    with ServerProcess.stdio("--toolsets", "all", home=harbour.home, settings=settings) as server:
        wire.send(server, wire.call(1, tool, **arguments))
        assert server.wait_ended(60) == -9, f"{point} was not passed"


def points(all_of_them: list[str], soak: bool, rng: random.Random, sample: int) -> list[str]:
    return all_of_them if soak else sorted(rng.sample(all_of_them, sample), key=all_of_them.index)


async def two_versions(desk: Desk, harbour: Harbour) -> None:
    """v1 is active in blue, v2 is deployed in green."""
    await desk.done("create_project", {"name": harbour.project})
    await desk.done("deploy_project", harbour.deploy())
    await desk.done("promote", {"project": harbour.project})
    await desk.done("deploy_project", harbour.deploy("demo-v2"))


@pytest.mark.timeout(600)
async def test_a_deploy_that_is_killed_at_any_step_leaves_no_orphan_and_room_for_the_next(
    harbour: Harbour, soak: bool, rng: random.Random
) -> None:
    async with harbour.server() as desk:
        await two_versions(desk, harbour)
    for point in points(DEPLOY, soak, rng, 4):
        killed_at(harbour, point, "deploy_project", **harbour.deploy("demo-v2"))
        assert harbour.version() == "v1"
        async with harbour.server() as desk:
            status = await told_truly(desk, harbour)
            assert status["active"] == "blue", point
            again = await desk.done("deploy_project", harbour.deploy("demo-v2"))
            assert again["status"] == "success", point
            await told_truly(desk, harbour)


@pytest.mark.timeout(600)
async def test_a_switch_that_is_killed_at_any_step_has_happened_or_not_and_the_status_says_which(
    harbour: Harbour, soak: bool, rng: random.Random
) -> None:
    async with harbour.server() as desk:
        await two_versions(desk, harbour)
    for point in points(SWITCH, soak, rng, 4):
        killed_at(harbour, point, "promote", project=harbour.project)
        async with harbour.server() as desk:
            status = await told_truly(desk, harbour)
            if status["active"] == "blue":
                await desk.done("promote", {"project": harbour.project})
            await told_truly(desk, harbour)
        killed_at(harbour, point, "rollback", project=harbour.project, reason="drill")
        async with harbour.server() as desk:
            status = await told_truly(desk, harbour)
            if status["active"] == "green":
                await desk.done("rollback", {"project": harbour.project, "reason": "drill"})
            status = await told_truly(desk, harbour)
            assert (status["active"], status["green"]["state"]) == ("blue", "deployed"), point


@pytest.mark.timeout(600)
async def test_a_cold_rollback_that_is_killed_at_any_step_can_be_called_again(
    harbour: Harbour, soak: bool, rng: random.Random
) -> None:
    async with harbour.server() as desk:
        await two_versions(desk, harbour)
        await desk.done("promote", {"project": harbour.project})
    for point in points(COLD, soak, rng, 1):
        async with harbour.server() as desk:
            await desk.done("deploy_project", harbour.deploy("demo-v2"))
        killed_at(harbour, point, "rollback", project=harbour.project, reason="drill")
        async with harbour.server() as desk:
            status = await told_truly(desk, harbour)
            if status[status["active"]]["version"] == "v2":
                assert status["rollback_version"] == "v1"
                await desk.done("rollback", {"project": harbour.project, "reason": "drill"})
            status = await told_truly(desk, harbour)
            assert harbour.version() == "v1"
            await desk.done("deploy_project", harbour.deploy("demo-v2"))
            await desk.done("promote", {"project": harbour.project})


@pytest.mark.timeout(600)
async def test_a_cleanup_that_is_killed_leaves_nothing_behind(
    harbour: Harbour, soak: bool, rng: random.Random
) -> None:
    async with harbour.server() as desk:
        await two_versions(desk, harbour)
    for point in points(CLEANUP, soak, rng, 1):
        async with harbour.server() as desk:
            plan = await desk.done("cleanup_slot", {"project": harbour.project})
            assert (await told_truly(desk, harbour))["green"]["state"] == "deployed", "a plan changes nothing"
        token = plan["plan_token"]
        killed_at(harbour, point, "cleanup_slot", project=harbour.project, plan_token=token)
        async with harbour.server() as desk:
            assert (await told_truly(desk, harbour))["green"]["state"] == "empty", point
            await desk.done("deploy_project", harbour.deploy("demo-v2"))
