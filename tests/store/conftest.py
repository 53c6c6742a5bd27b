"""The back ends of the contract suite."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest

from mcp_server.adapters.registry.store import RegistryStore
from mcp_server.ports.store import Store
from tests.services.loops import run_apart
from tests.services.postgres import PostgresServer
from tests.store.backends import emptied, failover, migrated


@pytest.fixture(scope="session")
def reused_database(postgres: PostgresServer) -> Iterator[str]:
    """One database for the whole suite: to empty it is a hundred times quicker than to make one."""
    name = f"store_{uuid.uuid4().hex}"
    url = postgres.create_database(name)
    run_apart(migrated(url))
    yield url
    postgres.drop_database(name)


@pytest.fixture
def emptied_database(reused_database: str) -> str:
    """A database in which the migrations have run and nothing else."""
    run_apart(emptied(reused_database))
    return reused_database


@pytest.fixture(params=["registry", "postgres"])
async def store(request: pytest.FixtureRequest, home: Path) -> AsyncIterator[Store]:
    """An empty store."""
    if request.param == "registry":
        opened = await RegistryStore.open(home)
        yield opened
        opened.close()
        return
    url = cast(str, request.getfixturevalue("emptied_database"))
    async with failover(url, home) as both:
        yield both
