"""Two servers on one PostgreSQL, which are given the same plan or the same idempotency key at one moment, or a plan whose
caller has just lost its key."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from mcp import Client

from tests.acceptance.wire import done, make_key, over_http
from tests.services.postgres import PostgresServer
from tests.services.processes import ServerProcess

Servers = tuple[ServerProcess, ServerProcess, str]
CLIENTS = 6
TRANSIENT = {"UNAVAILABLE", "OUTCOME_UNKNOWN", "DEGRADED"}


@pytest.fixture
def servers(own_postgres: PostgresServer, home: Path) -> Iterator[Servers]:
    settings = {"QUAYMASTER_DATABASE_URL": own_postgres.url, "QUAYMASTER_RATE_LIMIT": "100000"}
    key = make_key(home, **settings)
    with (
        ServerProcess.serve(home=home, settings=settings, seconds=90) as one,
        ServerProcess.serve(home=home, settings=settings, seconds=90) as two,
    ):
        yield one, two, key


@asynccontextmanager
async def clients_of(servers: Servers) -> AsyncIterator[list[Client]]:
    one, two, key = servers
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(over_http((one, two)[number % 2], key))
            for number in range(CLIENTS)
        ]


async def at_once(clients: list[Client], tool: str, **arguments: Any) -> list[dict[str, Any]]:
    """What each client was answered, errors too (they have a `code`)."""
    results = await asyncio.gather(*(client.call_tool(tool, arguments) for client in clients))
    return [dict(result.structured_content or {}) for result in results]


async def insist(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """Repeat the same call until the answer is final, as an agent does."""
    async with asyncio.timeout(60):
        while True:
            [answer] = await at_once([client], tool, **arguments)
            if answer.get("code") not in TRANSIENT:
                return answer
            await asyncio.sleep(0.1)


async def test_a_plan_that_two_servers_are_given_at_once_is_carried_out_once(
    servers: Servers, rounds: Any
) -> None:
    async with clients_of(servers) as clients:
        for number in range(rounds(3, 100)):
            name = f"shop-{number}"
            await done(clients[0], "create_project", name=name)
            planned = await done(clients[0], "delete_project", name=name)
            answers = await at_once(clients, "delete_project", name=name, plan_token=planned["plan_token"])
            assert [answer.get("status") for answer in answers].count("done") == 1, answers
            refusals = {answer["code"] for answer in answers if "code" in answer}
            assert refusals <= {"PLAN_STALE", "NOT_FOUND"}, answers


async def test_an_idempotency_key_that_two_servers_are_given_at_once_has_one_effect_and_one_answer(
    servers: Servers, rounds: Any
) -> None:
    async with clients_of(servers) as clients:
        await done(clients[0], "create_project", name="shop")
        number = rounds(3, 100)
        for title in map(str, range(number)):
            answers = await at_once(
                clients, "create_task", project="shop", title=title, idempotency_key=uuid.uuid4().hex
            )
            assert len({answer.get("id") for answer in answers}) == 1, answers
            assert all("code" not in answer for answer in answers)
        tasks = await done(clients[1], "list_tasks", project="shop", limit=200)
        assert len(tasks["tasks"]) == number


async def test_it_has_one_effect_also_when_postgresql_is_killed_in_the_middle(
    servers: Servers, own_postgres: PostgresServer, rounds: Any, rng: Any
) -> None:
    async with clients_of(servers) as clients:
        await done(clients[0], "create_project", name="shop")
        number = rounds(2, 30)
        for title in map(str, range(number)):
            key = uuid.uuid4().hex
            calls = [
                asyncio.create_task(
                    insist(each, "create_task", project="shop", title=title, idempotency_key=key)
                )
                for each in clients
            ]
            await asyncio.sleep(rng.uniform(0, 0.03))
            await asyncio.to_thread(own_postgres.kill)
            answers = await asyncio.gather(*calls)
            assert len({answer.get("id") for answer in answers}) == 1, answers
            await asyncio.to_thread(own_postgres.start)
            async with asyncio.timeout(60):
                while (await done(clients[0], "infrastructure_status"))["mode"] != "primary":
                    await asyncio.sleep(0.05)
            again = await insist(clients[1], "create_task", project="shop", title=title, idempotency_key=key)
            assert again["id"] == answers[0]["id"]
        tasks = await done(clients[1], "list_tasks", project="shop", limit=200)
        assert sorted(task["title"] for task in tasks["tasks"]) == sorted(map(str, range(number)))


async def test_a_plan_is_not_carried_out_for_a_key_whose_revocation_this_server_has_not_yet_heard_of(
    servers: Servers, own_postgres: PostgresServer
) -> None:
    """Another home revokes it: what counts is what PostgreSQL says in the moment of the change."""
    one, _, owner = servers
    async with over_http(one, owner) as client:
        await done(client, "create_project", name="shop")
        made = await done(client, "create_key", name="bob", role="admin")
        async with over_http(one, made["key"]) as admin:
            planned = await done(admin, "delete_project", name="shop")
            async with connected(own_postgres) as connection:
                await connection.execute("UPDATE api_keys SET revoked_at = now() WHERE id = $1", made["id"])
            assert (await done(admin, "get_project", name="shop"))["name"] == "shop", "it has not heard of it"
            [answer] = await at_once([admin], "delete_project", name="shop", plan_token=planned["plan_token"])
        assert answer["code"] == "UNAUTHENTICATED"
        assert (await done(client, "get_project", name="shop"))["name"] == "shop"


@asynccontextmanager
async def connected(postgres: PostgresServer) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(postgres.url)
    try:
        yield connection
    finally:
        await connection.close()
