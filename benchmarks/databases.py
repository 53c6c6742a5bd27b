"""Databases of projects: warm, cold beside `docker run`, as a file; branches, backups and restores by size.

Needs a Docker engine; what is made on it goes with the benchmark's installation.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
from mcp import Client

from benchmarks.calls import tool
from benchmarks.measure import Figures, Row, against, figures, median, timed
from benchmarks.servers import free_port, http_client, new_home, quaymaster
from tests.services.engine import DockerEngine, find_engine
from tests.services.images import ensure

WARM, COLD, FILES, ROUNDS = 20, 7, 100, 3
POOL = 2
WARM_MS, FILE_MS, COLD_RATIO = 300.0, 50.0, 1.15
SIZES = (1, 16, 128)
"""Megabytes of rows."""

ROW = 1024
PASSWORD = "only-for-this-measurement"


async def measure() -> list[Row]:
    return [await _files(), await _warm(), await _cold(), *await _sizes()]


# -- creations


async def _files() -> Row:
    """The fallback: an engine that is not there was asked for once, before."""
    with new_home() as home:
        settings = {"DOCKER_HOST": f"unix://{home}/none.sock", "QUAYMASTER_QUOTA_DATABASES": "1000"}
        with quaymaster(None, home, settings) as (port, key):
            async with http_client(port, key) as client:
                await _named(client, FILES + 1)
                await tool(client, "create_database", project="p-0")
                taken = await timed(
                    "files",
                    lambda number: tool(client, "create_database", project=f"p-{number + 1}"),
                    calls=FILES,
                )
    return _within("`create_database` on SQLite, no engine, after the first detection", taken, FILE_MS)


async def _warm() -> Row:
    """Each call finds a standby; the pool is full again before the next."""
    took: list[float] = []
    async with _served(POOL) as (client, _, _home):
        await _named(client, WARM + 1)
        await _create(client, 0)
        for number in range(1, WARM + 1):
            await _pool_is_full(client)
            took.append(await _create(client, number))
            await _delete(client, f"p-{number}")
    return _within("`create_database`, warm", figures("warm", took, sum(took) / 1000), WARM_MS)


async def _cold() -> Row:
    """In turn with `docker run` of the same image until a login over TCP runs a query."""
    ours, theirs = [], []
    async with _served(0) as (client, engine, home):
        await _named(client, COLD + 1)
        await _create(client, 0)
        for number in range(1, COLD + 1):
            theirs.append(await _docker_run(engine, _installation(home)))
            ours.append(await _create(client, number))
            await _delete(client, f"p-{number}")
    return against(
        "`create_database`, cold",
        figures("cold", ours, sum(ours) / 1000),
        figures("`docker run` until a TCP login", theirs, sum(theirs) / 1000),
        limit=COLD_RATIO,
        target=f"<= {COLD_RATIO} x",
    )


async def _create(client: Client, number: int) -> float:
    began = time.perf_counter()
    made = await tool(client, "create_database", project=f"p-{number}", engine="postgres")
    took = (time.perf_counter() - began) * 1000
    if made["state"] != "running":
        raise RuntimeError(str(made))
    return took


async def _docker_run(engine: DockerEngine, installation: str) -> float:
    port, name = free_port(), f"qm-bench-{time.monotonic_ns()}"
    began = time.perf_counter()
    run = await asyncio.create_subprocess_exec(
        *["docker", "-H", engine.address, "run", "-d", "--name", name],
        *["--label", f"quaymaster.installation={installation}"],
        *["-e", f"POSTGRES_PASSWORD={PASSWORD}", "-p", f"127.0.0.1:{port}:5432"],
        ensure(engine, "postgres"),
        stdout=subprocess.DEVNULL,
    )
    if await run.wait() != 0:
        raise RuntimeError("docker run failed")
    while not await _logs_in(port):
        await asyncio.sleep(0.03)
    took = (time.perf_counter() - began) * 1000
    engine.ask("DELETE", f"/containers/{name}?force=1&v=1")
    return took


async def _logs_in(port: int) -> bool:
    try:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=port, user="postgres", password=PASSWORD, ssl=False, timeout=5
        )
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    await connection.fetchval("SELECT 1")
    connection.terminate()
    return True


def _within(what: str, taken: Figures, limit: float) -> Row:
    value = f"p50 {taken.p50:.0f} ms, p95 {taken.p95:.0f} ms, slowest of {taken.calls} {taken.p99:.0f} ms"
    good = taken.p95 <= limit and taken.errors == 0
    return Row(what, value, "", None, f"p95 < {limit:.0f} ms", good, {"figures": vars(taken)})


# -- by size


async def _sizes() -> list[Row]:
    rows = []
    async with _served(0) as (client, _, _home):
        for megabytes in SIZES:
            name = f"s-{megabytes}"
            await tool(client, "create_project", name=name)
            await tool(client, "create_database", project=name, engine="postgres")
            await _fill(client, name, megabytes)
            rows += [await _branch(client, name, megabytes), await _restore(client, name, megabytes)]
            await _delete(client, name)
    return rows


async def _fill(client: Client, project: str, megabytes: int) -> None:
    url = (await tool(client, "get_database", project=project, reveal=True))["url"]
    connection = await asyncpg.connect(url, ssl=False)
    try:
        await connection.execute("CREATE TABLE filled (id BIGINT PRIMARY KEY, body TEXT)")
        # Of digests, which no page compresses.
        await connection.execute(
            """
            INSERT INTO filled
            SELECT n, (SELECT string_agg(md5(n::TEXT || m), '') FROM generate_series(1, $2::INT) m)
            FROM generate_series(1, $1::INT) n
            """,
            megabytes * 1024 * 1024 // ROW,
            ROW // 32,
            timeout=600,
        )
    finally:
        await connection.close()


async def _branch(client: Client, project: str, megabytes: int) -> Row:
    took = []
    for number in range(ROUNDS):
        name = f"b-{number}"
        took.append(await _until(tool(client, "branch_database", project=project, name=name)))
        await _confirmed(client, "drop_branch", project=project, name=name)
    return Row(f"`branch_database`, {megabytes} MB", f"median {median(took):.0f} ms", data={"ms": took})


async def _restore(client: Client, project: str, megabytes: int) -> Row:
    backed_up, restored = [], []
    for _ in range(ROUNDS):
        made: dict[str, Any] = {}

        async def back_up(into: dict[str, Any] = made) -> None:
            into.update(await tool(client, "backup_database", project=project, wait_seconds=55))

        backed_up.append(await _until(back_up()))
        if made["state"] != "verified":
            raise RuntimeError(str(made))
        arguments = {"backup_id": made["id"], "wait_seconds": 55}
        token = (await tool(client, "restore_database", **arguments))["plan_token"]
        restored.append(await _until(tool(client, "restore_database", **arguments, plan_token=token)))
    value = f"backup, proved: median {median(backed_up):.0f} ms; restore, with a backup before: {median(restored):.0f} ms"
    return Row(f"backup and restore, {megabytes} MB", value, data={"backup": backed_up, "restore": restored})


async def _until(work: Awaitable[Any]) -> float:
    began = time.perf_counter()
    await work
    return (time.perf_counter() - began) * 1000


# -- the stage


@asynccontextmanager
async def _served(pool: int) -> AsyncIterator[tuple[Client, DockerEngine, Path]]:
    engine = find_engine()
    image = ensure(engine, "postgres")
    settings = {
        "DOCKER_HOST": engine.address,
        "QUAYMASTER_POSTGRES_IMAGE": image,
        "QUAYMASTER_WARM_POOL": str(pool),
        "QUAYMASTER_QUOTA_DATABASES": "1000",
        "QUAYMASTER_DATABASE_PORTS": "24000-24999",
        "QUAYMASTER_DATABASE_CONTAINER": "qm-bench-db-{project}",
        "QUAYMASTER_DATABASE_VOLUME": "qm-bench-data-{project}",
    }
    with new_home() as home, _cleared(engine, home), quaymaster(None, home, settings) as (port, key):
        async with http_client(port, key) as client:
            yield client, engine, home


@contextmanager
def _cleared(engine: DockerEngine, home: Path) -> Iterator[None]:
    try:
        yield
    finally:
        engine.clear(_installation(home))


def _installation(home: Path) -> str:
    return str(json.loads((home / "home.json").read_text())["home"])


async def _named(client: Client, count: int) -> None:
    for number in range(count):
        await tool(client, "create_project", name=f"p-{number}")


async def _delete(client: Client, project: str) -> None:
    await _confirmed(client, "delete_database", project=project, final_backup=False)


async def _confirmed(client: Client, name: str, /, **arguments: Any) -> None:
    token = (await tool(client, name, **arguments))["plan_token"]
    await tool(client, name, **arguments, plan_token=token)


async def _pool_is_full(client: Client) -> None:
    full = f"{POOL} of {POOL} ready"
    await _when(lambda: _warm_pool(client), full)


async def _warm_pool(client: Client) -> str:
    parts = (await tool(client, "infrastructure_status"))["parts"]
    return str(next(part["reason"] for part in parts if part["name"] == "warm_pool"))


async def _when(look: Callable[[], Awaitable[str]], wanted: str) -> None:
    deadline = time.monotonic() + 120
    while (found := await look()) != wanted:
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited in vain for {wanted}: {found}")
        await asyncio.sleep(0.1)
