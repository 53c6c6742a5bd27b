from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from mcp_server.adapters.registry.store import RegistryStore
from tests.races.stores import opened
from tests.services.loops import run_apart
from tests.services.postgres import PostgresServer
from tests.usecases.workshops import Workshop, a_workshop
from tests.usecases.world import Clock, World


@pytest.fixture
async def make_world(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[World]]]:
    """Makes a world with the teams `red` and `blue`; its fields may be given."""
    async with AsyncExitStack() as stack:

        async def make(name: str = "home", **fields: Any) -> World:
            clock, root = Clock(), tmp_path / name
            store = await RegistryStore.open(root, clock=clock.now)
            stack.callback(store.close)
            world = World(store=store, root=root, clock=clock, **fields)
            await world.team("red")
            await world.team("blue")
            return world

        yield make


@pytest.fixture
async def world(make_world: Callable[..., Awaitable[World]]) -> World:
    return await make_world()


@pytest.fixture(scope="session")
def work_database(postgres: PostgresServer) -> str:
    """A database with the schema, for one `workshop` after another."""
    url = postgres.create_database("workshops")

    async def prepare() -> None:
        async with opened(f"postgres:{url}"):
            pass

    run_apart(prepare())
    return url


@pytest.fixture(params=["registry", pytest.param("postgres", marks=pytest.mark.postgres)])
async def workshop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Workshop]:
    """A team at work, over each store."""
    if request.param == "registry":
        name = f"registry:{tmp_path / 'workshop'}"
    else:
        name = f"postgres:{request.getfixturevalue('work_database')}"
        server: PostgresServer = request.getfixturevalue("postgres")
        server.run_as_admin(
            "TRUNCATE teams, plans, idempotency, audit_logs, change_log, tombstones CASCADE",
            database="workshops",
        )
    async with opened(name) as store:
        yield await a_workshop(store)
