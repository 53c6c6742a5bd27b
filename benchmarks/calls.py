"""Read and write tools beside the echo tool: over stdio and HTTP, with 1, 16 and 64 callers."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import asyncpg
from mcp import Client

from benchmarks.measure import Figures, Row, against, in_turn, timed
from benchmarks.servers import environment, http_client, new_home, quaymaster, stdio_client, yardstick
from tests.services.postgres import PostgresServer

ROUNDS = 5
CALLS = 100
MANY = 600


async def tool(client: Client, name: str, /, **arguments: Any) -> Any:
    result = await client.call_tool(name, arguments)
    if result.is_error:
        raise RuntimeError(str(result.structured_content))
    return result.structured_content


def durable(postgres: PostgresServer) -> None:
    """Flush to the disk as in earnest; the tests do without."""
    for statement in (
        "ALTER SYSTEM SET fsync = on",
        "ALTER SYSTEM SET full_page_writes = on",
        "SELECT pg_reload_conf()",
    ):
        postgres.run_as_admin(statement)


def repeat(
    name: str, client: Client, of: str, arguments: Callable[[int], dict[str, Any]]
) -> Callable[[], Awaitable[Figures]]:
    return lambda: timed(name, lambda n: tool(client, of, **arguments(n)), calls=CALLS)


async def measure() -> list[Row]:
    with PostgresServer() as postgres, new_home() as home:
        durable(postgres)
        url = postgres.create_database("bench")
        with quaymaster(url, home) as (port, key):
            rows = await _over_http(url, port, key)
            return rows + await _over_stdio(environment(home, url) | {"QUAYMASTER_API_KEY": key})


async def _over_http(url: str, port: int, key: str) -> list[Row]:
    counter = itertools.count()
    name = {"name": "bench"}

    def path(_: int) -> dict[str, Any]:
        return {
            "project": "bench",
            "paths": [f"src/{next(counter)}.py"],
            "agent": f"a{next(counter) // 1000}",
        }

    with yardstick() as bare_port, yardstick(url) as asking_port:
        async with (
            http_client(bare_port) as bare,
            http_client(asking_port) as asking,
            http_client(port, key) as ours,
        ):
            await tool(ours, "create_project", name="bench")
            echo, verified, read = await in_turn(
                ROUNDS,
                repeat("bare echo", bare, "echo", lambda _: name),
                repeat("echo + SELECT 1", asking, "echo", lambda _: name),
                repeat("get_project", ours, "get_project", lambda _: name),
            )
            writes = []
            for _ in range(ROUNDS):
                echoed = await repeat("bare echo", bare, "echo", lambda _: name)()
                raw = await _raw_transaction(url)
                written = await repeat("lock_files", ours, "lock_files", path)()
                writes.append(_write_row("lock_files, HTTP, PostgreSQL", written, echoed, raw))
            return [
                against("get_project, HTTP, PostgreSQL", read, verified, limit=1.3, target="<= 1.3 x"),
                against("get_project, HTTP, PostgreSQL", read, echo, limit=2.2, target="<= 2.2 x"),
                sorted(writes, key=lambda row: row.ratio or 0)[ROUNDS // 2],
                await _many(bare, ours, 16, counter),
                await _many(bare, ours, 64, counter),
            ]


async def _over_stdio(settings: Mapping[str, str]) -> list[Row]:
    name = {"name": "bench"}
    async with (
        stdio_client(["-m", "benchmarks.yardstick", "stdio"]) as bare,
        stdio_client(["-m", "mcp_server", "stdio"], settings) as ours,
    ):
        echo, read = await in_turn(
            ROUNDS,
            repeat("bare echo", bare, "echo", lambda _: name),
            repeat("get_project", ours, "get_project", lambda _: name),
        )
        return [against("get_project, stdio, PostgreSQL", read, echo, limit=2.2, target="<= 2.2 x")]


async def _many(bare: Client, ours: Client, callers: int, counter: Any) -> Row:
    async def mixed(n: int) -> None:
        if n % 4 == 0:
            lock = {"project": "bench", "paths": [f"m/{next(counter)}"], "agent": f"a{n % callers}"}
            await tool(ours, "lock_files", **lock)
        elif n % 4 == 1:
            await tool(ours, "list_projects")
        else:
            await tool(ours, "get_project", name="bench")

    rounds = []
    for _ in range(ROUNDS):
        theirs = await timed("echo", lambda _: tool(bare, "echo", name="x"), calls=MANY, callers=callers)
        rounds.append((theirs, await timed("mixed", mixed, calls=MANY, callers=callers)))
    theirs, mine = sorted(rounds, key=lambda pair: pair[1].rate / pair[0].rate)[ROUNDS // 2]
    share = mine.rate / theirs.rate
    good = share >= 0.5 and mine.errors == 0 and mine.p99 <= 20 * mine.p50
    value = f"{mine.rate:.0f}/s, p50 {mine.p50:.0f} ms, p99 {mine.p99:.0f} ms, {mine.errors} errors"
    target = ">= 0.5 x rate, no error, p99 <= 20 x p50"
    return Row(
        f"{callers} agents at once, mixed", value, f"echo {theirs.rate:.0f}/s", round(share, 2), target, good
    )


def _write_row(what: str, write: Figures, echo: Figures, raw: Figures) -> Row:
    allowed = echo.p50 + 3 * raw.p50
    beside = f"echo {echo.p50:.2f} + 3 x raw transaction {raw.p50:.2f} ms"
    return Row(
        what, f"{write.p50:.2f} ms", beside, round(write.p50 / allowed, 2), "<= 1", write.p50 <= allowed
    )


async def _raw_transaction(url: str) -> Figures:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS bench_raw (id BIGSERIAL PRIMARY KEY, body JSONB)"
        )

        async def two(_: int) -> None:
            async with connection.transaction():
                await connection.execute("INSERT INTO bench_raw (body) VALUES ($1)", '{"a": 1}')
                await connection.execute("INSERT INTO bench_raw (body) VALUES ($1)", '{"a": 2}')

        return await timed("raw transaction", two, calls=500)
    finally:
        await connection.close()
