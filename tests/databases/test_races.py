"""Many creations at one time, over two servers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mcp_server.adapters.registry.store import RegistryStore
from mcp_server.domain.errors import Unavailable
from mcp_server.domain.workloads import Owner
from mcp_server.ports.store import Intent, Store, Transaction
from mcp_server.services.databases.options import Options
from tests.databases.conftest import MakeYard, free_range
from tests.databases.yards import Yard, run_on
from tests.services.engine import DockerEngine
from tests.store.backends import failover


@pytest.fixture(params=["registry", "postgres"])
async def two_stores(
    request: pytest.FixtureRequest, home: Path, tmp_path: Path
) -> AsyncIterator[tuple[Store, Store]]:
    """Of one installation: two processes' views of a home, or of one PostgreSQL from two homes. A test asks for them
    before `make_yard`: a server's work has ended before its store is closed."""
    if request.param == "registry":
        both: list[RegistryStore] = [await RegistryStore.open(home), await RegistryStore.open(home)]
        yield both[0], both[1]
        for opened in both:
            opened.close()
        return
    url = request.getfixturevalue("database_url")
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(failover(url, home))
        second = await stack.enter_async_context(failover(url, other))
        beside = [asyncio.create_task(store.run_background()) for store in (first, second)]
        for store in (first, second):
            await admitted(store)
        yield first, second
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


async def admitted(store: Store) -> None:
    """Neither home is alone any more: each may grant beside the other."""

    async def nothing(tx: Transaction) -> None:
        await tx.now()

    async with asyncio.timeout(30):
        while True:
            try:
                await store.run(nothing, Intent("create_database", "test"))
                return
            except Unavailable:
                await asyncio.sleep(0.2)


async def test_concurrent_creations_over_two_servers_have_ports_and_passwords_of_their_own(
    two_stores: tuple[Store, Store],
    make_yard: MakeYard,
    engine: DockerEngine,
    owner: Owner,
    rounds: Callable[[int, int], int],
) -> None:
    count = rounds(8, 50)
    ports = free_range(count + 6)
    # Whole, it is run on a machine of its own: each server must answer in the time that the product gives it.
    own = {"ready_seconds": Options(files="").ready_seconds} if count == 50 else {}
    servers: list[Yard] = [await make_yard(over=store, ports=ports, quota=100, **own) for store in two_stores]
    for server in servers:  # as a server does at its start; the answer is kept
        assert (await server.databases.detect()).available
    names = [f"p{number}" for number in range(count)]
    for name in names:
        await servers[0].add_project(name)
    # Every project is asked for on both servers, half of them at the same moment.
    asked = [
        (server, name)
        for number, name in enumerate(names)
        for server in (servers if number % 2 else servers[:1])
    ]
    async with asyncio.timeout(110 if count == 8 else 900):
        views = await asyncio.gather(
            *(server.create(name, engine="postgres", wait_seconds=600) for server, name in asked)
        )
    by_project = {view.project: view.address for view in views}
    assert len(by_project) == count
    assert len(set(by_project.values())) == count
    assert all(view.address == by_project[view.project] for view in views)
    assert len(engine.containers(owner.installation)) == count
    urls = [await servers[1].url(name) for name in names]
    assert len({url.split(":")[2].split("@")[0] for url in urls}) == count
    assert len(await servers[0].ports()) == count
    for url in urls:
        assert await run_on(url, "SELECT 1")


async def test_many_creations_on_the_shared_server_and_a_few_beside_it_share_nothing(
    two_stores: tuple[Store, Store],
    make_yard: MakeYard,
    engine: DockerEngine,
    owner: Owner,
    rounds: Callable[[int, int], int],
    rng: random.Random,
) -> None:
    count, alone = rounds(12, 50), rounds(1, 3)
    ports = free_range(alone + 6)
    given = {"ports": ports, "quota": 100}
    shared = [await make_yard(over=store, isolation="shared", **given) for store in two_stores]
    single = [await make_yard(over=store, **given) for store in two_stores]
    names = [f"p{number}" for number in range(count)]
    for name in names:
        await shared[0].add_project(name)
    own = set(rng.sample(names, alone))
    asked = [
        (server, name)
        for name in names
        for server in (single if name in own else shared)
        if rng.random() < 0.7
    ]
    asked += [(single[0] if name in own else shared[0], name) for name in names]
    rng.shuffle(asked)
    async with asyncio.timeout(110 if count == 12 else 600):
        views = await asyncio.gather(
            *(server.create(name, engine="postgres", wait_seconds=600) for server, name in asked)
        )
    by_project = {view.project: view.address for view in views}
    assert len(set(by_project.values())) == len(by_project) == count
    assert all(view.address == by_project[view.project] for view in views)
    assert len(engine.containers(owner.installation)) == 1 + alone
    assert len(await shared[0].ports()) == 1 + alone
    urls = [await shared[1].url(name) for name in names]
    assert len({url.split(":")[2].split("@")[0] for url in urls}) == count
    for name, url in zip(names, urls, strict=True):
        await run_on(url, f"CREATE TABLE mine AS SELECT '{name}' AS n")  # a name of ours
    for name, url in zip(names, urls, strict=True):
        assert [row["n"] for row in await run_on(url, "SELECT n FROM mine")] == [name]


@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
async def test_fifty_calls_for_one_project_make_one_database(
    two_stores: tuple[Store, Store], make_yard: MakeYard, engine: DockerEngine, owner: Owner, kind: str
) -> None:
    servers: list[Yard] = [await make_yard(over=store) for store in two_stores]
    async with asyncio.timeout(110):
        views = await asyncio.gather(
            *(servers[number % 2].create(engine=kind, wait_seconds=100) for number in range(50))
        )
    assert len({view.address for view in views}) == 1
    assert {view.state for view in views} == {"running"}
    assert len(await servers[0].records()) == 1
    assert len(engine.containers(owner.installation)) == (kind == "postgres")
    assert len(await servers[0].ports()) == (kind == "postgres")
