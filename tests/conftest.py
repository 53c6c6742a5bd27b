"""What every test can ask for: a PostgreSQL server, a fresh database, a proxy, a state directory.

Long suites run as a sample unless `--soak` is given; `QUAYMASTER_TEST_SEED` sets the seed of both.
"""

import os
import random
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.services.missing import do_without
from tests.services.node_tools import NodeMissing, NodeTools, find_node_tools
from tests.services.postgres import PostgresMissing, PostgresServer, end_left_overs
from tests.services.programs import put_on_path
from tests.services.proxy import TcpProxy
from tests.services.redis import RedisMissing, RedisServer

pytest_plugins = ["tests.services.engine", "tests.services.registry"]

DEFAULT_SEED = 20_261_121
POSTGRES_FIXTURES = {"postgres", "database_url", "own_postgres", "postgres_proxy", "postgres_template"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long suites whole")


def pytest_configure(config: pytest.Config) -> None:
    settings.register_profile("sample", max_examples=25, deadline=None, derandomize=True)
    settings.register_profile("soak", max_examples=500, deadline=None, print_blob=True)
    settings.load_profile("soak" if config.getoption("--soak") else "sample")
    put_on_path()


def pytest_report_header(config: pytest.Config) -> str:
    return f"long suites: {'whole' if config.getoption('--soak') else 'sample'}, seed {_seed()}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if POSTGRES_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("postgres")
        if "node_tools" in getattr(item, "fixturenames", ()):
            item.add_marker("node")
        if item.get_closest_marker("soak") and not config.getoption("--soak"):
            item.add_marker(pytest.mark.skip(reason="runs with --soak (make soak)"))


# -- how long, how random ------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def soak(pytestconfig: pytest.Config) -> bool:
    """Whether the long suites run whole."""
    return bool(pytestconfig.getoption("--soak"))


@pytest.fixture
def rounds(soak: bool) -> Callable[[int, int], int]:
    """`rounds(sample, whole)`: how often a loop of a long suite goes round."""
    return lambda sample, whole: whole if soak else sample


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Randomness that comes again: from the seed and the test's name."""
    return random.Random(f"{_seed()}:{request.node.nodeid}")


def _seed() -> int:
    return int(os.environ.get("QUAYMASTER_TEST_SEED", DEFAULT_SEED))


# -- real parts ----------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty state directory, readable by its owner only."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server that all tests of a worker share: never to be stopped, killed, frozen or wiped."""
    end_left_overs()
    with _new_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template() -> Iterator[Path]:
    """The data of a server on which nothing has happened yet: `PostgresServer(template)` begins with them."""
    with _new_server() as server:
        server.stop()
        yield server.snapshot()


@pytest.fixture
def own_postgres(postgres_template: Path) -> Iterator[PostgresServer]:
    """A server for this test alone, running; it may be treated badly."""
    with PostgresServer(postgres_template) as server:
        yield server


@pytest.fixture
def database_url(postgres: PostgresServer) -> Iterator[str]:
    """A fresh, empty database on the shared server, as its owner (no superuser)."""
    name = f"t_{uuid.uuid4().hex}"
    url = postgres.create_database(name)
    try:
        yield url
    finally:
        postgres.drop_database(name)


@pytest.fixture
def postgres_proxy(own_postgres: PostgresServer) -> Iterator[TcpProxy]:
    """A proxy in front of `own_postgres`; go through it with `url_of("quaymaster", port=...)`."""
    with TcpProxy(own_postgres.port) as proxy:
        yield proxy


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis server for this test alone, running; it may be treated badly."""
    try:
        server = RedisServer()
    except RedisMissing as missing:
        do_without(str(missing))
    with server:
        yield server


@pytest.fixture(scope="session")
def node_tools() -> NodeTools:
    """The conformance suite and the inspector, as command lines."""
    try:
        return find_node_tools()
    except NodeMissing as missing:
        do_without(str(missing))


def _new_server() -> PostgresServer:
    try:
        return PostgresServer()
    except PostgresMissing as missing:
        do_without(str(missing))
