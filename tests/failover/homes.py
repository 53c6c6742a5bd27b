"""Homes on a PostgreSQL that comes and goes: opening them, writing, and looking at both sides afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from mcp_server.adapters.failover.membership import Membership
from mcp_server.adapters.failover.store import FailoverStore
from mcp_server.adapters.postgres.connections import ConnectionSettings
from mcp_server.adapters.postgres.primary import PostgresPrimary
from mcp_server.adapters.registry import maintenance
from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.domain.audit import AuditFilter
from mcp_server.domain.nouns import BY_NOUN
from mcp_server.domain.records import Record
from mcp_server.ports.store import Committed, Intent, Store, Transaction
from tests.store import samples

SETUP = Intent("update_project", "test")
WRITE = Intent("create_task", "test")
COUNTER = "counter"
COMMIT = b"COMMIT\0"
"""The command alone, as it goes over the wire: not the end of 'READ COMMITTED'."""


@asynccontextmanager
async def running(
    url: str, home: Path, *, beside: bool = True, told_to_take_over: bool = False
) -> AsyncIterator[FailoverStore]:
    """A server's store on `home`, with what runs beside the calls (unless told otherwise).

    `told_to_take_over`: after a person's `quaymaster registry claim --force`.
    """
    mirror = await RegistryMirror.open(home)
    primary = PostgresPrimary(ConnectionSettings(url))
    store = FailoverStore(primary, mirror)
    try:
        if told_to_take_over:
            await Membership(primary, mirror, await mirror.refresh()).force()
        await store.open()
        background = asyncio.create_task(store.run_background() if beside else asyncio.sleep(0))
        try:
            yield store
        finally:
            if beside:
                background.cancel()
            with suppress(asyncio.CancelledError):
                await background
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(5):
            await store.close()
        mirror.close()


async def furnish(store: Store) -> None:
    """The team, the project, and the task that counts the others."""

    async def fn(tx: Transaction) -> None:
        await samples.parents(tx)
        await tx.lock_scopes.add(samples.scope())
        await tx.tasks.add(samples.task(COUNTER))

    await store.run(fn, SETUP)


async def write(store: Store, task_id: str) -> Committed[None]:
    """One write: a task, the count of tasks, and an audit row. Applied twice it fails, half of it shows."""

    async def fn(tx: Transaction) -> None:
        counter = await tx.tasks.hold(COUNTER)
        assert counter is not None
        await tx.tasks.save(counter.change(pr_number=(counter.pr_number or 0) + 1))
        await tx.tasks.add(samples.task(task_id))
        await tx.audit.add(samples.audit(f"audit-{task_id}"))

    return await store.run(fn, WRITE)


async def ids(store: Store, least: int | None = None) -> set[str]:
    """The tasks that were written; as many as were counted.

    `least`: at least so many were. A commit that nobody heard of and that did not reach the registry before both died
    counted from the same number as the next write on the registry, and the two counts are merged into one.
    """
    page = await store.read(lambda tx: tx.tasks.of_project("app", limit=100_000))
    counter = await store.read(lambda tx: tx.tasks.get(COUNTER))
    found = {task.id for task in page.items} - {COUNTER}
    assert counter is not None
    counted = counter.pr_number or 0
    assert counted <= len(found), "a write was applied twice"
    assert counted >= (len(found) if least is None else least), "a write was applied in part"
    return found


async def until(condition: Callable[[], Awaitable[Any]], *, seconds: float = 30, what: str = "") -> None:
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what or condition}"
        await anyio.sleep(0.02)


async def whole(store: FailoverStore, *, seconds: float = 90) -> None:
    """Return when the home is back on PostgreSQL with nothing waiting."""

    async def settled() -> bool:
        facts = await store._mirror.refresh()
        return facts.mode == "primary" and not facts.pending and not facts.audit_pending

    await until(settled, seconds=seconds, what="the home to be whole")


async def in_mode(store: FailoverStore, mode: str, *, seconds: float = 90) -> None:
    async def there() -> bool:
        return (await store.status()).mode == mode

    await until(there, seconds=seconds, what=f"the mode {mode}")


@dataclass(frozen=True)
class Sides:
    """All records by (noun, key), and the ids of audit rows."""

    primary: dict[tuple[str, str], Record]
    registry: dict[tuple[str, str], Record]
    audit: list[str]


async def sides(url: str, home: Path) -> Sides:
    """What each side has, read anew from the database and from the files."""
    primary = PostgresPrimary(ConnectionSettings(url))
    try:
        records = (await primary.everything()).records
        rows = await primary.read(lambda tx: tx.audit.find(AuditFilter(team_id="acme"), limit=100_000))
    finally:
        await primary.close()
    exported = maintenance.export(home)["records"]
    files = [BY_NOUN[noun].model_validate(each) for noun, found in exported.items() for each in found]
    return Sides(_by_name(records), _by_name(files), [row.id for row in rows.items])


def _by_name(records: Any) -> dict[tuple[str, str], Record]:
    return {(record.noun, record.key): record for record in records}


async def whole_and_equal(url: str, home: Path, acknowledged: set[str]) -> Sides:
    """Bring the home back, then compare: every acknowledged write once on both sides, both sides alike."""
    async with running(url, home) as store:
        await whole(store)
        await store._follower.catch_up()
        found = await ids(store, len(acknowledged))
    assert acknowledged <= found, f"lost: {sorted(acknowledged - found)}"
    both = await sides(url, home)
    assert both.registry == both.primary
    assert {name for name in both.audit if name.startswith("audit-")} == {f"audit-{each}" for each in found}
    assert len(both.audit) == len(set(both.audit))
    report = maintenance.verify(home)
    assert report.sound
    assert report.pending == 0
    return both
