"""What a command of `db` loads: it is typed by hand and run in hooks, so the server stays out of it."""

import subprocess
import sys

import pytest

from tests.schemas.conftest import Bench
from tests.schemas.test_terminal import environment

SERVER = (
    "aiodocker",
    "asyncpg",
    "cryptography",
    "mcp",
    "mcp_server.app.house",
    "mcp_server.config.schema",
    "mcp_server.services.calls",
    "mcp_server.ports.store",
)
CODE = """
import atexit, sys
from mcp_server.__main__ import main
atexit.register(lambda: print("LOADED", *sys.modules))
sys.argv = ["quaymaster", *sys.argv[1:]]
main()
"""


def loaded(bench: Bench, *arguments: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        cwd=bench.root,
        env=environment(bench),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(run.stdout.rpartition("LOADED")[2].split())


@pytest.mark.parametrize(
    "arguments",
    [("db", "list"), ("db", "migrate", "-d", "app", "-t", "deploy", "--no-countdown"), ("db", "--help")],
    ids=["list", "deploy", "help"],
)
def test_a_command_on_sqlite_loads_neither_the_server_nor_its_settings(
    sqlite_bench: Bench, arguments: tuple[str, ...]
) -> None:
    sqlite_bench.migration("001_one", "CREATE TABLE one (id integer);", "DROP TABLE one;")
    assert set(SERVER) & loaded(sqlite_bench, *arguments) == set()
