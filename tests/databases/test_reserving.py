"""Reserving a database: while others hold what it needs, and where an engine has only just come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from mcp_server.adapters.docker.orchestrator import DockerOrchestrator
from mcp_server.ports.store import Store
from tests.databases.conftest import MakeYard, free_range
from tests.databases.yards import Yard, run_on
from tests.services.engine import DockerEngine
from tests.store.backends import failover

WAITING = """
    SELECT pid, query_start FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()
"""


@pytest.fixture
async def on_postgres(database_url: str, home: Path) -> AsyncIterator[Store]:
    async with failover(database_url, home) as opened:
        yield opened


async def test_a_creation_outlasts_somebody_who_holds_the_team_for_longer_than_one_statement_may_wait(
    on_postgres: Store, make_yard: MakeYard, database_url: str
) -> None:
    yard: Yard = await make_yard(over=on_postgres)
    holder: Any = await asyncpg.connect(database_url)
    try:
        await holder.execute("BEGIN")
        await holder.execute("SELECT 1 FROM teams WHERE id = 't1' FOR UPDATE")
        creating = asyncio.create_task(yard.create(engine="sqlite"))
        first: asyncpg.Record | None = None
        async with asyncio.timeout(30):
            while not creating.done():  # until it waits for the second time, or was refused
                waiting = next(iter(await run_on(database_url, WAITING)), None)
                first = first or waiting
                if waiting and first and waiting["query_start"] != first["query_start"]:
                    break
                await asyncio.sleep(0.02)
        await holder.execute("ROLLBACK")
        view = await creating
    finally:
        await holder.close()
    assert view.state == "running"


async def test_creations_of_one_server_never_choose_a_port_that_another_is_about_to_take(
    make_yard: MakeYard, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    yard: Yard = await make_yard(ports=free_range(8))
    take = yard.databases.parts.allocation.take

    async def noted(tx: Any, port: int, *rest: Any) -> None:
        tried.append(port)
        await take(tx, port, *rest)

    monkeypatch.setattr(yard.databases.parts.allocation, "take", noted)
    names = [f"p{number}" for number in range(6)]
    for name in names:
        await yard.add_project(name)
    views = await asyncio.gather(*(yard.create(name, engine="postgres", wait_seconds=0) for name in names))
    assert {view.state for view in views} == {"creating"}
    assert len(tried) == len(set(tried)) == 6


@pytest.mark.parametrize("asked", ["auto", "postgres"])
async def test_an_engine_that_was_away_when_last_asked_is_looked_for_again_before_it_is_done_without(
    make_yard: MakeYard, engine: DockerEngine, tmp_path: Path, asked: str
) -> None:
    place = tmp_path / "docker.sock"
    orchestrator = DockerOrchestrator(f"unix://{place}")
    try:
        yard: Yard = await make_yard(engine=orchestrator)
        assert not (await yard.databases.detect()).available
        place.symlink_to(engine.address.removeprefix("unix://"))
        view = await yard.create(engine=asked, wait_seconds=0)
        assert (view.engine, view.fallback) == ("postgres", None)
    finally:
        await orchestrator.close()
