"""Of two transactions that want one host name at one time, one gets it, on every store."""

from __future__ import annotations

from datetime import UTC, datetime

import anyio
import pytest

from mcp_server.domain.errors import Conflict
from mcp_server.domain.projects import Project
from mcp_server.domain.teams import Team
from mcp_server.ports.store import Intent, Store, Transaction
from mcp_server.services.host_names import require_own_hosts
from tests.races.stores import opened
from tests.services.postgres import PostgresServer

NOW = datetime(2026, 1, 31, tzinfo=UTC)
PAIRS = 12


async def _race(store: Store) -> int:
    """How many projects stand afterwards; each pair shares a host name."""

    async def team(tx: Transaction) -> None:
        await tx.teams.add(Team(id="red", name="red", slug="red", owner="a", created_at=NOW, updated_at=NOW))

    async def create(name: str) -> None:
        async def transaction(tx: Transaction) -> None:
            await tx.projects.add(Project(name=name, uid=name, team_id="red", created_at=NOW, updated_at=NOW))
            await require_own_hosts(tx, name, "base.test")

        try:
            await store.run(transaction, Intent("create_project", "test"))
        except Conflict:
            return
        made.append(name)

    made: list[str] = []
    await store.run(team, Intent("create_team", "test"))
    async with anyio.create_task_group() as group:
        for number in range(PAIRS):
            group.start_soon(create, f"p{number}")
            group.start_soon(create, f"p{number}-staging")
    return len(made)


async def test_of_two_rival_projects_one_is_made_on_the_registry(tmp_path):
    async with opened(f"registry:{tmp_path / 'home'}") as store:
        assert await _race(store) == PAIRS


@pytest.mark.postgres
async def test_of_two_rival_projects_one_is_made_on_postgresql(postgres: PostgresServer):
    async with opened(f"postgres:{postgres.create_database('host_names')}") as store:
        assert await _race(store) == PAIRS
