"""Records against the engine: what is ours is put right, what is not is left alone, what may hold data is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mcp_server.adapters.docker.orchestrator import DockerOrchestrator
from mcp_server.adapters.registry.store import RegistryStore
from mcp_server.domain.databases import DatabaseServer
from mcp_server.domain.workloads import Owner
from mcp_server.ports.store import Transaction
from tests.databases.conftest import MakeYard, free_range, in_a_task
from tests.databases.yards import SET_UP, Yard, a_yard, run_on
from tests.services.engine import DockerEngine


async def forgotten(yard: Yard, project: str) -> None:
    """As a registry that was restored from before the database was made."""
    record = await yard.record(project)
    assert record is not None

    async def transaction(tx: Transaction) -> None:
        held = await tx.databases.hold(record.key)
        assert held is not None
        await tx.databases.remove(held)

    await yard.store.run(transaction, SET_UP)


async def standby_forgotten(yard: Yard, standby: DatabaseServer) -> None:
    async def transaction(tx: Transaction) -> None:
        held = await tx.database_servers.hold(standby.id)
        assert held is not None
        await tx.database_servers.remove(held)

    await yard.store.run(transaction, SET_UP)


async def test_a_second_installation_on_the_same_engine_is_never_touched(
    make_yard: MakeYard,
    orchestrator: DockerOrchestrator,
    engine: DockerEngine,
    owner: Owner,
    image,
    tmp_path: Path,
) -> None:
    ours: Yard = await make_yard(pool=1)
    home = tmp_path / "theirs"
    home.mkdir(mode=0o700)
    store = await RegistryStore.open(home)
    installation = f"{owner.installation}-b"
    try:
        theirs_yard = a_yard(
            store, home, orchestrator, installation=installation, image=image("postgres"),
            ports=free_range(6), pool=1,
        )  # fmt: skip
        async with in_a_task(theirs_yard) as theirs:
            await theirs.create(engine="postgres")
            standby = await theirs.databases.pool.add(image("postgres"))
            await standby_forgotten(theirs, standby)
            before = engine.things(installation)
            await ours.create(engine="postgres")
            await ours.databases.recovery.run()
            await ours.delete()
            assert engine.things(installation) == before
            assert engine.things(owner.installation) == []
            await theirs.databases.recovery.run()
            assert not [thing for thing in engine.things(installation) if standby.id in thing]
            assert await run_on(await theirs.url(), "SELECT 1")
    finally:
        store.close()
        engine.clear(installation)


async def test_work_of_a_living_process_is_not_settled_by_another(make_yard: MakeYard) -> None:
    first: Yard = await make_yard()
    second: Yard = await make_yard()
    making = asyncio.create_task(first.create(engine="postgres"))
    while await first.record() is None:
        await asyncio.sleep(0.01)
    await second.databases.recovery.run()
    record = await second.record()
    assert record is not None
    assert (await making).state == "running"
    assert (await second.get()).state == "running"


async def test_a_database_without_a_record_is_told_and_kept(
    make_yard: MakeYard, engine: DockerEngine
) -> None:
    yard: Yard = await make_yard()
    made = await yard.create(engine="postgres")
    url = await yard.url()
    await forgotten(yard, "shop")
    await yard.databases.recovery.run()
    assert yard.databases.recovery.unclaimed == (made.container,)
    assert await run_on(url, "SELECT 1")


async def test_a_dotenv_file_that_lost_its_block_has_it_again_after_a_start(
    make_yard: MakeYard, tmp_path: Path
) -> None:
    yard: Yard = await make_yard()
    await yard.add_project("web", str(tmp_path))
    await yard.create("web", engine="sqlite")
    (tmp_path / ".env").write_text("A=1\n")
    await yard.databases.recovery.run()
    assert (tmp_path / ".env").read_text().startswith("A=1\n")
    assert f'DATABASE_URL="file:{tmp_path}/data/dev.db"' in (tmp_path / ".env").read_text()


async def test_an_engine_that_went_away_is_told_and_what_it_kept_is_removed_when_it_is_back(
    make_yard: MakeYard, orchestrator: DockerOrchestrator, engine: DockerEngine, owner: Owner, image
) -> None:
    class Failing:
        """An engine that is gone as soon as the container was made."""

        def __init__(self) -> None:
            self.away = False

        def __getattr__(self, name: str):
            found = getattr(orchestrator, name)
            if name in ("remove", "remove_volume", "remove_network", "start", "inspect"):

                async def call(*arguments, **named):
                    from mcp_server.domain.errors import Unavailable

                    if name == "start":
                        self.away = True
                    if self.away:
                        raise Unavailable("the Docker engine is not running")
                    return await found(*arguments, **named)

                return call
            return found

    failing = Failing()
    yard: Yard = await make_yard(engine=failing)
    made = await yard.create()
    assert (made.engine, "not running" in made.fallback) == ("sqlite", True)
    assert [one.kind for one in await yard.servers()] == ["left"]
    assert engine.things(owner.installation) != []
    failing.away = False
    restarted: Yard = await make_yard()
    for server in await yard.servers():
        assert server.stage == "removing"
    await yard.databases.recovery.run()
    assert await restarted.servers() == []
    assert engine.things(owner.installation) == []
    assert await restarted.ports() == []


@pytest.mark.parametrize("answer", ["running", "gone"])
async def test_what_is_told_is_observed_not_remembered(
    make_yard: MakeYard, engine: DockerEngine, answer: str
) -> None:
    yard: Yard = await make_yard()
    made = await yard.create(engine="postgres")
    assert (await yard.get()).state == "running"
    if answer == "gone":
        engine.ask("POST", f"/containers/{made.container}/stop?t=1")
        found = await yard.get()
        assert (found.state, found.reason) == ("stopped", "its server ended by itself")
