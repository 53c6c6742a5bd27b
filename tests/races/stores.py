"""The stores that several processes share, by a name that fits into an argument."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from mcp_server.adapters.postgres.connections import ConnectionSettings
from mcp_server.adapters.postgres.primary import PostgresPrimary
from mcp_server.adapters.registry.store import RegistryStore
from mcp_server.domain.audit import AuditRow
from mcp_server.ports.store import Committed, Intent, Reading, Store, StoreStatus, Transaction
from tests.store.backends import failover

T = TypeVar("T")


class PrimaryAlone:
    """PostgreSQL as a `Store` without a mirror: what its rows promise, they promise by themselves."""

    def __init__(self, primary: PostgresPrimary) -> None:
        self._primary = primary

    async def run(self, fn: Callable[[Transaction], Awaitable[T]], intent: Intent) -> Committed[T]:
        value = (await self._primary.run(fn, intent, line_id=uuid.uuid4().hex, epoch=1)).value
        return Committed(value)

    async def read(self, fn: Callable[[Reading], Awaitable[T]]) -> T:
        return await self._primary.read(fn)

    async def record(self, rows: Sequence[AuditRow], used: Mapping[str, datetime]) -> None:
        await self._primary.record(rows, used)

    async def leads(self, what: str) -> bool:
        return await self._primary.leads(what)

    async def status(self) -> StoreStatus:
        return StoreStatus(mode="primary", healthy=True)


@asynccontextmanager
async def opened(name: str) -> AsyncIterator[Store]:
    """`registry:DIRECTORY`, `postgres:URL` or `home:DIRECTORY:URL`, brought up to date."""
    kind, _, where = name.partition(":")
    if kind == "registry":
        registry = await RegistryStore.open(Path(where), patience=30)
        try:
            yield registry
        finally:
            registry.close()
    elif kind == "home":
        directory, _, url = where.partition(":")
        async with failover(url, Path(directory)) as store:
            yield store
    else:
        primary = PostgresPrimary(ConnectionSettings(dsn=where))
        try:
            await primary.prepare()
            yield PrimaryAlone(primary)
        finally:
            await primary.close()
