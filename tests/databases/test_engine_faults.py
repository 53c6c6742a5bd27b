"""The engine dies, a server dies, the disk is full: nothing is lost, nothing stays behind, what is told is so."""

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from mcp_server.adapters.docker.orchestrator import DockerOrchestrator
from mcp_server.domain.errors import QuaymasterError, Unavailable
from mcp_server.domain.workloads import Owner
from mcp_server.ports.store import Store
from tests.databases.conftest import MakeYard, free_range, in_a_task
from tests.databases.yards import Yard, a_yard, run_on
from tests.services.engine import TEST, DockerEngine, EngineMissing
from tests.services.images import ensure
from tests.services.missing import do_without
from tests.services.spare_engine import SpareEngine


@pytest.fixture(scope="module")
def running_spare() -> Iterator[SpareEngine]:
    try:
        opened = SpareEngine()
    except EngineMissing as missing:
        do_without(str(missing))
    with opened:
        yield opened


@pytest.fixture
def spare(running_spare: SpareEngine) -> Iterator[SpareEngine]:
    """Running, with room on its disk, whatever an earlier test did to it."""
    running_spare.free()
    running_spare.start()
    yield running_spare
    running_spare.free()
    running_spare.start()


@pytest.fixture
async def make_spare_yard(spare: SpareEngine, store: Store, home: Path) -> AsyncIterator[MakeYard]:
    """Makes a server over the engine that may be treated badly."""
    installation = f"{TEST}{os.getpid()}-{uuid.uuid4().hex}"
    shared: dict[str, Any] = {
        "installation": installation,
        "image": ensure(spare.engine, "postgres"),
        "ports": free_range(8),
        "mark": installation[-8:],
    }
    async with AsyncExitStack() as stack:
        orchestrator = DockerOrchestrator(spare.address)
        stack.push_async_callback(orchestrator.close)

        async def make(**fields: Any) -> Yard:
            return await stack.enter_async_context(
                in_a_task(a_yard(store, home, orchestrator, **{**shared, **fields}))
            )

        yield make
    spare.free()
    spare.start()
    spare.engine.clear(installation)


def at(point: str, act: Callable[[], None]) -> Callable[[str], None]:
    """A named step at which something happens, once."""
    left = [act]

    def step(name: str) -> None:
        if name == point and left:
            left.pop()()

    return step


async def put_right(yard: Yard) -> None:
    """What the leader of the home does on its next look."""
    await yard.databases.detect(refresh=True)
    await yard.databases.recovery.run()


async def nothing_left(yard: Yard, engine: DockerEngine) -> None:
    assert engine.things(yard.databases.parts.site.installation) == []
    assert await yard.servers() == []
    assert await yard.ports() == []


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 45) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what}") from None


# -- the engine


@pytest.mark.parametrize(
    ("point", "asked"),
    [
        ("databases.create.prepared", "postgres"),
        ("databases.create.created", "auto"),
        ("databases.create.started", "postgres"),
    ],
)
async def test_an_engine_that_dies_during_a_creation_leaves_nothing_once_it_is_back(
    make_spare_yard: MakeYard, spare: SpareEngine, point: str, asked: str
) -> None:
    yard: Yard = await make_spare_yard(step=at(point, spare.kill), ready_seconds=10)
    if asked == "auto":
        made = await yard.create()
        assert (made.engine, made.state) == ("sqlite", "running")
        assert made.fallback
    else:
        with pytest.raises(Unavailable):
            await yard.create(engine="postgres")
        assert await yard.records() == []
    spare.start()
    await put_right(yard)
    await nothing_left(yard, spare.engine)
    if asked == "postgres":
        assert (await yard.create(engine="postgres")).state == "running"
        assert await run_on(await yard.url(), "SELECT 1")


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_an_engine_that_ends_is_told_and_its_databases_come_back_with_it(
    make_spare_yard: MakeYard, spare: SpareEngine, end: str
) -> None:
    yard: Yard = await make_spare_yard()
    await yard.create(engine="postgres")
    url = await yard.url()
    await run_on(url, "CREATE TABLE kept AS SELECT 7 AS n")
    getattr(spare, end)()
    found = await yard.get()
    assert found.state == "error"
    assert "Docker" in found.reason
    with pytest.raises(Unavailable):
        await yard.ask("start_database", project="shop")
    spare.start()
    await put_right(yard)

    async def running() -> bool:
        return bool((await yard.get()).state == "running")

    await until(running, "the database to run again")
    await until(lambda: answers(url), "the old address to answer")
    assert (await run_on(url, "SELECT n FROM kept"))[0]["n"] == 7
    await yard.ask("stop_database", project="shop")
    await yard.databases.recovery.run()
    assert (await yard.get()).state == "stopped"
    await yard.ask("start_database", project="shop")
    await yard.delete()
    await nothing_left(yard, spare.engine)


