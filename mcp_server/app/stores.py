"""The store as the settings name it: the registry itself, or PostgreSQL with the registry under it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from mcp_server.adapters.registry.keyring import RegistryKeyRing
from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.adapters.registry.store import RegistryStore
from mcp_server.config import Settings, effective
from mcp_server.domain.errors import Invalid, Unavailable
from mcp_server.ports.store import Store

if TYPE_CHECKING:
    from mcp_server.adapters.failover.store import FailoverStore
    from mcp_server.adapters.postgres.primary import PostgresPrimary

CLOSE_SECONDS = 5.0


@asynccontextmanager
async def store_over(
    mirror: RegistryMirror, settings: Settings
) -> AsyncIterator[tuple[Store, RegistryKeyRing]]:
    """The registry itself, or PostgreSQL with the registry under it.

    Raises Invalid where the settings name no PostgreSQL and the home is the mirror of one.
    """
    try:
        if settings.database_url is None:
            await _refuse_a_mirror(mirror, settings)
            yield RegistryStore(mirror), RegistryKeyRing(settings.home)
        else:
            async with _failover(mirror, settings) as store:
                yield store, RegistryKeyRing(settings.home, store.find_key)
    finally:
        mirror.close()


async def _refuse_a_mirror(mirror: RegistryMirror, settings: Settings) -> None:
    """Of what is written to a mirror as if it were the truth, PostgreSQL would never hear."""
    if (await mirror.refresh()).mode == "embedded":
        return
    raise Invalid(
        f"{settings.home} is the mirror of a PostgreSQL, and the settings name none",
        next="Set QUAYMASTER_DATABASE_URL or QUAYMASTER_DB_* as the server of this home has it, or QUAYMASTER_HOME "
        "to another directory.",
    )


@asynccontextmanager
async def _failover(mirror: RegistryMirror, settings: Settings) -> AsyncIterator[FailoverStore]:
    from mcp_server.adapters.failover.store import FailoverStore

    store = FailoverStore(primary_of(settings), mirror)
    try:
        await store.open()
        async with anyio.create_task_group() as beside:
            beside.start_soon(store.run_background)
            yield store
            beside.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_SECONDS):
            await store.close()


def primary_of(settings: Settings) -> PostgresPrimary:
    """PostgreSQL as the settings name it; nothing is connected yet. Raises Invalid where they name none."""
    from mcp_server.adapters.postgres.connections import ConnectionSettings
    from mcp_server.adapters.postgres.primary import PostgresPrimary

    if settings.database_url is None:
        raise Invalid(
            "no PostgreSQL is configured", next="Set QUAYMASTER_DATABASE_URL or QUAYMASTER_DB_HOST."
        )
    return PostgresPrimary(
        ConnectionSettings(
            settings.database_url.get_secret_value(),
            pool_max=settings.db_pool_max,
            pool_idle=settings.db_pool_idle,
            connect_timeout=settings.db_connect_timeout,
        )
    )


def away(reason: str, settings: Settings) -> Unavailable:
    """What a person at the command line is told of a PostgreSQL that is not there: which one, too."""
    where = next(row.value for row in effective(settings) if row.name == "QUAYMASTER_DATABASE_URL")
    return Unavailable(f"{reason}: {where}", next="See that it runs there, and that the address is right.")
