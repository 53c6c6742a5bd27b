"""How many locks a second: the use case itself, on the registry and on PostgreSQL, without a protocol around it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import Row, timed
from mcp_server.app import open_app
from mcp_server.config import load
from mcp_server.domain.callers import Caller
from mcp_server.services.calls import Call
from tests.services.postgres import PostgresServer

CALLS = 1000


async def measure() -> list[Row]:
    rows = []
    with PostgresServer() as postgres:
        for name, url in (("registry", None), ("PostgreSQL + mirror", postgres.create_database("locks"))):
            with TemporaryDirectory(prefix="qm-bench-") as folder:
                rows += await _on(name, url, Path(folder) / "home")
    return rows


async def _on(name: str, url: str | None, home: Path) -> list[Row]:
    environment = {"QUAYMASTER_HOME": str(home)} | ({"QUAYMASTER_DATABASE_URL": url} if url else {})
    caller = Caller(team_id="local", role="owner", user="bench")
    async with open_app(load(environment, home.parent)) as house:
        await house.bootstrap.run("bench", with_key=False)
        await house.projects.create(Call(caller, "create_project"), name="bench")
        found = []
        for callers in (1, 16):
            taken = await timed(
                name,
                lambda n, callers=callers: house.locks.lock(  # type: ignore[misc]
                    Call(caller, "lock_files"),
                    project="bench",
                    paths=[f"{callers}/{n}"],
                    agent=f"a{n // 1500}",
                ),
                calls=CALLS,
                callers=callers,
            )
            value = f"{taken.rate:.0f}/s, p50 {taken.p50:.2f} ms, {taken.errors} errors"
            found.append(Row(f"lock_files use case, {name}, {callers} callers", value))
        return found
