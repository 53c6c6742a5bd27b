"""A real PostgreSQL that is killed, frozen and cut off under its clients."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from mcp_server.databases import (
    Client,
    ConnectionLost,
    DatabaseBusy,
    Databases,
    DatabaseUnavailable,
    Limits,
)
from tests.services.postgres import PostgresServer
from tests.services.proxy import TcpProxy

QUICK = Limits(connections=4, connect_seconds=1, check_seconds=0.5, wait_seconds=1, statement_seconds=1)


class Heard:
    def __init__(self) -> None:
        self.errors: list[str] = []
        self.reconnects: list[str] = []

    def on_error(self, name: str, error: BaseException) -> None:
        self.errors.append(name)

    async def on_reconnect(self, name: str) -> None:
        self.reconnects.append(name)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def databases(own_postgres: PostgresServer, heard: Heard) -> AsyncIterator[Databases]:
    async with _over(own_postgres.url, heard) as found:
        yield found


@pytest.fixture
async def proxied(
    own_postgres: PostgresServer, postgres_proxy: TcpProxy, heard: Heard
) -> AsyncIterator[Databases]:
    async with _over(own_postgres.url_of("quaymaster", port=postgres_proxy.port), heard) as found:
        yield found


def _over(url: str, heard: Heard) -> Databases:
    return Databases(
        {"main": url}, on_error=heard.on_error, on_reconnect=heard.on_reconnect, limits=QUICK, environ={}
    )


async def _eventually(work: Callable[[], Awaitable[Any]], seconds: float = 15) -> Any:
    until = time.monotonic() + seconds
    while True:
        try:
            return await work()
        except DatabaseUnavailable:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.05)


async def test_a_killed_server_comes_back_to_its_clients(
    databases: Databases, own_postgres: PostgresServer, heard: Heard
):
    client = await databases.client("main")
    assert await client.fetch("SELECT 1 AS one") == [{"one": 1}]
    await asyncio.to_thread(own_postgres.kill)
    with pytest.raises(DatabaseUnavailable):
        await client.execute("SELECT 1")
    with pytest.raises(DatabaseUnavailable) as away:
        await databases.client("main")
    assert 0 < away.value.retry_after <= 30
    assert client.health().status == "unhealthy"
    assert heard.reconnects == []
    await asyncio.to_thread(own_postgres.start)
    assert await _eventually(lambda: client.fetch("SELECT 1 AS one")) == [{"one": 1}]
    assert heard.errors
    assert heard.reconnects == ["main"]
    assert client.health().status == "healthy"


async def test_it_is_not_dead_after_many_failures(
    databases: Databases, own_postgres: PostgresServer, heard: Heard
):
    await asyncio.to_thread(own_postgres.kill)
    until = time.monotonic() + 20
    while len(heard.errors) < 4 and time.monotonic() < until:
        await databases.check()
        await asyncio.sleep(0.02)
    assert len(heard.errors) == 4
    await asyncio.to_thread(own_postgres.start)
    await _eventually(lambda: databases.client("main"), seconds=25)


async def test_an_open_breaker_refuses_at_once(
    databases: Databases, own_postgres: PostgresServer, heard: Heard
):
    await asyncio.to_thread(own_postgres.freeze)
    try:
        with pytest.raises(DatabaseUnavailable):
            await databases.client("main")
        begun = time.monotonic()
        refusals = await asyncio.gather(
            *(databases.client("main") for _ in range(50)), return_exceptions=True
        )
        assert time.monotonic() - begun < 0.3
        assert all(isinstance(each, DatabaseUnavailable) for each in refusals)
        assert heard.errors == ["main"]
    finally:
        own_postgres.thaw()


async def test_a_frozen_server_is_noticed_in_bounded_time_and_used_again(
    databases: Databases, own_postgres: PostgresServer, heard: Heard
):
    client = await databases.client("main")
    await asyncio.to_thread(own_postgres.freeze)
    begun = time.monotonic()
    with pytest.raises((TimeoutError, DatabaseUnavailable)):
        await client.fetch("SELECT 1")
    with pytest.raises(DatabaseUnavailable):
        await databases.client("main")
    assert time.monotonic() - begun < 6
    await asyncio.to_thread(own_postgres.thaw)
    assert await _eventually(lambda: client.fetch("SELECT 2 AS two")) == [{"two": 2}]


async def test_many_callers_share_one_check(databases: Databases, own_postgres: PostgresServer, heard: Heard):
    await asyncio.to_thread(own_postgres.kill)
    outcomes = await asyncio.gather(*(databases.client("main") for _ in range(100)), return_exceptions=True)
    assert all(isinstance(each, DatabaseUnavailable) for each in outcomes)
    assert heard.errors == ["main"]


async def test_a_caller_who_gives_up_does_not_take_the_check_with_him(
    proxied: Databases, postgres_proxy: TcpProxy
):
    await asyncio.to_thread(postgres_proxy.delay, 0.02)
    impatient = asyncio.create_task(proxied.client("main"))
    patient = asyncio.create_task(proxied.client("main"))
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).name == "main"


async def test_a_check_is_not_repeated_within_the_interval(proxied: Databases, postgres_proxy: TcpProxy):
    await proxied.client("main")
    await asyncio.to_thread(postgres_proxy.refuse)
    await proxied.client("main")
    with pytest.raises(DatabaseUnavailable):
        await proxied.client("main", within=0)


async def test_a_read_survives_a_cut_connection(proxied: Databases, postgres_proxy: TcpProxy):
    client = await proxied.client("main")
    trap = await asyncio.to_thread(postgres_proxy.trap, b"needle", effect="cut", moment="before")
    assert await client.read("SELECT 'needle' AS found") == [{"found": "needle"}]
    assert trap.sprung.is_set()


async def test_a_write_is_never_sent_twice(
    proxied: Databases, postgres_proxy: TcpProxy, own_postgres: PostgresServer
):
    client = await proxied.client("main")
    await client.execute("CREATE TABLE marks (note text)")
    await asyncio.to_thread(postgres_proxy.trap, b"needle", effect="cut", moment="after")
    with pytest.raises(ConnectionLost):
        await client.execute("INSERT INTO marks VALUES ('needle')")
    assert await _count(client) == 1


async def test_a_write_that_may_be_repeated_is(proxied: Databases, postgres_proxy: TcpProxy):
    client = await proxied.client("main")
    await client.execute("CREATE TABLE marks (note text)")
    await asyncio.to_thread(postgres_proxy.trap, b"needle", effect="cut", moment="after")
    assert await client.execute("INSERT INTO marks VALUES ('needle')", idempotent=True) == 1
    assert await _count(client) == 2


async def test_a_refused_statement_is_no_outage_and_is_not_repeated(databases: Databases, heard: Heard):
    client = await databases.client("main")
    await client.execute("CREATE SEQUENCE tries")
    with pytest.raises(Exception, match="division by zero"):
        await client.fetch("SELECT nextval('tries') / 0", idempotent=True)
    assert await client.fetch("SELECT last_value FROM tries") == [{"last_value": 1}]
    assert client.health().status == "healthy"
    assert heard.errors == []


async def test_a_failed_transaction_leaves_nothing_and_its_connection_is_used_again(
    databases: Databases, heard: Heard
):
    client = await databases.client("main")
    await client.execute("CREATE TABLE marks (note text)")

    async def fail_inside(error: Exception) -> None:
        async with client.transaction() as transaction:
            await transaction.execute("INSERT INTO marks VALUES ('gone')")
            raise error

    for error in (FileNotFoundError("the caller's own, not the connection's"), ValueError("own")):
        with pytest.raises(type(error), match="own"):
            await fail_inside(error)
    assert await _count(client) == 0
    assert client.health().status == "healthy"
    assert heard.errors == []


async def test_a_read_only_transaction_refuses_to_write(databases: Databases):
    client = await databases.client("main")
    await client.execute("CREATE TABLE marks (note text)")
    with pytest.raises(Exception, match="read-only"):
        async with client.transaction(readonly=True) as transaction:
            await transaction.execute("INSERT INTO marks VALUES ('no')")
    async with client.transaction() as transaction:
        assert await transaction.execute("INSERT INTO marks VALUES ('yes'), ('yes')") == 2
    assert await _count(client) == 2


async def test_a_busy_pool_is_busy_and_not_away(databases: Databases, heard: Heard):
    client = await databases.client("main")
    slow = [asyncio.create_task(client.fetch("SELECT pg_sleep(0.9)")) for _ in range(QUICK.connections)]
    await asyncio.sleep(0)
    await databases.client("main", within=0)
    held = [client.connection() for _ in range(QUICK.connections)]
    await asyncio.gather(*slow)
    for each in held:
        await each.__aenter__()
    with pytest.raises(DatabaseBusy):
        await client.fetch("SELECT 1")
    for each in held:
        await each.__aexit__(None, None, None)
    assert heard.errors == []


async def test_no_session_setting_leaks_to_the_next_user(databases: Databases):
    client = await databases.client("main")
    await client.execute("SET search_path TO nowhere")
    assert await client.fetch("SHOW search_path") == [{"search_path": '"$user", public'}]


async def test_a_hook_that_fails_harms_nobody(own_postgres: PostgresServer):
    def broken(*_: object) -> None:
        raise RuntimeError("the application's hook")

    async with Databases({"main": own_postgres.url}, on_error=broken, limits=QUICK, environ={}) as databases:
        await asyncio.to_thread(own_postgres.kill)
        with pytest.raises(DatabaseUnavailable):
            await databases.client("main")


def test_each_event_loop_gets_connections_of_its_own(database_url: str):
    databases = Databases({"main": database_url}, limits=QUICK, environ={})
    client = databases.client_sync("main")

    async def once() -> list[dict[str, Any]]:
        try:
            return await client.fetch("SELECT 1 AS one")
        finally:
            await databases.close()

    assert [asyncio.run(once()) for _ in range(2)] == [[{"one": 1}]] * 2


async def test_no_message_holds_the_password(own_postgres: PostgresServer):
    wrong = own_postgres.url.replace("quaymaster-test-only", "hunter2-wrong")
    async with Databases({"main": wrong}, limits=QUICK, environ={}) as databases:
        with pytest.raises(DatabaseUnavailable) as refused:
            await databases.client("main")
    assert "hunter2" not in f"{refused.value} {refused.value!r} {refused.value.__cause__}"


async def _count(client: Client) -> int:
    rows = await _eventually(lambda: client.read("SELECT count(*) AS n FROM marks"))
    return int(rows[0]["n"])


async def test_half_open_one_of_many_callers_probes_and_all_hear_of_it(
    databases: Databases, own_postgres: PostgresServer, heard: Heard
):
    async def all_at_once() -> list[Any]:
        asked = (databases.client("main", within=0) for _ in range(20))
        return await asyncio.gather(*asked, return_exceptions=True)

    async def until(done: Callable[[list[Any]], bool]) -> list[Any]:
        deadline = time.monotonic() + 20
        while not done(found := await all_at_once()):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        return found

    await databases.client("main")
    await asyncio.to_thread(own_postgres.kill)
    found = await until(lambda found: len(heard.errors) > 1)
    assert heard.errors == ["main", "main"]
    assert all(isinstance(each, DatabaseUnavailable) for each in found)
    await asyncio.to_thread(own_postgres.start)
    await until(lambda found: all(isinstance(each, Client) for each in found))
    assert heard.reconnects == ["main"]
