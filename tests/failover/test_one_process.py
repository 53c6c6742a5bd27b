"""One server through the loss of PostgreSQL and its return."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from mcp_server.adapters.failover.store import FailoverStore
from mcp_server.adapters.registry import maintenance
from mcp_server.domain.audit import AuditFilter
from mcp_server.domain.locks import next_fence
from mcp_server.ports.store import Intent, Transaction
from tests.failover.homes import (
    furnish,
    ids,
    in_mode,
    running,
    whole,
    whole_and_equal,
    write,
)
from tests.services.postgres import PostgresServer
from tests.services.proxy import TcpProxy
from tests.store import samples

REFUSED_SECONDS = 3.0
SILENT_SECONDS = 8.0
"""Far above what is promised (0.25 s and 5.5 s): a tester's machine is busy with other tests."""


async def test_calls_go_on_while_postgresql_is_killed_and_everything_is_there_afterwards(
    rough: PostgresServer, home: Path
) -> None:
    url = rough.url
    async with running(url, home) as store:
        await furnish(store)
        assert (await write(store, "before")).notices == ()
        first = await store.status()
        assert (first.mode, first.healthy, first.pending) == ("primary", True, 0)
        epoch = (await store._mirror.refresh()).epoch
        rough.kill()
        began = time.monotonic()
        committed = await write(store, "first")
        assert time.monotonic() - began < REFUSED_SECONDS
        assert committed.notices[0].startswith("degraded since")
        for number in range(30):
            await write(store, f"during-{number}")
        await store.record([samples.audit("read-1"), samples.audit("read-2")], {})
        assert len(await ids(store)) == 32
        status = await store.status()
        assert (status.mode, status.healthy, status.pending) == ("degraded", False, 31)
        assert status.since is not None
        assert status.reason
        degraded = (await store._mirror.refresh()).epoch
        assert degraded > epoch
        rough.start()
        await whole(store)
        assert (await write(store, "after")).notices == ()
        again = await store.status()
        assert (again.mode, again.healthy, again.pending, again.reason) == ("primary", True, 0, None)
        assert (await store._mirror.refresh()).epoch > degraded
        rows = await store.read(lambda tx: tx.audit.find(AuditFilter(team_id="acme"), limit=1000))
        assert {"read-1", "read-2"} <= {row.id for row in rows.items}
    await whole_and_equal(url, home, {"before", "first", "after", *(f"during-{n}" for n in range(30))})


