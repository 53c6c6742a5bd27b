"""Opening a store on PostgreSQL as the composition root does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from mcp_server.adapters.failover.store import FailoverStore
from mcp_server.adapters.postgres.connections import ConnectionSettings
from mcp_server.adapters.postgres.primary import PostgresPrimary
from mcp_server.adapters.registry.mirror import RegistryMirror


@asynccontextmanager
async def failover(url: str, home: Path) -> AsyncIterator[FailoverStore]:
    """The store over the PostgreSQL at `url` and the registry in `home`."""
    mirror = await RegistryMirror.open(home)
    store = FailoverStore(PostgresPrimary(ConnectionSettings(url)), mirror)
    await store.open()
    try:
        yield store
    finally:
        await store.close()
        mirror.close()


async def migrated(url: str) -> None:
    """Bring the database at `url` up to date, with no installation in it yet."""
    primary = PostgresPrimary(ConnectionSettings(url))
    try:
        await primary.migrations.up()
    finally:
        await primary.close()


async def emptied(url: str) -> None:
    """Empty every table but the list of migrations."""
    connection = await asyncpg.connect(url)
    try:
        tables = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'schema_migrations' ORDER BY 1"
        )
        await connection.execute(
            "TRUNCATE " + ", ".join(f'"{row["tablename"]}"' for row in tables) + " RESTART IDENTITY"
        )
    finally:
        await connection.close()
