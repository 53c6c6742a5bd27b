"""What goes wrong with PostgreSQL is told by what the caller can do about it."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from mcp_server.adapters import faults
from mcp_server.adapters.postgres.connections import Connections, ConnectionSettings
from mcp_server.adapters.postgres.errors import translated
from mcp_server.adapters.postgres.primary import PostgresPrimary
from mcp_server.domain.errors import Busy, Conflict, Invalid, Unavailable
from mcp_server.ports.mirror import Outage
from tests.postgres.samples import INTENT, add, begin_with_project, project
from tests.services.postgres import PostgresServer


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("08006", Outage),
        ("08P01", Outage),
        ("57P01", Outage),
        ("57P02", Outage),
        ("57P03", Outage),
        ("25006", Outage),
        ("42P01", Outage),
        ("40001", Busy),
        ("40P01", Busy),
        ("55P03", Busy),
        ("57014", Busy),
        ("53100", Unavailable),
        ("53300", Unavailable),
        ("28P01", Invalid),
        ("28000", Invalid),
        ("3D000", Invalid),
        ("42501", Invalid),
        ("22021", Invalid),
        ("22001", Invalid),
        ("23514", Invalid),
        ("23505", Conflict),
        ("23503", Conflict),
        ("42601", type(None)),
    ],
)
def test_each_sqlstate_has_one_meaning(state: str, expected: type) -> None:
    error = asyncpg.PostgresError.new({"C": state, "M": "secret value", "D": "Key (slug)=(secret value)"})
    told = translated(error)
    assert type(told) is expected
    assert "secret" not in str(told)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(), Outage),
        (ConnectionResetError(), Outage),
        (OSError(113, "no route"), Outage),
        (asyncpg.InterfaceError("connection is closed"), Outage),
        (asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"), Outage),
        (asyncpg.InterfaceError("another operation is in progress"), type(None)),
        (asyncpg.ClientConfigurationError("invalid DSN"), Invalid),
        (asyncpg.InternalClientError("cannot switch to state 12; another operation is in progress"), Outage),
        (asyncpg.InvalidCachedStatementError("cached plan must not change result type"), Unavailable),
        (ValueError("ours"), type(None)),
    ],
)
def test_broken_connections_are_outages_and_defects_of_ours_are_not(error: Exception, expected: type) -> None:
    assert type(translated(error)) is expected


@pytest.fixture
async def served(own_postgres: PostgresServer) -> AsyncIterator[PostgresPrimary]:
    primary = PostgresPrimary(own_postgres.url)
    await primary.prepare()
    await begin_with_project(primary)
    try:
        yield primary
    finally:
        own_postgres.thaw()
        await primary.close()


async def _read(primary: PostgresPrimary) -> Any:
    return await primary.read(lambda tx: tx.projects.get("app"))


async def test_a_killed_server_is_an_outage_at_once_and_back_when_it_is(
    served: PostgresPrimary, own_postgres: PostgresServer
) -> None:
    await asyncio.to_thread(own_postgres.kill)
    begun = time.monotonic()
    with pytest.raises(Outage):
        await _read(served)
    with pytest.raises(Outage) as known:
        await add(served, project("b"), line_id="b")
    with pytest.raises(Outage):
        await served.identify()
    assert time.monotonic() - begun < 2
    assert known.value.probed
    assert not known.value.committing
    await asyncio.to_thread(own_postgres.start)
    assert await _read(served) is not None
    await add(served, project("b"), line_id="b")


async def test_a_silent_server_is_an_outage_within_five_and_a_half_seconds(
    served: PostgresPrimary, own_postgres: PostgresServer
) -> None:
    await _read(served)
    own_postgres.freeze()
    begun = time.monotonic()
    with pytest.raises(Outage) as silent:
        await _read(served)
    assert time.monotonic() - begun < 5.5
    assert silent.value.probed
    begun = time.monotonic()
    with pytest.raises(Outage):
        await add(served, project("b"), line_id="b")
    assert time.monotonic() - begun < 5.5
    own_postgres.thaw()
    assert await _read(served) is not None


async def test_a_slow_command_on_a_living_server_is_not_an_outage(
    served: PostgresPrimary, own_postgres: PostgresServer
) -> None:
    blocker = await asyncpg.connect(own_postgres.url)
    try:
        async with blocker.transaction():
            await blocker.execute("SELECT 1 FROM projects WHERE name = 'app' FOR UPDATE")
            with pytest.raises(Unavailable):
                await served.run(lambda tx: tx.projects.hold("app"), INTENT, line_id="L", epoch=1)
    finally:
        await blocker.close()
    await served.run(lambda tx: tx.projects.hold("app"), INTENT, line_id="L", epoch=1)


async def test_a_command_timeout_is_judged_by_a_fresh_connection(own_postgres: PostgresServer) -> None:
    primary = PostgresPrimary(ConnectionSettings(own_postgres.url, command_timeout=0.5))
    try:
        await primary.prepare()

        async def sleep(tx: Any) -> None:
            await tx._session.connection.execute("SET LOCAL statement_timeout = 0; SELECT pg_sleep(5)")

        with pytest.raises(Unavailable):
            await primary.run(sleep, INTENT, line_id="L", epoch=1)
        await begin_with_project(primary)
    finally:
        await primary.close()


async def test_cut_connections_are_replaced(served: PostgresPrimary, own_postgres: PostgresServer) -> None:
    await asyncio.gather(*(_read(served) for _ in range(5)))
    await asyncio.to_thread(own_postgres.cut_connections)
    outcomes = await asyncio.gather(*(_read(served) for _ in range(10)), return_exceptions=True)
    assert all(isinstance(outcome, Outage) or outcome is not None for outcome in outcomes)
    assert await _read(served) is not None


@pytest.mark.parametrize(
    ("point", "committing"), [("postgres.before_log", False), ("postgres.before_commit", True)]
)
async def test_an_outage_says_whether_it_hit_the_commit(
    served: PostgresPrimary,
    own_postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
    committing: bool,
) -> None:
    monkeypatch.setattr(faults, "at", lambda passed: own_postgres.kill() if passed == point else None)
    with pytest.raises(Outage) as outage:
        await add(served, project("b"), line_id="b")
    assert outage.value.committing is committing


async def test_a_silent_commit_is_an_outage_of_unknown_outcome(
    served: PostgresPrimary, own_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        faults, "at", lambda passed: own_postgres.freeze() if passed == "postgres.before_commit" else None
    )
    with pytest.raises(Outage) as outage:
        await add(served, project("b"), line_id="b")
    assert outage.value.committing
    monkeypatch.undo()
    own_postgres.thaw()
    outcome = await served.applied("b")
    assert (outcome is None) == (await served.read(lambda tx: tx.projects.get("b")) is None)


@pytest.mark.parametrize("spoil", ["password", "database", "address"])
async def test_a_wrong_password_database_or_address_is_a_setting_to_correct(
    postgres: PostgresServer, spoil: str
) -> None:
    url = {
        "password": postgres.url.replace("quaymaster-test-only", "wrong"),
        "database": postgres.url_of("nowhere"),
        "address": "postgresql://[",
    }[spoil]
    primary = PostgresPrimary(url)
    try:
        for call in (primary.identify, primary.prepare, lambda: _read(primary)):
            with pytest.raises(Invalid) as refused:
                await call()
            assert "QUAYMASTER_DATABASE_URL" in refused.value.next
            assert "wrong" not in str(refused.value.payload())
    finally:
        await primary.close()


async def test_waiting_for_a_connection_is_bounded_counted_and_no_outage(database_url: str) -> None:
    primary = PostgresPrimary(ConnectionSettings(database_url, pool_max=2, acquire_timeout=0.3))
    try:
        await primary.prepare()
        release = asyncio.Event()

        async def occupy(_: Any) -> None:
            await release.wait()

        busy = [asyncio.create_task(primary.read(occupy)) for _ in range(2)]
        async with asyncio.timeout(5):
            while primary.gauges()["pool_total"] < 2:
                await asyncio.sleep(0.01)
        late = asyncio.create_task(_read(primary))
        async with asyncio.timeout(5):
            while not primary.gauges()["pool_waiting"]:
                await asyncio.sleep(0.01)
        with pytest.raises(Unavailable, match="all 2 connections"):
            await late
        release.set()
        await asyncio.gather(*busy)
        assert primary.gauges() == {"pool_total": 2, "pool_idle": 2, "pool_waiting": 0}
        assert await _read(primary) is None
    finally:
        await primary.close()


@pytest.mark.parametrize("spoil", ["wiped", "older"])
async def test_a_server_that_comes_back_as_another_or_older_one_is_an_outage(
    served: PostgresPrimary, own_postgres: PostgresServer, spoil: str
) -> None:
    snapshot = await asyncio.to_thread(own_postgres.snapshot)
    await _read(served)
    await add(served, project("b"), line_id="b")
    if spoil == "wiped":
        await asyncio.to_thread(own_postgres.wipe)
        other = PostgresPrimary(own_postgres.url)
        await other.prepare()
        await begin_with_project(other)
        await other.close()
    else:
        await asyncio.to_thread(own_postgres.restore_snapshot, snapshot)
    for _ in range(2):
        with pytest.raises(Outage) as seen:
            await add(served, project("c"), line_id="c")
        assert seen.value.probed
    check = await asyncpg.connect(own_postgres.url)
    try:
        assert await check.fetchval("SELECT count(*) FROM projects WHERE name = 'c'") == 0
    finally:
        await check.close()


async def test_giving_a_connection_back_costs_no_round_trip(database_url: str) -> None:
    primary = PostgresPrimary(database_url)
    try:
        await primary.prepare()
        await begin_with_project(primary)
        statements: list[str] = []

        async def watched(tx: Any) -> None:
            connection = tx._session.connection
            connection.add_query_logger(lambda record: statements.append(record.query))
            await tx.projects.get("app")

        await primary.read(watched)
        await _read(primary)
        assert [sql.split()[0] for sql in statements] == ["SELECT", "SELECT"]
    finally:
        await primary.close()


async def test_who_is_cancelled_while_a_connection_closes_does_not_go_on(
    own_postgres: PostgresServer,
) -> None:
    """A server that closes waits for the work that it has cancelled."""
    connections = Connections(ConnectionSettings(own_postgres.url))
    closing = asyncio.Event()
    went_on = False

    async def work() -> None:
        nonlocal went_on
        async with connections.fresh("test") as connection:
            await connection.fetchval("SELECT 1")
            own_postgres.freeze()
            closing.set()
        went_on = True

    try:
        task = asyncio.create_task(work())
        await closing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    finally:
        own_postgres.thaw()
    assert not went_on
