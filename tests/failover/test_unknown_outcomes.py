"""A commit whose answer is lost: never twice, never lost, and said only where a caller must look."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from mcp_server.adapters.failover.store import FailoverStore
from mcp_server.domain.errors import OutcomeUnknown
from mcp_server.ports.store import Intent, Transaction
from tests.failover.homes import COMMIT, furnish, ids, running, until, whole, whole_and_equal, write
from tests.failover.test_claims import alone
from tests.services.postgres import PostgresServer
from tests.services.proxy import TcpProxy
from tests.store import samples

COMMITS = [
    ("after", "cut"),
    ("before", "cut"),
    ("after", "refuse"),
    ("before", "refuse"),
    ("after", "silent"),
]


@pytest.mark.parametrize(("moment", "effect"), COMMITS)
async def test_a_write_whose_commit_is_cut_is_acknowledged_and_applied_once(
    rough: PostgresServer, proxy: TcpProxy, home: Path, moment: str, effect: str
) -> None:
    async with running(rough.url_of("quaymaster", port=proxy.port), home, beside=False) as store:
        await furnish(store)
        await write(store, "before")
        trap = proxy.trap(COMMIT, moment=moment, effect=effect)  # type: ignore[arg-type]
        began = time.monotonic()
        committed = await write(store, "unknown")
        assert time.monotonic() - began < 8
        assert trap.sprung.is_set()
        assert bool(committed.notices) is (effect != "cut")
        assert await ids(store) == {"before", "unknown"}
    proxy.forward()
    await whole_and_equal(rough.url, home, {"before", "unknown"})


@contextmanager
def commits_that_hang(server: PostgresServer) -> Iterator[None]:
    """A commit waits for a standby that does not exist: it is made, and nobody sees it until the wait ends."""
    _wait_for_standby(server, "nobody")
    try:
        yield
    finally:
        _wait_for_standby(server, "")


def _wait_for_standby(server: PostgresServer, name: str) -> None:
    server.run_as_admin(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    server.run_as_admin("SELECT pg_reload_conf()")


async def count(store: FailoverStore, tries: list[int]) -> int:
    async def fn(tx: Transaction) -> int:
        tries.append(0)
        counter = await tx.tasks.hold("counter")
        assert counter is not None
        tries[-1] = counter.rev
        await tx.tasks.save(counter.change(pr_number=(counter.pr_number or 0) + 1))
        return counter.rev

    return (await store.run(fn, Intent("update_task", "t"))).value


async def counted(store: FailoverStore) -> int | None:
    counter = await store.read(lambda tx: tx.tasks.get("counter"))
    assert counter is not None
    return counter.pr_number


async def test_the_caller_hears_what_was_committed_and_not_what_a_later_try_saw(
    rough: PostgresServer, home: Path
) -> None:
    """The commit comes through while the second try waits for its row."""
    async with running(rough.url, home, beside=False) as store:
        await furnish(store)
        tries: list[int] = []

        async def end_the_wait() -> None:
            async def second_try() -> bool:
                return len(tries) == 2

            await until(second_try, what="the second try")
            await anyio.to_thread.run_sync(_wait_for_standby, rough, "")

        with commits_that_hang(rough):
            async with anyio.create_task_group() as group:
                group.start_soon(end_the_wait)
                value = await count(store, tries)
        assert value == tries[0]
        assert await counted(store) == 1


async def test_a_commit_that_hangs_for_too_long_is_said_to_be_unknown(
    rough: PostgresServer, home: Path
) -> None:
    async with running(rough.url, home, beside=False) as store:
        await furnish(store)
        with commits_that_hang(rough), pytest.raises(OutcomeUnknown, match="update_task"):
            await count(store, [])
        assert (await store.status()).mode == "primary"

        async def applied() -> bool:
            return await counted(store) == 1

        await until(applied, what="the commit to come through")


async def test_a_write_that_the_registry_followed_before_the_outage_is_not_done_again(
    rough: PostgresServer, proxy: TcpProxy, home: Path
) -> None:
    """Another server of the home saw the commit in the moment before PostgreSQL went away."""
    async with (
        running(rough.url, home, beside=False) as other,
        running(rough.url_of("quaymaster", port=proxy.port), home, beside=False) as store,
    ):
        await furnish(other)
        await write(store, "before")
        trap = proxy.trap(COMMIT, moment="after", effect="silent")

        async def follow() -> None:
            await anyio.to_thread.run_sync(trap.wait)
            await other._follower.catch_up()
            await anyio.to_thread.run_sync(rough.kill)
            proxy.refuse()

        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            committed = await write(store, "unknown")
        assert committed.notices
        assert await ids(store) == {"before", "unknown"}
        assert (await store.status()).pending == 0
    rough.start()
    await whole_and_equal(rough.url, home, {"before", "unknown"})


async def lock(store: FailoverStore, lock_id: str) -> None:
    async def fn(tx: Transaction) -> None:
        scope = await tx.lock_scopes.hold("app")
        assert scope is not None
        await tx.lock_scopes.save(scope.change(fence=scope.fence + 1))
        await tx.locks.add(samples.lock(lock_id))

    await store.run(fn, Intent("lock_files", "t"))


async def test_only_an_action_that_is_refused_without_postgresql_has_an_unknown_outcome(
    rough: PostgresServer, proxy: TcpProxy, home: Path
) -> None:
    url = rough.url_of("quaymaster", port=proxy.port)
    async with running(rough.url, home.with_name("second")) as second:
        await furnish(second)
        async with running(url, home) as store:
            await alone(second, False)
            await alone(store, False)
        async with running(url, home, beside=False) as store:
            await lock(store, "l0")
            proxy.trap(COMMIT, moment="after", effect="cut")
            await lock(store, "l1")
            trap = proxy.trap(COMMIT, moment="after", effect="refuse")
            with pytest.raises(OutcomeUnknown, match="lock_files") as unknown:
                await lock(store, "l2")
            assert trap.sprung.is_set()
            assert "see whether" in unknown.value.next
        proxy.forward()
        async with running(url, home) as store:
            await whole(store)
            held = await store.read(lambda tx: tx.locks.of_project("app"))
        assert {each.id for each in held} == {"l0", "l1", "l2"}


async def test_an_unknown_outcome_of_a_home_that_is_alone_is_settled_by_doing_it(
    rough: PostgresServer, proxy: TcpProxy, home: Path
) -> None:
    """The registry grants again, PostgreSQL has the first grant: what was acknowledged stands on both sides."""
    async with running(rough.url_of("quaymaster", port=proxy.port), home) as store:
        await furnish(store)
        await alone(store)
        proxy.trap(COMMIT, moment="after", effect="refuse")
        await lock(store, "l1")
        proxy.forward()
        await whole(store)
        scope = await store.read(lambda tx: tx.lock_scopes.get("app"))
        assert scope is not None
        assert scope.fence == 1
        assert (await store.status()).conflicts == 0
    await whole_and_equal(rough.url, home, set())
