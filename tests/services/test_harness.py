"""The harness keeps its own promises, or no fault test means anything."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from .missing import do_without
from .node_tools import NodeTools
from .ports import ReservedPort, is_open
from .postgres import PostgresServer, end_left_overs
from .processes import CHECKOUT
from .programs import Account, PostgresMissing, find_programs
from .proxy import TcpProxy
from .waiting import wait_until

SILENCE = 0.7
"""Seconds without an answer that count as silent; a healthy one takes milliseconds."""


@pytest.fixture
async def client(own_postgres: PostgresServer) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(own_postgres.url)
    yield connection
    connection.terminate()


@pytest.fixture
async def far_client(
    own_postgres: PostgresServer, postgres_proxy: TcpProxy
) -> AsyncIterator[asyncpg.Connection]:
    """A client whose connection runs through the proxy."""
    connection = await asyncpg.connect(own_postgres.url_of("quaymaster", port=postgres_proxy.port))
    yield connection
    connection.terminate()


async def fetch_value(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def keep_a_row(url: str, value: int) -> None:
    connection = await asyncpg.connect(url, timeout=10)
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (value integer)")
    await connection.execute("INSERT INTO kept VALUES ($1)", value)
    await connection.close()


async def rows(url: str) -> list[int]:
    connection = await asyncpg.connect(url, timeout=10)
    found = await connection.fetch("SELECT value FROM kept ORDER BY value")
    await connection.close()
    return [row["value"] for row in found]


# -- the server ----------------------------------------------------------------------------------------


async def test_a_fresh_database_is_empty_and_belongs_to_a_role_that_is_no_superuser(
    database_url: str,
) -> None:
    assert await fetch_value(database_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    assert await fetch_value(database_url, "SELECT current_setting('is_superuser')") == "off"
    await keep_a_row(database_url, 1)


async def test_each_test_gets_a_database_without_the_rows_of_another(database_url: str) -> None:
    await keep_a_row(database_url, 2)
    assert await rows(database_url) == [2]


async def test_a_wrong_password_is_refused(postgres: PostgresServer) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres.url.replace("quaymaster-test-only", "wrong"))


async def test_a_dropped_database_is_gone_even_while_somebody_is_connected(postgres: PostgresServer) -> None:
    url = postgres.create_database("dropped_while_in_use")
    connection = await asyncpg.connect(url)
    postgres.drop_database("dropped_while_in_use")
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(url)
    connection.terminate()


async def test_a_killed_server_leaves_no_process_and_a_closed_port_and_comes_back_with_committed_rows(
    own_postgres: PostgresServer,
) -> None:
    await keep_a_row(own_postgres.url, 1)
    family = [psutil.Process(own_postgres.pid), *psutil.Process(own_postgres.pid).children(recursive=True)]
    assert len(family) > 3

    own_postgres.kill()

    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family)
    with pytest.raises(OSError, match=r"Connect call failed|refused"):
        await asyncpg.connect(own_postgres.url)

    own_postgres.start()
    assert await rows(own_postgres.url) == [1]


async def test_what_was_not_committed_when_the_server_was_killed_is_not_there(
    own_postgres: PostgresServer, client: asyncpg.Connection
) -> None:
    await keep_a_row(own_postgres.url, 1)
    await client.execute("BEGIN")
    await client.execute("INSERT INTO kept VALUES (2)")
    own_postgres.kill()
    own_postgres.start()
    assert await rows(own_postgres.url) == [1]


async def test_a_stopped_server_keeps_its_rows_and_its_port(own_postgres: PostgresServer) -> None:
    await keep_a_row(own_postgres.url, 1)
    port = own_postgres.port
    own_postgres.stop()
    assert not is_open(port)
    own_postgres.start()
    assert own_postgres.port == port
    assert await rows(own_postgres.url) == [1]


async def test_a_frozen_server_accepts_connections_but_answers_nobody_until_it_thaws(
    own_postgres: PostgresServer, client: asyncpg.Connection
) -> None:
    own_postgres.freeze()
    pending = asyncio.create_task(client.fetchval("SELECT 1"))
    done, _ = await asyncio.wait([pending], timeout=SILENCE)
    assert not done
    assert is_open(own_postgres.port)
    with pytest.raises(TimeoutError):
        await asyncpg.connect(own_postgres.url, timeout=SILENCE)

    own_postgres.thaw()
    assert await asyncio.wait_for(pending, timeout=10) == 1


async def test_a_frozen_server_can_be_killed_and_started(own_postgres: PostgresServer) -> None:
    own_postgres.freeze()
    own_postgres.kill()
    own_postgres.start()
    assert await fetch_value(own_postgres.url, "SELECT 1") == 1


async def test_cut_connections_ends_the_clients_of_one_database_only(
    own_postgres: PostgresServer, client: asyncpg.Connection
) -> None:
    other = await asyncpg.connect(own_postgres.create_database("spared"))
    assert own_postgres.cut_connections("quaymaster") == 1
    with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
        await client.fetchval("SELECT 1")
    assert await other.fetchval("SELECT 1") == 1
    assert own_postgres.cut_connections() == 1
    other.terminate()


async def test_a_wiped_server_is_another_cluster_on_the_same_port_without_any_table(
    own_postgres: PostgresServer,
) -> None:
    await keep_a_row(own_postgres.url, 1)
    identity = "SELECT system_identifier FROM pg_control_system()"
    before, port = own_postgres.run_as_admin(identity), own_postgres.port

    own_postgres.wipe()

    assert own_postgres.port == port
    assert own_postgres.run_as_admin(identity) != before
    assert await fetch_value(own_postgres.url, "SELECT to_regclass('kept')") is None


async def test_a_restored_snapshot_has_the_old_rows_and_not_the_later_ones(
    own_postgres: PostgresServer,
) -> None:
    await keep_a_row(own_postgres.url, 1)
    backup = own_postgres.snapshot()
    await keep_a_row(own_postgres.url, 2)
    assert await rows(own_postgres.url) == [1, 2]

    own_postgres.restore_snapshot(backup)

    assert await rows(own_postgres.url) == [1]


def test_a_server_that_was_down_is_wiped_without_being_started(own_postgres: PostgresServer) -> None:
    own_postgres.kill()
    own_postgres.wipe()
    assert not own_postgres.running
    assert not is_open(own_postgres.port)


def test_a_closed_server_leaves_no_folder_behind(postgres: PostgresServer) -> None:
    before = set(Path("/tmp").glob(f"qm-pg-{os.getpid()}-*"))
    with PostgresServer() as server:
        assert server.running
        assert len(set(Path("/tmp").glob(f"qm-pg-{os.getpid()}-*")) - before) == 1
    assert set(Path("/tmp").glob(f"qm-pg-{os.getpid()}-*")) == before


def test_servers_of_a_killed_test_run_are_ended_by_the_next_one(tmp_path: Path) -> None:
    script = tmp_path / "killed_run.py"
    script.write_text(
        "from tests.services.postgres import PostgresServer\n"
        "server = PostgresServer()\n"
        "server.start()\n"
        "print(server.port, flush=True)\n"
        "input()\n"
    )
    run = subprocess.Popen(
        [sys.executable, script],
        env={"PYTHONPATH": str(CHECKOUT), "PATH": os.environ["PATH"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert run.stdout is not None
    port = int(run.stdout.readline())
    run.kill()
    run.communicate()
    assert is_open(port)

    end_left_overs()

    assert not is_open(port)
    assert not list(Path("/tmp").glob(f"qm-pg-{run.pid}-*"))


def test_programs_that_are_not_there_are_named_in_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUAYMASTER_TEST_PG_BIN", "/nowhere/bin")
    with pytest.raises(PostgresMissing, match="/nowhere/bin"):
        find_programs(Account(), tmp_path)


# -- the proxy -----------------------------------------------------------------------------------------


async def test_the_proxy_carries_queries_and_large_answers(far_client: asyncpg.Connection) -> None:
    assert len(await far_client.fetchval("SELECT repeat('x', 3000000)")) == 3_000_000


async def test_a_refusing_proxy_cuts_its_clients_and_takes_no_new_ones_until_it_forwards(
    own_postgres: PostgresServer, postgres_proxy: TcpProxy, far_client: asyncpg.Connection
) -> None:
    postgres_proxy.refuse()
    with pytest.raises((OSError, asyncpg.ConnectionDoesNotExistError)):
        await far_client.fetchval("SELECT 1")
    url = own_postgres.url_of("quaymaster", port=postgres_proxy.port)
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(url, timeout=5)

    postgres_proxy.forward()
    assert await fetch_value(url, "SELECT 1") == 1


async def test_a_silent_proxy_swallows_questions_and_hands_them_on_when_it_forwards(
    own_postgres: PostgresServer, postgres_proxy: TcpProxy, far_client: asyncpg.Connection
) -> None:
    postgres_proxy.silence()
    pending = asyncio.create_task(far_client.fetchval("SELECT 1"))
    done, _ = await asyncio.wait([pending], timeout=SILENCE)
    assert not done
    with pytest.raises(TimeoutError):
        await asyncpg.connect(own_postgres.url_of("quaymaster", port=postgres_proxy.port), timeout=SILENCE)

    postgres_proxy.forward()
    assert await asyncio.wait_for(pending, timeout=10) == 1


async def test_a_cut_ends_open_connections_and_new_ones_work(
    own_postgres: PostgresServer, postgres_proxy: TcpProxy, far_client: asyncpg.Connection
) -> None:
    assert postgres_proxy.cut() == 1
    with pytest.raises((OSError, asyncpg.ConnectionDoesNotExistError)):
        await far_client.fetchval("SELECT 1")
    assert await fetch_value(own_postgres.url_of("quaymaster", port=postgres_proxy.port), "SELECT 1") == 1


async def test_a_delay_holds_every_answer_up(
    postgres_proxy: TcpProxy, far_client: asyncpg.Connection
) -> None:
    postgres_proxy.delay(0.15)
    started = asyncio.get_running_loop().time()
    await far_client.fetchval("SELECT 1")
    assert asyncio.get_running_loop().time() - started >= 0.3


@pytest.mark.parametrize(("moment", "kept"), [("before", []), ("after", [7])])
async def test_a_trap_on_commit_cuts_before_the_server_saw_it_or_after_it_was_done(
    own_postgres: PostgresServer,
    postgres_proxy: TcpProxy,
    far_client: asyncpg.Connection,
    moment: str,
    kept: list[int],
) -> None:
    await far_client.execute("CREATE TABLE kept (value integer)")
    trap = postgres_proxy.trap(b"COMMIT;", moment="before" if moment == "before" else "after")

    with pytest.raises((OSError, asyncpg.ConnectionDoesNotExistError)):
        async with far_client.transaction():
            await far_client.execute("INSERT INTO kept VALUES (7)")

    trap.wait()
    assert await rows(own_postgres.url) == kept


async def test_a_trap_can_make_the_network_silent_at_the_commit(
    own_postgres: PostgresServer, postgres_proxy: TcpProxy, far_client: asyncpg.Connection
) -> None:
    await far_client.execute("CREATE TABLE kept (value integer)")
    trap = postgres_proxy.trap(b"COMMIT;", moment="after", effect="silent")

    async def insert() -> None:
        async with far_client.transaction():
            await far_client.execute("INSERT INTO kept VALUES (7)")

    pending = asyncio.create_task(insert())
    await asyncio.to_thread(trap.wait)
    done, _ = await asyncio.wait([pending], timeout=SILENCE)
    assert not done
    assert await rows(own_postgres.url) == [7]
    pending.cancel()
    await asyncio.wait([pending])


# -- programs of Node.js ---------------------------------------------------------------------------------


def test_the_node_programs_answer_with_their_versions(node_tools: NodeTools, tmp_path: Path) -> None:
    wanted = json.loads((CHECKOUT / "tests/services/node/package.json").read_text())["dependencies"]
    for command, package in (
        (node_tools.conformance("--version"), "@modelcontextprotocol/conformance"),
        (node_tools.inspector("--version"), "@modelcontextprotocol/inspector"),
    ):
        answer = subprocess.run(
            command,
            env=node_tools.environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert wanted[package] in answer.stdout


# -- ports and waiting -----------------------------------------------------------------------------------


def test_a_reserved_port_is_free_to_listen_on_and_given_to_nobody_else() -> None:
    reserved = [ReservedPort() for _ in range(20)]
    assert len({port.number for port in reserved}) == 20
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", reserved[0].number))
    for port in reserved:
        port.release()


def test_waiting_ends_with_the_name_of_what_did_not_happen() -> None:
    with pytest.raises(TimeoutError, match="the tide"):
        wait_until(lambda: False, seconds=0.05, what="the tide")


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_a_missing_service_skips_a_test_and_fails_it_in_ci(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="no engine"):
        do_without("no engine")
