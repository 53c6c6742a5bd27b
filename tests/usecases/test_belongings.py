"""What goes with a project goes by name: the log tells every deletion, and a mirror has what PostgreSQL has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest

from mcp_server.adapters.failover.store import FailoverStore
from mcp_server.adapters.memory.cache import MemoryCache
from mcp_server.adapters.registry.store import RegistryStore
from mcp_server.domain.callers import Caller
from mcp_server.domain.nouns import RECORDS
from mcp_server.domain.records import Record
from mcp_server.ports.store import Intent, Store, Transaction
from mcp_server.services.calls import Call, Calls
from mcp_server.services.projects import Projects
from mcp_server.services.trail import Trail
from tests.failover.homes import sides
from tests.services.loops import run_apart
from tests.services.postgres import PostgresServer
from tests.store import samples
from tests.store.backends import failover, migrated

SET_UP = Intent("create_project", "set-up")
OWNER = Caller(team_id="acme", role="owner", user="ann", key_id="k-ann", transport="http")
STAYS = {"backups", "databases", "conflicts"}
"""A backup outlives its project, a database forbids the deletion, a conflict waits for a person."""

BELONGINGS: tuple[Record, ...] = (
    samples.slots(),
    samples.deployment(),
    samples.domain(),
    samples.environment(),
    samples.environment_version(),
    samples.task(),
    samples.scope(),
    samples.lock(),
    samples.branch(),
    samples.branch("mine", environment="staging"),
)


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    name = "belongings"
    made = postgres.create_database(name)
    run_apart(migrated(made))
    yield made
    postgres.drop_database(name)


@pytest.fixture(params=["registry", "postgres"])
async def store(request: pytest.FixtureRequest, home: Path) -> AsyncIterator[Store]:
    if request.param == "registry":
        opened = await RegistryStore.open(home)
        yield opened
        opened.close()
        return
    async with failover(cast(str, request.getfixturevalue("url")), home) as both:
        yield both


async def furnished(tx: Transaction) -> None:
    await tx.teams.add(samples.team())
    for name in ("app", "other"):
        await tx.projects.add(samples.project(name))
    for record in BELONGINGS:
        await repository(tx, record).add(record)


def repository(tx: Transaction, record: Record) -> Any:
    return getattr(tx, record.noun)


async def deleted(store: Store) -> tuple[str, ...]:
    """The project with all its belongings; the effects of its plan."""
    calls = Calls(store, MemoryCache(), Trail(store), rate_limit=1_000_000)
    projects = Projects(calls)
    token: str | None = None
    effects: tuple[str, ...] = ()
    for _ in range(2):
        call = Call(caller=OWNER, action="delete_project", params={"name": "app"}, plan_token=token)
        done = await calls.perform(call, lambda: projects.delete(call, name="app"))  # noqa: B023
        token, effects = done.plan_token, done.effects
    assert done.status == "done"
    return effects


async def test_a_plan_names_the_branches_and_nothing_of_the_project_is_left(store: Store) -> None:
    await store.run(furnished, SET_UP)
    effects = await deleted(store)
    assert "2 branches deleted: try, mine" in effects
    assert "1 slot pair deleted: staging (none active)" in effects
    for record in BELONGINGS:
        key = record.key
        assert await store.read(lambda tx: repository(tx, record).get(key)) is None, record.noun  # type: ignore[arg-type]  # noqa: B023
    assert await store.read(lambda tx: tx.projects.get("other")) is not None


async def test_after_a_deletion_the_mirror_has_what_postgresql_has(url: str, home: Path) -> None:
    async with failover(url, home) as store:
        await store.run(furnished, SET_UP)
        await followed(store)
        await deleted(store)
        await followed(store)
    both = await sides(url, home)
    assert both.registry == both.primary
    gone = {(record.noun, record.key) for record in BELONGINGS}
    assert not gone & set(both.registry)


async def followed(store: FailoverStore) -> None:
    await store._follower.catch_up()


async def test_every_table_that_goes_with_a_project_is_among_the_belongings(url: str) -> None:
    """A new table that cascades from projects needs its place in the deletion, or a mirror keeps its rows."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            """
            SELECT conrelid::REGCLASS::TEXT AS name FROM pg_constraint
            WHERE confrelid = 'projects'::REGCLASS AND confdeltype = 'c' ORDER BY 1
            """
        )
    finally:
        await connection.close()
    assert {row["name"] for row in rows} == {
        *("branches", "databases", "deployments", "domains", "lock_scopes", "work_task_files"),
        *("project_envs", "project_env_versions", "project_slots", "work_tasks"),
    }
    nouns = {kind.noun for kind in RECORDS if "project" in kind.model_fields}
    assert nouns - STAYS == {record.noun for record in BELONGINGS}
