"""A server that is killed at any named step: the next one settles, tells the truth, and goes on."""

from __future__ import annotations

import base64
import io
import random
import tarfile
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import pytest

from mcp_server.ports.store import Intent, Transaction
from tests.acceptance import wire
from tests.databases.test_fault_points import steps_of_module
from tests.deployments.conftest import Harbour
from tests.deployments.truth import told_truly
from tests.services.processes import CHECKOUT, ServerProcess
from tests.tools.desk import Desk

TEST = Intent("deploy_project", "test")
DEPLOY = [
    "deploy.reserved",
    "deploy.vacate.drained",
    "deploy.vacate.emptied",
    "slots.stopped",
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
CLEANUP = ["cleanup.emptied", "slots.stopped", "slots.removed", "cleanup.removed"]
UNDO = ["slots.stopped", "slots.removed", "deploy.undo.cleared", "deploy.undone"]
GRACE = ["grace.expired", "slots.stopped", "slots.removed"]
REVIVE = ["slots.start.port", "slots.start.created", "revive.started", "slots.edge.joined"]
BUILD = ["build.begun", "build.ended"]
RECOVER = [
    ("recover.deployment.cleared", "deploy.healthy", "deploy_project"),
    ("recover.switch.observed", "switch.pointed", "promote"),
]
"""Where the next server dies, after the first one died there in that call."""


def killed_at(harbour: Harbour, point: str, tool: str, /, **arguments: Any) -> None:
    """A server of its own makes the call and is killed when it passes the point, at its start or in the call."""
    settings = {
        **harbour.environ,
        "DOCKER_HOST": harbour.engine.address,
        "QUAYMASTER_FAULT": f"{point}:KILL",
        "QUAYMASTER_ENV": "development",
        "LOGNAME": "ann",
    }
    with ServerProcess.stdio("--toolsets", "all", home=harbour.home, settings=settings) as server:
        wire.send(server, wire.call(1, tool, **arguments))
        assert server.wait_ended(120) == -9, f"{point} was not passed"


def killed_at_start(harbour: Harbour, point: str) -> None:
    killed_at(harbour, point, "infrastructure_status")


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
            assert again["status"] == "success", (point, again)
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


@pytest.mark.timeout(600)
async def test_the_undoing_of_a_failed_deploy_that_is_killed_is_ended_by_the_next_server(
    harbour: Harbour, soak: bool, rng: random.Random
) -> None:
    ann = {"project": harbour.project}
    async with harbour.server() as desk:
        await desk.done("create_project", {"name": harbour.project})
        await desk.done("deploy_project", harbour.deploy())
        await desk.done("promote", ann)
        await desk.done("set_environment", {**ann, "variables": {"CRASH_AFTER": "0"}})
    for point in points(UNDO, soak, rng, 2):
        killed_at(harbour, point, "deploy_project", **harbour.deploy("demo-v2"))
        async with harbour.server() as desk:
            status = await told_truly(desk, harbour)
            assert (status["active"], status["green"]["state"]) == ("blue", "empty"), point
            [newest, *_] = (await desk.done("list_deployments", ann))["deployments"]
            assert newest["status"] == "failed", point
    assert harbour.version() == "v1"


@pytest.mark.timeout(600)
async def test_a_grace_whose_end_is_killed_ends_with_the_next_server(
    harbour: Harbour, soak: bool, rng: random.Random
) -> None:
    async with harbour.server() as desk:
        await two_versions(desk, harbour)
        await desk.done("promote", {"project": harbour.project})
    for point in points(GRACE, soak, rng, 1):
        async with harbour.server() as desk:
            with anyio.fail_after(30):
                while desk.house.hosting.works.get("recovery") is not None:
                    await anyio.sleep(0.05)
            await desk.house.store.run(partial(run_out, key=f"{harbour.project}/staging"), TEST)
        killed_at_start(harbour, point)
        async with harbour.server() as desk:
            status = await told_truly(desk, harbour)
            assert (status["active"], status["blue"]["state"]) == ("green", "empty"), point
            assert harbour.version() == "v2"
            await desk.done("deploy_project", harbour.deploy())
            await desk.done("promote", {"project": harbour.project})
            await desk.done("deploy_project", harbour.deploy("demo-v2"))
            await desk.done("promote", {"project": harbour.project})
            flipped = await told_truly(desk, harbour)
            assert (flipped["active"], flipped["blue"]["state"]) == ("green", "grace")


@pytest.mark.timeout(600)
async def test_a_settling_that_is_killed_is_done_by_the_one_after_it(
    harbour: Harbour, soak: bool, rng: random.Random
) -> None:
    async with harbour.server() as desk:
        await two_versions(desk, harbour)
    for point, before, tool in RECOVER if soak else rng.sample(RECOVER, 1):
        arguments = harbour.deploy("demo-v2") if tool == "deploy_project" else {"project": harbour.project}
        killed_at(harbour, before, tool, **arguments)
        killed_at_start(harbour, point)
        async with harbour.server() as desk:
            status = await told_truly(desk, harbour)
            assert status["active"] == ("green" if tool == "promote" else "blue"), point
            if tool == "deploy_project":
                await desk.done("deploy_project", harbour.deploy("demo-v2"))


@pytest.mark.timeout(600)
async def test_what_has_the_traffic_runs_again_when_the_server_that_began_to_start_it_is_killed(
    harbour: Harbour, soak: bool, rng: random.Random
) -> None:
    async with harbour.server() as desk:
        await two_versions(desk, harbour)
    for point in points(REVIVE, soak, rng, 2):
        harbour.engine.ask("DELETE", f"/containers/quaymaster-{harbour.project}-staging-blue?force=1")
        killed_at_start(harbour, point)
        async with harbour.server() as desk:
            with anyio.fail_after(60):
                while harbour.ask().status != 200 or (await blue(desk, harbour))["health"] != "healthy":
                    await anyio.sleep(0.2)
            await told_truly(desk, harbour)
            assert harbour.version() == "v1", point


@pytest.mark.timeout(300)
async def test_a_build_that_is_killed_can_be_called_again(harbour: Harbour) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        text = f"FROM {harbour.image('busybox')}\nENV A=1\n".encode()
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    code = base64.b64encode(packed.getvalue()).decode()
    wanted = {"project": harbour.project, "version": "a", "archive_content": code}
    async with harbour.server() as desk:
        await desk.done("create_project", {"name": harbour.project})
    for point in BUILD:
        killed_at(harbour, point, "build_image", **wanted)
        async with harbour.server() as desk:
            assert (await desk.done("build_image", wanted))["status"] == "done", point


def test_the_server_is_killed_at_every_named_step_of_deployments_and_of_no_other() -> None:
    killed = {*DEPLOY, *SWITCH, *COLD, *CLEANUP, *UNDO, *GRACE, *REVIVE, *BUILD, *(one[0] for one in RECOVER)}
    folder = CHECKOUT / "mcp_server" / "services" / "deployments"
    named = {step for module in sorted(folder.glob("*.py")) for step in steps_of_module(module)}
    assert named
    assert sorted(named) == sorted(step for step in killed if not step.startswith("edge."))


async def blue(desk: Desk, harbour: Harbour) -> dict[str, Any]:
    status = await desk.done("slot_status", {"project": harbour.project})
    return dict(status["blue"])


async def run_out(tx: Transaction, *, key: str) -> None:
    """The time of grace is over."""
    pair = await tx.slots.hold(key)
    assert pair is not None
    assert pair.grace_expires_at is not None
    await tx.slots.save(pair.change(grace_expires_at=await tx.now() - timedelta(seconds=1)))
