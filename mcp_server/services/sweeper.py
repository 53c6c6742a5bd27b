"""Removal of what has had its time: plans, remembered results, leases, old audit rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from mcp_server.domain.locks import sweep
from mcp_server.domain.pages import MAX_LIMIT
from mcp_server.ports.store import Intent, Store, Transaction

BATCH = 500
ROUNDS = 20
INTENT = Intent("sweep", "quaymaster")


@dataclass(frozen=True, slots=True)
class Swept:
    plans: int = 0
    remembered: int = 0
    locks: int = 0
    audit_rows: int = 0


class Sweeper:
    """`retention_days` is the age at which audit rows go. One owner runs it: the leader of a home."""

    def __init__(self, store: Store, *, retention_days: int = 90, batch: int = BATCH) -> None:
        self._store = store
        self._retention = timedelta(days=retention_days)
        self._batch = batch

    async def run_once(self, now: datetime) -> Swept:
        """Remove what has ended at `now`, at most 20 batches of each kind. Raises what the store raises."""
        return Swept(
            plans=await self._rounds(partial(_drop_plans, now=now, limit=self._batch)),
            remembered=await self._rounds(partial(_drop_remembered, now=now, limit=self._batch)),
            locks=await self._end_leases(now),
            audit_rows=await self._rounds(
                partial(_clean_audit, before=now - self._retention, limit=self._batch)
            ),
        )

    async def _rounds(self, batch: Callable[[Transaction], Awaitable[int]]) -> int:
        total = 0
        for _ in range(ROUNDS):
            removed = (await self._store.run(batch, INTENT)).value
            total += removed
            if removed < self._batch:
                break
        return total

    async def _end_leases(self, now: datetime) -> int:
        """Look without a transaction; open one only for a project in which a lease has ended."""
        total = 0
        for project in await self._store.read(lambda tx: tx.locks.ended_in(now, limit=MAX_LIMIT)):
            total += (await self._store.run(partial(_end_leases_of, project=project, now=now), INTENT)).value
        return total


async def _drop_plans(tx: Transaction, *, now: datetime, limit: int) -> int:
    plans = await tx.plans.expired(now, limit=limit)
    for plan in plans:
        await tx.plans.remove(plan)
    return len(plans)


async def _drop_remembered(tx: Transaction, *, now: datetime, limit: int) -> int:
    remembered = await tx.idempotency.expired(now, limit=limit)
    for record in remembered:
        await tx.idempotency.remove(record)
    return len(remembered)


async def _clean_audit(tx: Transaction, *, before: datetime, limit: int) -> int:
    return await tx.audit.clean(before, limit=limit)


async def _end_leases_of(tx: Transaction, *, project: str, now: datetime) -> int:
    """Under the held scope, where the holder will be told."""
    scope = await tx.lock_scopes.hold(project)
    if scope is None:
        return 0
    swept = sweep(scope, await tx.locks.of_project(project), None, now)
    for lock in swept.ended:
        await tx.locks.remove(lock)
    if swept.scope != scope:
        await tx.lock_scopes.save(swept.scope)
    return len(swept.ended)
