"""One PostgreSQL for all tests of a worker that may be treated badly: whole and empty again for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.loops import run_apart
from tests.services.postgres import PostgresServer
from tests.services.proxy import TcpProxy
from tests.store.backends import emptied, migrated


@pytest.fixture(scope="session")
def rough_server(postgres_template: Path) -> Iterator[PostgresServer]:
    with PostgresServer(postgres_template) as server:
        run_apart(migrated(server.url))
        yield server


@pytest.fixture
def rough(rough_server: PostgresServer) -> PostgresServer:
    """Running, migrated, empty. It may be killed and frozen; whoever replaces its data takes a server of its own."""
    rough_server.thaw()
    rough_server.start()
    rough_server.cut_connections()
    run_apart(emptied(rough_server.url))
    return rough_server


@pytest.fixture
def proxy(rough: PostgresServer) -> Iterator[TcpProxy]:
    with TcpProxy(rough.port) as proxy:
        yield proxy
