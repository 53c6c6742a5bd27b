"""The engine is killed in the midst of work: what runs is found again, and nothing is told that is not so.

The proxy is a Caddy of the host: on the second engine, which has no packet filter of its own, containers may not
reach each other.
"""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import cast

import anyio
import pytest

from mcp_server.adapters.edge.caddy.edge import CaddyEdge
from tests.deployments.conftest import Harbour, a_harbour
from tests.deployments.test_faults import points, two_versions
from tests.deployments.truth import told_truly
from tests.edge.conftest import proxy_program
from tests.services.edge import CaddyProcess
from tests.services.engine import TEST, EngineMissing
from tests.services.images import ensure
from tests.services.missing import do_without
from tests.services.spare_engine import SpareEngine
from tests.tools.desk import Desk

DEPLOY = ["slots.stopped", "slots.start.port", "slots.start.created", "slots.start.started", "deploy.healthy"]
SWITCH = [
    "switch.intended",
    "switch.running",
    "switch.before_point",
    "switch.pointed",
    "switch.before_settle",
]


@pytest.fixture
def spare() -> Iterator[SpareEngine]:
    try:
        opened = SpareEngine(megabytes=700)
    except EngineMissing as missing:
        do_without(str(missing))
    with opened:
        yield opened


@pytest.fixture
async def harbour(tmp_path: Path, spare: SpareEngine) -> AsyncIterator[Harbour]:
    """Over an engine of its own."""
    installation = f"{TEST}{os.getpid()}-{uuid.uuid4().hex}"
    async with a_harbour(
        tmp_path, spare.engine, installation, lambda name: ensure(spare.engine, name)
    ) as made:
        made.settings["edge_mode"] = "host"
        yield made


def dying_at(point: str, kill: Callable[[], None]) -> Callable[[str], None]:
    """A named step at which the engine dies, once."""
    left = [kill]

    def step(name: str) -> None:
        if name == point and left:
            left.pop()()

    return step


def steps_of(desk: Desk, step: Callable[[str], None]) -> None:
    hosting = desk.house.hosting
    for service in (hosting.slots, hosting.rollouts, hosting.recovery):
        service._step = step
    for part in (hosting.switching, hosting.moves, hosting.switch_ends):
        part._step = step


@pytest.mark.timeout(900)
async def test_an_engine_that_is_killed_during_a_deploy_or_a_switch_is_found_again_as_it_should_be(
    harbour: Harbour, spare: SpareEngine, tmp_path: Path, soak: bool, rng: random.Random
) -> None:
    async with harbour.server() as desk:
        caddy = CaddyProcess(
            proxy_program("caddy-2.6"), cast(CaddyEdge, desk.house.hosting.edge)._settings, tmp_path
        )
        with caddy:
            await drilled(desk, harbour, spare, soak, rng)


async def drilled(desk: Desk, harbour: Harbour, spare: SpareEngine, soak: bool, rng: random.Random) -> None:
    await two_versions(desk, harbour)
    for point in points(DEPLOY, soak, rng, 1):
        steps_of(desk, dying_at(point, spare.kill))
        result = await desk.call("deploy_project", harbour.deploy("demo-v2"))
        spare.start()
        await back_again(desk, harbour)
        status = await told_truly(desk, harbour)
        assert (status["active"], harbour.version()) == ("blue", "v1"), point
        ended = dict(result.structured_content or {})
        assert ended["status"] == ("success" if status["green"]["state"] == "deployed" else "failed"), ended
        assert (await desk.done("deploy_project", harbour.deploy("demo-v2")))["status"] == "success"
    for point in points(SWITCH, soak, rng, 1):
        steps_of(desk, dying_at(point, spare.kill))
        result = await desk.call("promote", {"project": harbour.project})
        spare.start()
        await back_again(desk, harbour)
        status = await told_truly(desk, harbour)
        assert status["active"] == ("blue" if result.is_error else "green"), (point, result)
        if status["active"] == "green":
            await desk.done("rollback", {"project": harbour.project, "reason": "drill"})


async def back_again(desk: Desk, harbour: Harbour) -> None:
    """As the leader of the home does now and then, until visitors are answered by a healthy application."""
    with anyio.fail_after(120):
        while True:
            await desk.house.hosting.recover()
            status = await desk.done("slot_status", {"project": harbour.project})
            settled = status["at_work"] is None and status["active"] and harbour.ask().status == 200
            if settled and status[status["active"]]["health"] == "healthy":
                return
            await anyio.sleep(0.5)
