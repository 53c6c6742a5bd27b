"""Yards on the real engine; whatever they make carries the label of this test's installation and goes with it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_server.adapters.docker.orchestrator import DockerOrchestrator
from mcp_server.adapters.registry.store import RegistryStore
from mcp_server.domain.workloads import Owner
from mcp_server.ports.store import Store
from tests.databases.yards import Yard, a_yard
from tests.services.ports import ReservedPort

MakeYard = Callable[..., Any]


def free_range(size: int) -> range:
    """Neighbouring ports of 127.0.0.1 that nobody uses at the moment."""
    for _ in range(200):
        first = ReservedPort()
        numbers = range(first.number, first.number + size)
        first.release()
        if all(_free(number) for number in numbers):
            return numbers
    raise AssertionError("no free range of ports")


def _free(number: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", number)) != 0


@asynccontextmanager
async def in_a_task(context: AbstractAsyncContextManager[Yard]) -> AsyncIterator[Yard]:
    """The context entered and left in one task, which a fixture's two halves are not."""
    ready: asyncio.Future[Yard] = asyncio.get_running_loop().create_future()
    end = asyncio.Event()

    async def hold() -> None:
        try:
            async with context as yard:
                ready.set_result(yard)
                await end.wait()
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            raise

    holding = asyncio.create_task(hold())
    try:
        yield await ready
    finally:
        end.set()
        await holding


@pytest.fixture
async def store(home: Path) -> AsyncIterator[Store]:
    opened = await RegistryStore.open(home)
    yield opened
    opened.close()


@pytest.fixture
async def make_yard(
    store: Store, home: Path, owner: Owner, orchestrator: DockerOrchestrator, image: Callable[[str], str]
) -> AsyncIterator[MakeYard]:
    """Makes a server over the test's store and home; fields may be given."""
    async with AsyncExitStack() as stack:
        shared: dict[str, Any] = {
            "installation": owner.installation,
            "image": image("postgres"),
            "ports": free_range(12),
            "mark": owner.installation[-8:],
        }

        async def make(*, over: Store | None = None, engine: Any = None, **fields: Any) -> Yard:
            yard = a_yard(over or store, home, engine or orchestrator, **{**shared, **fields})
            return await stack.enter_async_context(in_a_task(yard))

        yield make


@pytest.fixture
async def yard(make_yard: MakeYard) -> Yard:
    made: Yard = await make_yard()
    return made
