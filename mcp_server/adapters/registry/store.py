"""The registry as the store of an installation without PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from mcp_server.adapters.registry.mirror import PATIENCE, RegistryMirror, utc_now
from mcp_server.adapters.registry.transaction import Clock
from mcp_server.domain.audit import AuditRow
from mcp_server.domain.errors import QuaymasterError
from mcp_server.ports.store import Committed, Intent, Reading, StoreStatus, Transaction

T = TypeVar("T")


class RegistryStore:
    """See `ports.store.Store`. Nothing is pending here: the registry is the truth."""

    def __init__(self, mirror: RegistryMirror) -> None:
        self._mirror = mirror

    @classmethod
    async def open(cls, root: Path, *, clock: Clock = utc_now, patience: float = PATIENCE) -> RegistryStore:
        """See `RegistryMirror.open`."""
        return cls(await RegistryMirror.open(root, clock=clock, patience=patience))

    def close(self) -> None:
        self._mirror.close()

    async def run(self, fn: Callable[[Transaction], Awaitable[T]], intent: Intent) -> Committed[T]:
        value, _ = await self._mirror.run(fn, intent, line_id=uuid.uuid4().hex, pending=False)
        return Committed(value)

    async def read(self, fn: Callable[[Reading], Awaitable[T]]) -> T:
        return await self._mirror.read(fn)

    async def record(self, rows: Sequence[AuditRow], used: Mapping[str, datetime]) -> None:
        await self._mirror.record(rows, used, pending=False)

    async def leads(self, what: str) -> bool:
        """The first process that asks leads in everything, for as long as it lives."""
        return self._mirror.lead()

    async def status(self) -> StoreStatus:
        try:
            facts = await self._mirror.refresh()
        except QuaymasterError as error:
            return StoreStatus(mode="embedded", healthy=False, reason=error.message)
        broken = self._mirror.broken
        return StoreStatus(
            mode="embedded",
            healthy=broken is None,
            since=facts.since,
            pending=facts.pending,
            conflicts=facts.conflicts,
            reason=broken,
            gauges=self._mirror.gauges(),
            details={"home": facts.home},
        )
