"""The proxy in health reports, on a real Caddy."""

import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import anyio
import pytest

from mcp_server.adapters.edge.caddy.edge import CaddyEdge
from mcp_server.adapters.edge.caddy.host import HostCaddy
from mcp_server.adapters.edge.off import NoEdge
from mcp_server.domain.slots import Slot, SlotPair
from mcp_server.ports.edge import Edge
from mcp_server.ports.health import Condition, PartState
from mcp_server.ports.store import Transaction
from mcp_server.services.edge_part import EdgePart
from mcp_server.services.works import Works
from tests.edge.conftest import Stage
from tests.usecases.conftest import make_world as make_world
from tests.usecases.world import SETUP, World

HOME = "home-1"


@asynccontextmanager
async def watched(world: World, edge: Edge, home: str = HOME, again: float = 10) -> AsyncIterator[EdgePart]:
    works = Works()
    async with works.open():
        yield EdgePart(world.store, edge, works, home, again=again)


@pytest.fixture
async def harbour(make_world: Callable[..., Awaitable[World]]) -> World:
    """A world with a project that was promoted from HOME."""
    world = await make_world()
    await world.do(world.caller(), "create_project", name="app")

    async def write(tx: Transaction) -> None:
        blue = Slot(state="active", port=4100)
        pair = SlotPair(
            project="app", environment="production", blue=blue, home=HOME, updated_at=await tx.now()
        )
        await tx.slots.add(pair)

    await world.store.run(write, SETUP)
    return world


async def becomes(part: EdgePart, condition: Condition) -> PartState:
    with anyio.fail_after(20):
        while (state := await part.check()).condition != condition:
            await anyio.sleep(0.02)
    return state


async def test_a_proxy_that_ends_is_told_with_what_to_do_until_it_answers_again(
    stage: Stage, harbour: World
) -> None:
    async with watched(harbour, stage.edge, again=0) as part:
        assert await part.check() == PartState("healthy")
        stage.caddy.stop(signal.SIGKILL)
        ill = await becomes(part, "degraded")
        assert ill.reason == "No Caddy of this installation answers on the edge's port: start it"
        stage.caddy.start()
        await becomes(part, "healthy")


async def test_what_was_well_is_called_ill_only_when_it_is_seen_so_twice(
    stage: Stage, harbour: World
) -> None:
    async with watched(harbour, stage.edge, again=0) as part:
        await becomes(part, "healthy")
        stage.caddy.stop(signal.SIGKILL)
        assert (await part.check()).condition == "healthy"
        await becomes(part, "degraded")


async def test_it_is_not_looked_at_for_every_report(stage: Stage, harbour: World) -> None:
    async with watched(harbour, stage.edge, again=600) as part:
        await becomes(part, "healthy")
        stage.caddy.stop(signal.SIGKILL)
        assert {(await part.check()).condition for _ in range(20)} == {"healthy"}


async def test_another_configuration_on_its_port_is_told(stage: Stage, harbour: World) -> None:
    other = stage.settings.change(installation="6f1c0a52-0000-4000-8000-000000000002")
    async with watched(harbour, CaddyEdge(stage.directory, other, stage.door, HostCaddy())) as part:
        assert "runs another configuration" in str((await becomes(part, "degraded")).reason)


async def test_a_home_that_deployed_nothing_and_one_whose_person_routes_miss_no_proxy(
    stage: Stage, harbour: World
) -> None:
    stage.caddy.stop()
    edges: tuple[tuple[Edge, str], ...] = ((stage.edge, "home-2"), (NoEdge(), HOME))
    for edge, home in edges:
        async with watched(harbour, edge, home) as part:
            assert (await part.check()).condition == "off"


async def test_a_proxy_that_takes_connections_and_says_nothing_holds_no_report_up(
    stage: Stage, harbour: World
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        door = replace(stage.door, http_port=silent.getsockname()[1])
        async with watched(harbour, CaddyEdge(stage.directory, stage.settings, door, HostCaddy())) as part:
            with anyio.fail_after(3):
                assert (await part.check()).condition == "degraded"
