"""The first start: one team and at most one key, whoever comes first."""

import asyncio
from pathlib import Path

import anyio.to_process
import pytest

from mcp_server.adapters.memory.cache import MemoryCache
from mcp_server.adapters.registry.keyring import RegistryKeyRing
from mcp_server.adapters.registry.store import RegistryStore
from mcp_server.domain.audit import AuditFilter
from mcp_server.ports.store import Reading
from mcp_server.services.bootstrap import Bootstrap
from mcp_server.services.calls import Calls
from mcp_server.services.signin import SignIn
from mcp_server.services.trail import Trail
from tests.usecases.world import World


async def _start(root: Path, *, with_key: bool = True) -> str | None:
    store = await RegistryStore.open(root, patience=20)
    try:
        calls = Calls(store, MemoryCache(), Trail(store), rate_limit=100)
        return await Bootstrap(calls).run("ann", with_key=with_key)
    finally:
        store.close()


def _start_in_a_process(root: str) -> str | None:
    return asyncio.run(_start(Path(root)))


async def _look(root: Path) -> tuple[list[str], int, list[str]]:
    """Team ids, the number of keys of `local`, and the audited actions."""
    store = await RegistryStore.open(root)

    async def reading(tx: Reading) -> tuple[list[str], int, list[str]]:
        teams = await tx.teams.list()
        keys = await tx.keys.of_team("local")
        rows = await tx.audit.find(AuditFilter(team_id="local"))
        return [team.id for team in teams.items], len(keys.items), [row.action for row in rows.items]

    try:
        return await store.read(reading)
    finally:
        store.close()


async def test_an_empty_store_gets_the_team_local_and_an_owner_key_that_signs_in(tmp_path: Path):
    text = await _start(tmp_path / "home")
    assert await _look(tmp_path / "home") == (["local"], 1, ["create_team"])
    store = await RegistryStore.open(tmp_path / "home")
    signin = SignIn(RegistryKeyRing(tmp_path / "home"), MemoryCache(), Trail(store))
    caller = await signin.authenticate(text)
    store.close()
    assert (caller.team_id, caller.role) == ("local", "owner")


async def test_without_somewhere_to_show_it_no_key_is_made(tmp_path: Path):
    assert await _start(tmp_path / "home", with_key=False) is None
    assert await _look(tmp_path / "home") == (["local"], 0, ["create_team"])


@pytest.mark.parametrize("with_key", [True, False])
async def test_a_later_start_makes_nothing_and_writes_nothing(tmp_path: Path, with_key: bool):
    await _start(tmp_path / "home", with_key=with_key)
    before = await _look(tmp_path / "home")
    assert await _start(tmp_path / "home") is None
    assert await _look(tmp_path / "home") == before


async def test_a_store_with_any_team_is_left_alone(world: World):
    assert await world.bootstrap.run("ann", with_key=True) is None

    async def reading(tx: Reading) -> bool:
        return await tx.teams.get("local") is None

    assert await world.store.read(reading)


async def test_a_team_that_came_after_the_first_look_leaves_nothing_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    async def was_empty(_: object) -> bool:
        return True

    with monkeypatch.context() as patch:
        patch.setattr(world.calls, "read", was_empty)
        assert await world.bootstrap.run("ann", with_key=True) is None

    async def reading(tx: Reading) -> bool:
        return await tx.teams.get("local") is None

    assert await world.store.read(reading)


async def test_starts_at_the_same_time_in_one_process_make_one_team_and_show_one_key(tmp_path: Path):
    shown = await asyncio.gather(*(_start(tmp_path / "home") for _ in range(5)))
    assert len([text for text in shown if text is not None]) == 1
    assert (await _look(tmp_path / "home"))[:2] == (["local"], 1)


async def test_starts_at_the_same_time_in_four_processes_make_one_team_and_show_one_key(tmp_path: Path):
    shown: list[str | None] = []

    async def start() -> None:
        shown.append(await anyio.to_process.run_sync(_start_in_a_process, str(tmp_path / "home")))

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(start)
    assert len(shown) == 4
    assert len([text for text in shown if text is not None]) == 1
    assert (await _look(tmp_path / "home"))[:2] == (["local"], 1)
