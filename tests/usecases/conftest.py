from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from mcp_server.adapters.registry.store import RegistryStore
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


@pytest.fixture
async def workshop(tmp_path: Path) -> AsyncIterator[Workshop]:
    """A team at work over a registry."""
    store = await RegistryStore.open(tmp_path / "workshop")
    try:
        yield await a_workshop(store)
    finally:
        store.close()
