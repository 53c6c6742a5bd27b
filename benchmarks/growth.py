"""Whether list and find tools stay as quick while the installation grows, on PostgreSQL."""

from __future__ import annotations

import asyncpg

from benchmarks.calls import tool
from benchmarks.measure import Figures, Row, timed
from benchmarks.servers import http_client, new_home, quaymaster
from tests.services.postgres import PostgresServer

CALLS = 200
STEPS = ((100, 1_000), (10_000, 1_000_000))


async def measure() -> list[Row]:
    with PostgresServer() as postgres, new_home() as home:
        url = postgres.create_database("growth")
        with quaymaster(url, home) as (port, key):
            async with http_client(port, key) as client:
                taken: list[dict[str, Figures]] = []
                for projects, rows in STEPS:
                    await _fill(url, projects, rows)
                    calls = {
                        "list_projects": lambda _: tool(client, "list_projects", limit=20),
                        "get_project": lambda _: tool(client, "get_project", name="p-50"),
                        "query_audit": lambda _: tool(client, "query_audit", action="filled", limit=20),
                    }
                    taken.append({name: await timed(name, call, calls=CALLS) for name, call in calls.items()})
    return [_row(name, taken[0][name], taken[1][name]) for name in taken[0]]


def _row(name: str, small: Figures, large: Figures) -> Row:
    ratio = large.p50 / small.p50
    what = f"{name}: 100 -> 10,000 projects, 1,000 -> 1,000,000 audit rows"
    return Row(what, f"{large.p50:.2f} ms", f"{small.p50:.2f} ms", round(ratio, 2), "<= 1.2 x", ratio <= 1.2)


async def _fill(url: str, projects: int, rows: int) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            """
            INSERT INTO projects (name, uid, team_id, description)
            SELECT 'p-' || n, 'u-' || n, 'local', '' FROM generate_series(1, $1::INT) n ON CONFLICT DO NOTHING
            """,
            projects,
            timeout=300,
        )
        await connection.execute(
            """
            INSERT INTO audit_logs (id, timestamp, team_id, action, params)
            SELECT 'fill-' || n, now() - n * interval '1 second', 'local', 'filled', '{}'
            FROM generate_series(1, $1::INT) n ON CONFLICT DO NOTHING
            """,
            rows,
            timeout=600,
        )
        await connection.execute("ANALYZE", timeout=300)
    finally:
        await connection.close()