async def test_fences_rise_through_every_change_of_mode(rough: PostgresServer, home: Path) -> None:
    async def grant(tx: Transaction) -> int:
        scope = await tx.lock_scopes.hold("app")
        assert scope is not None
        saved = await tx.lock_scopes.save(scope.change(fence=next_fence(scope.fence, tx.epoch)))
        return saved.fence

    fences = []
    intent = Intent("lock_files", "test")
    async with running(rough.url, home) as store:
        await furnish(store)
        await until_alone(store)
        for _ in range(2):
            fences += [(await store.run(grant, intent)).value for _ in range(2)]
            rough.kill()
            fences += [(await store.run(grant, intent)).value for _ in range(2)]
            rough.start()
            await whole(store)
        fences.append((await store.run(grant, intent)).value)
    assert fences == sorted(set(fences))
    assert len({fence // 1_000_000 for fence in fences}) == 5


async def until_alone(store: object) -> None:
    with anyio.fail_after(20):
        while not (await store._mirror.refresh()).alone:  # type: ignore[attr-defined]
            await anyio.sleep(0.02)


async def test_a_silent_postgresql_is_noticed_in_time_and_no_call_is_lost(
    rough: PostgresServer, home: Path
) -> None:
    async with running(rough.url, home) as store:
        await furnish(store)
        await write(store, "before")
        rough.freeze()
        began = time.monotonic()
        committed = await write(store, "during")
        assert time.monotonic() - began < SILENT_SECONDS
        assert committed.notices[0].startswith("degraded")
        began = time.monotonic()
        await write(store, "next")
        assert time.monotonic() - began < 1
        rough.thaw()
        await whole(store)
    await whole_and_equal(rough.url, home, {"before", "during", "next"})


async def test_a_black_hole_in_the_network_is_noticed_in_time(
    rough: PostgresServer, proxy: TcpProxy, home: Path
) -> None:
    url = rough.url_of("quaymaster", port=proxy.port)
    async with running(url, home) as store:
        await furnish(store)
        proxy.silence()
        began = time.monotonic()
        await write(store, "during")
        assert time.monotonic() - began < SILENT_SECONDS
        proxy.forward()
        await whole(store)
    await whole_and_equal(rough.url, home, {"during"})


async def test_cut_connections_are_no_outage(rough: PostgresServer, home: Path) -> None:
    async with running(rough.url, home) as store:
        await furnish(store)
        for number in range(5):
            rough.cut_connections()
            await write(store, f"t{number}")
        assert (await store.status()).mode == "primary"
    await whole_and_equal(rough.url, home, {f"t{n}" for n in range(5)})


async def test_a_postgresql_that_became_read_only_is_away_until_it_can_be_written(
    rough: PostgresServer, home: Path
) -> None:
    def read_only(on: str) -> None:
        rough.run_as_admin(f"ALTER ROLE quaymaster SET default_transaction_read_only = {on}")
        rough.cut_connections()

    async with running(rough.url, home) as store:
        await furnish(store)
        try:
            read_only("on")
            assert (await write(store, "during")).notices
            await write(store, "and on")
        finally:
            read_only("off")
        await whole(store)
    await whole_and_equal(rough.url, home, {"during", "and on"})


async def test_reads_and_batched_audit_rows_go_on_when_they_are_the_first_to_notice(
    rough: PostgresServer, home: Path
) -> None:
    async with running(rough.url, home, beside=False) as store:
        await furnish(store)
        await write(store, "before")
        rough.kill()
        assert await ids(store) == {"before"}
        assert (await store.status()).mode == "degraded"
    rough.start()
    async with running(rough.url, home) as store:
        await whole(store)
    async with running(rough.url, home, beside=False) as store:
        rough.kill()
        await store.record([samples.audit("a-read")], {"nobody": samples.T0})
        assert (await store.status()).mode == "degraded"
    rough.start()
    async with running(rough.url, home) as store:
        await whole(store)
        rows = await store.read(lambda tx: tx.audit.find(AuditFilter(team_id="acme"), limit=1000))
        assert [row.id for row in rows.items].count("a-read") == 1


async def test_a_server_that_starts_without_postgresql_serves_its_mirror(
    rough: PostgresServer, home: Path
) -> None:
    async with running(rough.url, home) as store:
        await furnish(store)
        await write(store, "before")
    rough.kill()
    async with running(rough.url, home) as store:
        assert await ids(store) == {"before"}
        assert (await write(store, "during")).notices
        rough.start()
        await whole(store)
    await whole_and_equal(rough.url, home, {"before", "during"})


async def test_callers_are_not_kept_waiting_while_many_records_come_back(
    rough: PostgresServer, home: Path, soak: bool
) -> None:
    """More lines and records than fit into the last two seconds: they are replayed and adopted beside the calls."""
    count = 2000 if soak else 250
    slowest = 0.0
    async with running(rough.url, home) as store:
        await furnish(store)
        rough.kill()
        for number in range(count):
            await write(store, f"t{number}")
        rough.start()
        extra: set[str] = set()
        with anyio.fail_after(120):
            while (await store.status()).mode != "primary":
                began = time.monotonic()
                name = f"meanwhile-{len(extra)}"
                await write(store, name)
                extra.add(name)
                slowest = max(slowest, time.monotonic() - began)
                await anyio.sleep(0.01)
        await whole(store)
    assert slowest < 5
    await whole_and_equal(rough.url, home, {f"t{n}" for n in range(count)} | extra)


@pytest.fixture
def slow(rough: PostgresServer) -> Iterator[PostgresServer]:
    """A PostgreSQL that takes more than two seconds for one of our writes, in three statements: each alone is quick
    enough, all of them take longer than callers are kept waiting."""
    with slowed(rough, "work_tasks", "change_log", seconds=0.7):
        yield rough


@contextmanager
def slowed(server: PostgresServer, *tables: str, seconds: float) -> Iterator[None]:
    """Each row that is written to one of the tables takes so long."""
    database = "quaymaster"
    server.run_as_admin(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END $$",
        database=database,
    )
    for table in tables:
        server.run_as_admin(
            f"CREATE TRIGGER slow BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION slow()",
            database=database,
        )
    try:
        yield
    finally:
        server.start()
        server.run_as_admin("DROP FUNCTION slow CASCADE", database=database)


async def test_a_line_that_takes_longer_than_callers_may_wait_comes_back_all_the_same(
    slow: PostgresServer, home: Path
) -> None:
    async with running(slow.url, home) as store:
        await furnish(store)
        slow.kill()
        await write(store, "during")
        slow.start()
        await whole(store)
    await whole_and_equal(slow.url, home, {"during"})


@pytest.mark.timeout(240)
async def test_callers_that_write_faster_than_lines_are_replayed_do_not_keep_a_home_from_its_return(
    rough: PostgresServer, home: Path
) -> None:
    written: set[str] = set()

    async def write_on(store: FailoverStore, name: str) -> None:
        for number in itertools.count():
            await write(store, f"{name}-{number}")
            written.add(f"{name}-{number}")

    async with running(rough.url, home) as store:
        await furnish(store)
        rough.kill()
        async with anyio.create_task_group() as callers:
            for name in ("a", "b", "c"):
                callers.start_soon(write_on, store, name)
            while len(written) < 60:
                await anyio.sleep(0.01)
            rough.start()
            with slowed(rough, "change_log", seconds=0.005):
                with anyio.fail_after(100):
                    while (await store.status()).mode != "primary":
                        await anyio.sleep(0.01)
                callers.cancel_scope.cancel()
        await whole(store)
    await whole_and_equal(rough.url, home, written)


async def test_an_outage_in_the_middle_of_a_replay_is_one_more_outage(
    rough: PostgresServer, proxy: TcpProxy, home: Path
) -> None:
    url = rough.url_of("quaymaster", port=proxy.port)
    async with running(url, home) as store:
        await furnish(store)
        proxy.refuse()
        for number in range(40):
            await write(store, f"t{number}")
        trap = proxy.trap(b"t17", moment="after", effect="refuse")
        proxy.forward()
        await anyio.to_thread.run_sync(trap.wait)
        await in_mode(store, "degraded")
        await write(store, "again")
        proxy.forward()
        await whole(store)
    await whole_and_equal(rough.url, home, {"again", *(f"t{n}" for n in range(40))})


async def test_what_changed_during_the_outage_is_remembered_through_a_compaction(
    rough: PostgresServer, home: Path
) -> None:
    async with running(rough.url, home) as store:
        await furnish(store)
        rough.kill()
        await write(store, "before compaction")
        await store._mirror.compact()  # type: ignore[attr-defined]
        await write(store, "after compaction")
        report = maintenance.verify(home)
        assert report.pending == 2
    rough.start()
    async with running(rough.url, home) as store:
        await whole(store)
        assert list(await store._mirror.dirty()) == []
    await whole_and_equal(rough.url, home, {"before compaction", "after compaction"})
