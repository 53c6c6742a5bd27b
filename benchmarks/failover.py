"""How long the first call takes after PostgreSQL died, and how long the way back."""

from __future__ import annotations

import time

import anyio

from benchmarks.calls import tool
from benchmarks.measure import Row, timed
from benchmarks.servers import http_client, new_home, quaymaster
from tests.services.postgres import PostgresServer


async def measure() -> list[Row]:
    rows = []
    for how in ("killed", "silent"):
        with (
            PostgresServer() as postgres,
            new_home() as home,
            quaymaster(postgres.create_database("away"), home) as (port, key),
        ):
            async with http_client(port, key) as client:
                rows += await _fail(postgres, client, how)
    return rows


async def _fail(postgres: PostgresServer, client: object, how: str) -> list[Row]:
    call = lambda _: tool(client, "get_project", name="app")  # type: ignore[arg-type]  # noqa: E731
    await tool(client, "create_project", name="app")  # type: ignore[arg-type]
    normal = await timed("normal", call, calls=50)
    await anyio.to_thread.run_sync(postgres.kill if how == "killed" else postgres.freeze)
    began = time.perf_counter()
    await call(0)
    first = (time.perf_counter() - began) * 1000
    limit = 250 if how == "killed" else 5500
    beyond = first - normal.p50
    rows = [
        Row(
            f"first call after PostgreSQL is {how}",
            f"{beyond:.0f} ms beyond normal",
            "",
            None,
            f"<= {limit} ms",
            beyond <= limit,
        )
    ]
    await anyio.to_thread.run_sync(postgres.start if how == "killed" else postgres.thaw)
    began = time.perf_counter()
    with anyio.fail_after(60):
        while (await tool(client, "infrastructure_status"))["mode"] != "primary":  # type: ignore[arg-type]
            await anyio.sleep(0.05)
    rows.append(Row(f"back on PostgreSQL after it was {how}", f"{time.perf_counter() - began:.1f} s"))
    return rows
