"""Two installations on one engine, each with a project of one name: both work, and neither touches the other's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from mcp_server.adapters.docker.orchestrator import DockerOrchestrator
from mcp_server.adapters.registry.store import RegistryStore
from mcp_server.domain.workloads import Owner
from tests.databases.conftest import MakeYard, free_range, in_a_task
from tests.databases.yards import Yard, a_yard, run_on
from tests.services.engine import DockerEngine


@pytest.fixture
async def neighbour(
    orchestrator: DockerOrchestrator,
    engine: DockerEngine,
    owner: Owner,
    image: Callable[[str], str],
    tmp_path: Path,
) -> AsyncIterator[Yard]:
    """Another home of another installation, with the same names for everything."""
    home = tmp_path / "theirs"
    home.mkdir(mode=0o700)
    store = await RegistryStore.open(home)
    installation = f"{owner.installation}-b"
    yard = a_yard(
        store, home, orchestrator, installation=installation, image=image("postgres"),
        ports=free_range(8), mark=owner.installation[-8:], host="another",
    )  # fmt: skip
    try:
        async with in_a_task(yard) as made:
            yield made
    finally:
        store.close()
        engine.clear(installation)


async def names(yard: Yard) -> tuple[str, str, str]:
    record = await yard.record()
    assert record is not None
    assert record.place is not None
    return record.place.container, record.place.volume, record.place.network


async def noted(yard: Yard, word: str) -> None:
    await run_on(await yard.url(), "CREATE TABLE IF NOT EXISTS notes (word TEXT)")
    await run_on(await yard.url(), "INSERT INTO notes VALUES ($1)", word)


async def words(yard: Yard) -> list[str]:
    return [row["word"] for row in await run_on(await yard.url(), "SELECT word FROM notes ORDER BY 1")]


async def test_the_first_has_the_plain_names_and_the_second_names_of_its_own(
    yard: Yard, neighbour: Yard, engine: DockerEngine, owner: Owner
) -> None:
    for each in (yard, neighbour):
        assert (await each.create(engine="postgres")).state == "running"
    mark = f"qt-{yard.mark}"
    plain = (f"{mark}-db-{yard.named('shop')}", f"{mark}-data-{yard.named('shop')}")
    assert (await names(yard))[:2] == plain
    for ours, theirs in zip(await names(yard), await names(neighbour), strict=True):
        assert theirs.startswith(f"{ours}-")
    await noted(yard, "ours")
    await noted(neighbour, "theirs")
    assert (await words(yard), await words(neighbour)) == (["ours"], ["theirs"])
    for each, other in ((yard, neighbour), (neighbour, yard)):
        await each.databases.recovery.run()
        await each.ask("stop_database", project="shop")
        assert (await words(other)) == ["ours" if other is yard else "theirs"]
        await each.ask("start_database", project="shop")
        await each.ask("rotate_database_password", project="shop")
    before = engine.things(f"{owner.installation}-b")
    await yard.delete()
    assert engine.things(owner.installation) == []
    assert engine.things(f"{owner.installation}-b") == before
    assert await words(neighbour) == ["theirs"]
    await neighbour.delete()
    assert engine.things(f"{owner.installation}-b") == []


async def test_a_claimed_standby_takes_a_name_of_its_own_too(
    make_yard: MakeYard, neighbour: Yard, image: Callable[[str], str]
) -> None:
    await neighbour.create(engine="postgres")
    yard: Yard = await make_yard(pool=1)
    await yard.databases.pool.add(image("postgres"))
    made = await yard.create(engine="postgres")
    record = await yard.record()
    assert record is not None
    assert record.claimed is not None
    assert made.container.startswith(f"{(await names(neighbour))[0]}-")
    await noted(yard, "claimed")
    access = await yard.databases.parts.injection.for_workload(yard.named("shop"), "production")
    assert access is not None
    assert access.network.startswith(f"{(await names(neighbour))[2]}-")
    assert made.container in access.url.get_secret_value()


async def test_what_is_kept_under_a_name_of_its_own_is_found_again(
    yard: Yard, neighbour: Yard, engine: DockerEngine, owner: Owner
) -> None:
    """The container is lost, the first one's name is free again: the volume decides."""
    await neighbour.create(engine="postgres")
    await yard.create(engine="postgres")
    await noted(yard, "kept")
    container, volume, _ = await names(yard)
    await neighbour.delete()
    engine.ask("DELETE", f"/containers/{container}?force=1")
    assert (await yard.ask("start_database", project="shop")).state == "running"
    assert (await words(yard), (await names(yard))[1]) == (["kept"], volume)


async def test_a_volume_that_nobody_labelled_is_never_taken_over(
    yard: Yard, engine: DockerEngine, owner: Owner
) -> None:
    volume = f"qt-{yard.mark}-data-{yard.named('shop')}"
    engine.ask("POST", "/volumes/create", {"Name": volume})
    try:
        made = await yard.create(engine="postgres")
        assert (made.state, made.engine) == ("running", "postgres")
        assert (await names(yard))[1].startswith(f"{volume}-")
        await yard.delete()
        assert engine.find(f"/volumes/{volume}") is not None
        assert engine.things(owner.installation) == []
    finally:
        engine.ask("DELETE", f"/volumes/{volume}")
