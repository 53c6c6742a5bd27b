"""The escape suite on servers as the product makes them: a server of its own, and one shared with a neighbour."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from mcp_server.adapters.project_sql import postgres
from mcp_server.adapters.project_sql.statements import ProjectStatements
from mcp_server.domain.databases import Database
from mcp_server.domain.errors import QuaymasterError
from mcp_server.domain.queries import Bounds, Statement
from tests.databases.conftest import MakeYard, make_yard, store
from tests.databases.yards import Yard
from tests.queries.conftest import FINGERPRINT, TABLES
from tests.queries.test_escapes_postgres import ESCAPES

__all__ = ["make_yard", "store"]

ACROSS = [
    "SET search_path TO pg_catalog",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()",
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()",
    "SELECT rolpassword FROM pg_authid",
    "SELECT * FROM pg_shadow",
    "SELECT pg_promote()",
    "SELECT pg_switch_wal()",
    "SELECT pg_create_physical_replication_slot('loot')",
    "SELECT pg_ls_dir('/')",
    "SELECT pg_advisory_lock(1)",
    "CREATE ROLE loot SUPERUSER",
    "GRANT pg_write_server_files TO CURRENT_USER",
    "CREATE DATABASE loot",
    "DROP DATABASE {neighbour}",
    "ALTER DATABASE {neighbour} ALLOW_CONNECTIONS false",
    "ALTER ROLE {role} PASSWORD 'taken'",
    "SET ROLE {role}",
    "REASSIGN OWNED BY {role} TO CURRENT_USER",
    "DROP OWNED BY {role}",
]

MADE = """
SELECT 'CREATE ROLE eye SUPERUSER LOGIN PASSWORD ''eye'''
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'eye') \\gexec
"""


class Eye:
    """A superuser's view of two databases of one server."""

    def __init__(self, first: asyncpg.Connection, second: asyncpg.Connection) -> None:
        self._both = (first, second)

    async def fingerprint(self) -> list[Any]:
        return [await one.fetchval(FINGERPRINT) for one in self._both]

    async def pets(self) -> list[int]:
        return [await one.fetchval("SELECT count(*) FROM pets") for one in self._both]


@asynccontextmanager
async def eye(yard: Yard, first: Database, second: Database) -> AsyncIterator[Eye]:
    async with contextlib.AsyncExitStack() as stack:
        seen = []
        for record in (first, second):
            assert record.place is not None
            assert record.access is not None
            await yard.databases.parts.servers.run_sql(record.place.ref, MADE)
            connection = await asyncpg.connect(
                host="127.0.0.1", port=record.place.port, user="eye", password="eye", ssl=False,
                database=record.access.database,
            )  # fmt: skip
            stack.push_async_callback(connection.close)
            seen.append(connection)
        yield Eye(seen[0], seen[1])


@pytest.mark.parametrize("isolation", ["container", "shared"])
async def test_no_read_and_no_failed_write_changes_anything_though_nobody_looks_at_the_text(
    make_yard: MakeYard, isolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard: Yard = await make_yard(isolation=isolation)
    await yard.add_project("web")
    for project in ("shop", "web"):
        await yard.create(project, engine="postgres")
        connection = await asyncpg.connect(await yard.url(project), ssl=False)
        await connection.execute(TABLES)
        await connection.close()
    record, neighbour = await yard.record(), await yard.record("web")
    assert record is not None
    assert neighbour is not None
    assert neighbour.access is not None

    def looked(*_: Any) -> None:
        raise AssertionError("somebody looked at the text")

    monkeypatch.setattr(postgres, "split", looked)
    named = {"neighbour": neighbour.access.database, "role": neighbour.access.role}
    across = [
        sql.replace("{neighbour}", named["neighbour"]).replace("{role}", named["role"]) for sql in ACROSS
    ]
    reader = yard.databases.parts.passwords.login_of(record, reader=True)
    async with eye(yard, record, neighbour) as seen:
        before = await seen.fingerprint()
        for sql in [*ESCAPES, *across]:
            with contextlib.suppress(QuaymasterError):
                await ProjectStatements().read(reader, Statement(sql=sql), Bounds(seconds=5))
            assert await seen.fingerprint() == before, sql
        await the_neighbour_is_out_of_reach(yard, record, across, seen, isolation)


async def the_neighbour_is_out_of_reach(
    yard: Yard, record: Database, across: list[str], seen: Eye, isolation: str
) -> None:
    """Even a write, which may do what the project's own role may, ends at its own database."""
    owner = yard.databases.parts.passwords.login_of(record)
    _, before = await seen.fingerprint()
    if isolation == "shared":
        for sql in across:
            with contextlib.suppress(QuaymasterError):
                await ProjectStatements().write(owner, Statement(sql=sql), Bounds(seconds=5), None)
            assert (await seen.fingerprint())[1] == before, sql
    written = await ProjectStatements().write(owner, Statement(sql="SELECT sneak()"), Bounds(), None)
    assert written.kept
    # Liveness: what was held back would have had an effect, and on this side only.
    assert await seen.pets() == [0, 30]