async def answers(url: str) -> bool:
    try:
        await run_on(url, "SELECT 1")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    return True


# -- the server


async def test_a_server_that_dies_during_its_creation_leaves_nothing(
    make_yard: MakeYard, engine: DockerEngine, owner: Owner
) -> None:
    def kill() -> None:
        for one in engine.containers(owner.installation):
            os.kill(engine.ask("GET", f"/containers/{one['Id']}/json")["State"]["Pid"], signal.SIGKILL)

    yard: Yard = await make_yard(step=at("databases.create.started", kill))
    with pytest.raises(Unavailable, match="ended while it started"):
        await yard.create(engine="postgres")
    assert await yard.records() == []
    await nothing_left(yard, engine)


async def test_a_server_that_dies_in_use_comes_back_by_itself_with_all_that_was_kept(
    make_yard: MakeYard, engine: DockerEngine
) -> None:
    yard: Yard = await make_yard()
    made = await yard.create(engine="postgres")
    url = await yard.url()
    await run_on(url, "CREATE TABLE kept AS SELECT 7 AS n")
    before = engine.ask("GET", f"/containers/{made.container}/json")["State"]["Pid"]
    os.kill(before, signal.SIGKILL)
    await until(lambda: answers(url), "the server to come back")
    assert (await run_on(url, "SELECT n FROM kept"))[0]["n"] == 7
    found = engine.ask("GET", f"/containers/{made.container}/json")
    assert found["State"]["Pid"] != before
    assert (await yard.get()).state == "running"


# -- the disk


async def test_a_full_disk_costs_no_row_that_was_kept_and_ends_when_there_is_room(
    make_spare_yard: MakeYard, spare: SpareEngine
) -> None:
    yard: Yard = await make_spare_yard()
    await yard.create(engine="postgres")
    url = await yard.url()
    await run_on(
        url, "CREATE TABLE kept AS SELECT i, repeat('x', 100) AS t FROM generate_series(1, 5000) AS i"
    )
    spare.fill()
    grow = "INSERT INTO kept SELECT i, repeat('y', 1000) FROM generate_series(1, 60000) AS i"
    with pytest.raises((asyncpg.PostgresError, OSError, asyncpg.InterfaceError)):
        await run_on(url, grow)
    await yard.add_project("web")
    with pytest.raises(QuaymasterError):
        await yard.create("web", engine="postgres")
    fell = await yard.create("web")
    assert (fell.engine, fell.state) == ("sqlite", "running")
    assert fell.fallback
    told = (await yard.get()).state
    assert told == ("running" if await answers(url) else "error")
    spare.free()

    async def running() -> bool:
        return await answers(url) and (await yard.get()).state == "running"

    await until(running, "the database to run again")
    assert (await run_on(url, "SELECT count(*) AS n FROM kept WHERE t LIKE 'x%'"))[0]["n"] == 5000
    await put_right(yard)
    assert await yard.servers() == []
    assert len(spare.engine.containers(yard.databases.parts.site.installation)) == 1
    assert len(await yard.ports()) == 1
    await run_on(url, grow)
