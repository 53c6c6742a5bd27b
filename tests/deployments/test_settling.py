"""What settles beside other work: nobody is told that a place is free before it is, and nothing of another's goes."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from functools import partial
from typing import Any

import anyio
import pytest

from mcp_server.domain.databases import PortAllocation
from mcp_server.domain.errors import Conflict
from mcp_server.domain.slots import SlotPair
from mcp_server.ports.store import Transaction
from mcp_server.services.deployments.berths import Berth
from mcp_server.services.deployments.recovery import Recovery
from tests.deployments.conftest import Harbour
from tests.deployments.test_faults import TEST, killed_at, two_versions
from tests.deployments.truth import ports, told_truly
from tests.tools.desk import Desk


async def slots_ports(desk: Desk, harbour: Harbour) -> set[int]:
    status = await desk.done("slot_status", {"project": harbour.project})
    return {status[slot]["port"] for slot in ("blue", "green")} - {None}


@pytest.mark.timeout(300)
async def test_a_broken_off_cold_rollback_is_at_work_until_what_it_started_is_gone(harbour: Harbour) -> None:
    """The application takes its five seconds to end, in which the status must not call its place free."""
    ann = {"project": harbour.project}
    async with harbour.server() as desk:
        await desk.done("create_project", {"name": harbour.project})
        await desk.done("set_environment", {**ann, "variables": {"IGNORE_TERM": "1"}})
        await desk.done("deploy_project", harbour.deploy())
        await desk.done("promote", ann)
        await desk.done("unset_environment", {**ann, "names": ["IGNORE_TERM"]})
        await desk.done("deploy_project", harbour.deploy("demo-v2"))
        await desk.done("promote", ann)
        await desk.done("deploy_project", harbour.deploy("demo-v2"))
    killed_at(harbour, "switch.cold.healthy", "rollback", **ann, reason="drill")
    async with harbour.server() as desk:
        with anyio.fail_after(60):
            while (await desk.done("slot_status", ann))["at_work"] is not None:
                await anyio.sleep(0.02)
        assert [name[-5:] for name in harbour.containers()] == ["green"]
        assert await ports(desk) == await slots_ports(desk, harbour)
        await told_truly(desk, harbour)


@pytest.mark.parametrize("moment", [1, 2])
@pytest.mark.timeout(300)
async def test_a_look_at_what_is_left_leaves_the_port_of_a_deployment_that_began_meanwhile(
    harbour: Harbour, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    async with harbour.server() as desk:
        await two_versions(desk, harbour)
        await desk.done("set_environment", {"project": harbour.project, "variables": {"START_DELAY": "4"}})
        plan = await desk.done("cleanup_slot", {"project": harbour.project})
        await desk.done("cleanup_slot", {"project": harbour.project, "plan_token": plan["plan_token"]})
        if moment == 1:
            await desk.house.store.run(partial(left_port, desk=desk, harbour=harbour), TEST)
        begun = late(desk, harbour, monkeypatch, moment)
        await desk.house.hosting.recover()
        deployment = begun[0] if begun else await begin(desk, harbour)
        ended = await desk.done("get_deployment", {"deployment_id": deployment, "wait_seconds": 60})
        assert (ended["status"], ended["error"]) == ("success", None)
        await told_truly(desk, harbour)


def late(desk: Desk, harbour: Harbour, monkeypatch: pytest.MonkeyPatch, moment: int) -> list[str]:
    """Whoever asks the n-th time whether somebody is at work has the answer of before, and a deployment has its
    port by then.
    """
    asked, answers, begun = Recovery._busy, list[bool](), list[str]()

    async def busy(self: Recovery, pair: SlotPair) -> bool:
        answers.append(await asked(self, pair))
        if len(answers) == moment:
            begun.append(await begin(desk, harbour))
        return answers[-1]

    monkeypatch.setattr(Recovery, "_busy", busy)
    return begun


async def begin(desk: Desk, harbour: Harbour) -> str:
    """A deployment that has its port and its container, and is not healthy yet."""
    started = await desk.done("deploy_project", harbour.deploy(wait_seconds=0))
    with anyio.fail_after(60):
        while f"quaymaster-{harbour.project}-staging-green" not in harbour.containers():
            await anyio.sleep(0.05)
    return str(started["id"])


async def left_port(tx: Transaction, *, desk: Desk, harbour: Harbour) -> None:
    """An empty slot has still a port, because the engine was away when its container should have gone."""
    site, pair = desk.house.hosting.site, await tx.slots.hold(f"{harbour.project}/staging")
    project = await tx.projects.get(harbour.project)
    assert pair is not None
    assert project is not None
    port, berth = harbour.ports["staging"][-1], Berth(project.name, project.uid, "staging", "green")
    holder = desk.house.hosting.slots.ports.holder(berth)
    now = await tx.now()
    await tx.ports.add(
        PortAllocation(host=site.host, port=port, holder=holder, purpose="slot", created_at=now)
    )
    await tx.slots.save(pair.put("green", pair.green.change(port=port)))


@pytest.mark.timeout(300)
async def test_what_a_full_disk_left_unsettled_is_settled_by_the_living_process_when_there_is_room_again(
    harbour: Harbour, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = {"project": harbour.project}
    async with harbour.server() as desk:
        await two_versions(desk, harbour)
        await full_from("switch.before_settle", desk, monkeypatch, "promote", ann)
        await at_rest(desk, ann)
        await told_truly(desk, harbour)
        await full_from("deploy.routed", desk, monkeypatch, "deploy_project", harbour.deploy("demo-v2"))
        await at_rest(desk, ann)
        await told_truly(desk, harbour)
        again = await desk.done("deploy_project", harbour.deploy("demo-v2"))
        assert (again["status"], again["error"]) == ("success", None)


async def full_from(
    step: str, desk: Desk, monkeypatch: pytest.MonkeyPatch, tool: str, arguments: Mapping[str, Any]
) -> None:
    """The call, during which no file can grow any more from that step on; there is room again after it."""
    old, met = resource.getrlimit(resource.RLIMIT_FSIZE), list[str]()

    def passed(name: str) -> None:
        if name == step:
            met.append(name)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1, old[1]))

    with monkeypatch.context() as patched:
        for part in (desk.house.hosting.switch_ends, desk.house.hosting.rollouts):
            patched.setattr(part, "_step", passed)
        try:
            await desk.call(tool, arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert met


async def at_rest(desk: Desk, where: Mapping[str, Any]) -> None:
    """The look that the server takes now and then is taken at once."""
    await desk.house.hosting.recover()
    assert (await desk.done("slot_status", where))["at_work"] is None


@pytest.mark.timeout(120)
async def test_what_is_told_to_stop_as_its_good_end_is_written_down_keeps_its_container(
    harbour: Harbour,
) -> None:
    async with harbour.server() as desk:
        await desk.done("create_project", {"name": harbour.project})

        def stopped(point: str) -> None:
            if point == "deploy.settled":
                raise Conflict("the server stops")

        desk.house.hosting.rollouts._step = stopped
        up = await desk.done("deploy_project", harbour.deploy())
        assert up["status"] == "success"
        assert len(harbour.containers()) == 1
        await told_truly(desk, harbour)
