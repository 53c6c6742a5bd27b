"""Several servers as processes on one home: killed, frozen, without disk, at random moments."""

from __future__ import annotations

import asyncio
import random
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mcp_server.adapters.failover.store import FailoverStore
from mcp_server.adapters.registry.layout import Layout
from mcp_server.domain.errors import Degraded
from tests.failover.homes import furnish, ids, in_mode, running, whole, whole_and_equal, write
from tests.failover.processes import Worker
from tests.services.postgres import PostgresServer
from tests.services.proxy import TcpProxy
from tests.services.waiting import wait_until
from tests.store.backends import emptied


async def test_faults_at_random_moments_lose_nothing(
    rough: PostgresServer, home: Path, rng: random.Random, rounds: Callable[[int, int], int]
) -> None:
    """Two servers; in each round one or both are killed, or PostgreSQL is killed, stopped or cut off, or all of it."""
    for turn in range(rounds(1, 25)):
        if turn:
            rough.start()
            await emptied(rough.url)
        await _a_bad_day(rough, home / str(turn), rng, steps=4)


async def _a_bad_day(server: PostgresServer, home: Path, rng: random.Random, steps: int) -> None:
    async with running(server.url, home) as store:
        await furnish(store)
    workers: list[Worker] = []
    story: list[str] = []
    with TcpProxy(server.port) as proxy:
        url = server.url_of("quaymaster", port=proxy.port)

        def hire() -> None:
            workers.append(Worker(home, url, f"w{len(workers)}"))

        def kill_all() -> None:
            server.kill()
            for worker in workers:
                worker.close()

        faults: dict[str, Callable[[], Any]] = {
            "kill PostgreSQL": server.kill,
            "stop PostgreSQL": server.freeze,
            "cut": proxy.cut,
            "refuse": proxy.refuse,
            "swallow": proxy.silence,
            "kill a server": lambda: rng.choice(workers).close(),
            "kill all": kill_all,
        }
        try:
            for _ in range(steps):
                while sum(not worker.ended for worker in workers) < 2:
                    hire()
                    await asyncio.to_thread(workers[-1].wait_open)
                await asyncio.sleep(rng.uniform(0, 0.4))
                for name in rng.sample(sorted(faults), rng.randint(1, 2)):
                    story.append(name)
                    await asyncio.to_thread(faults[name])
                await asyncio.sleep(rng.uniform(0, 0.6))
                await asyncio.to_thread(server.thaw)
                await asyncio.to_thread(server.start)
                proxy.forward()
        finally:
            for worker in workers:
                worker.close()
        acknowledged = set().union(*(worker.acknowledged for worker in workers))
    for worker in workers:
        assert not worker.errors or "Traceback" not in "".join(worker.errors), "".join(worker.errors)
    print(f"{len(acknowledged)} acknowledged through: {', '.join(story)}")
    await whole_and_equal(server.url, home, acknowledged)


async def test_the_next_server_leads_when_the_leader_is_killed_during_an_outage(
    rough: PostgresServer, home: Path
) -> None:
    async with running(rough.url, home) as store:
        await furnish(store)
    with Worker(home, rough.url, "leader") as leader, Worker(home, rough.url, "next") as follower:
        await asyncio.to_thread(leader.wait_for, 5)
        await asyncio.to_thread(follower.wait_for, 5)
        await asyncio.to_thread(rough.kill)
        await asyncio.to_thread(follower.wait_for, 5)
        leader.kill()
        await asyncio.to_thread(rough.start)
        async with running(rough.url, home, beside=False) as watcher:
            await in_mode(watcher, "primary")
        await asyncio.to_thread(follower.wait_for, 5)
        follower.kill()
        acknowledged = leader.acknowledged | follower.acknowledged
    await whole_and_equal(rough.url, home, acknowledged)


async def test_a_server_that_slept_through_an_outage_goes_on_as_if_nothing_had_been(
    rough: PostgresServer, home: Path
) -> None:
    """It sleeps at its commit, in the middle of a call, longer than PostgreSQL waits for it."""
    async with running(rough.url, home) as store:
        await furnish(store)
    with Worker(home, rough.url, "sleeper", fault="postgres.before_commit:STOP:5") as sleeper:
        await asyncio.to_thread(
            lambda: wait_until(sleeper.frozen, seconds=40, what="the server to fall asleep")
        )
        await asyncio.to_thread(rough.kill)
        await asyncio.to_thread(rough.start)
        sleeper.thaw()
        await asyncio.to_thread(sleeper.wait_for, 10)
        sleeper.kill()
        assert sleeper.refused == []
        acknowledged = sleeper.acknowledged
    await whole_and_equal(rough.url, home, acknowledged)


# -- the disk under the journal


@contextmanager
def full_disk(home: Path) -> Iterator[None]:
    """No file of this process can grow beyond what the journal has."""
    size = max(path.stat().st_size for path in Layout(home).states())
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)


async def test_with_a_full_disk_calls_succeed_on_postgresql_and_are_refused_without_it(
    rough: PostgresServer, proxy: TcpProxy, home: Path
) -> None:
    async with running(rough.url_of("quaymaster", port=proxy.port), home, beside=False) as store:
        await furnish(store)
        await write(store, "before")
        with full_disk(home):
            committed = await write(store, "no room")
            assert committed.notices[0].startswith("mirror_behind")
            status = await store.status()
            assert (status.healthy, status.details["mirror_behind"]) == (False, True)
        committed = await write(store, "room again")
        assert committed.notices == ()
        assert (await store.status()).healthy
        with full_disk(home):
            await write(store, "no room either")
    await whole_and_equal(rough.url, home, {"before", "no room", "room again", "no room either"})


async def test_what_one_server_owes_to_the_registry_every_server_of_the_home_says(
    rough: PostgresServer, home: Path
) -> None:
    async with (
        running(rough.url, home, beside=False) as owing,
        running(rough.url, home, beside=False) as other,
    ):
        await furnish(owing)
        assert (await other.status()).healthy
        with full_disk(home):
            await write(owing, "no room")
            status = await other.status()
            assert (status.mode, status.healthy, status.details["mirror_behind"]) == ("primary", False, True)
        await owing._follower.catch_up()
        assert (await other.status()).healthy
        with full_disk(home):
            await write(owing, "no room again")
        rough.kill()
        await in_mode_after_a_call(other)
        with pytest.raises(Degraded, match="another server"):
            await write(other, "refused")
        await owing._follower.repay()
        assert (await write(other, "without")).notices[0].startswith("degraded")
        assert not (await other.status()).details["mirror_behind"]
        rough.start()
    await whole_and_equal(rough.url, home, {"no room", "no room again", "without"})


async def in_mode_after_a_call(store: FailoverStore) -> None:
    """A reading finds PostgreSQL away."""
    await ids(store, 0)
    await in_mode(store, "degraded")


async def test_what_is_owed_to_the_registry_is_paid_before_anything_is_written_without_postgresql(
    rough: PostgresServer, home: Path
) -> None:
    async with running(rough.url, home, beside=False) as store:
        await furnish(store)
        with full_disk(home):
            assert (await write(store, "owed")).notices[0].startswith("mirror_behind")
        rough.kill()
        assert (await write(store, "without")).notices[0].startswith("degraded")
        assert await ids(store) == {"owed", "without"}
    rough.start()
    await whole_and_equal(rough.url, home, {"owed", "without"})


async def test_writes_without_postgresql_are_refused_while_something_is_owed(
    rough: PostgresServer, home: Path
) -> None:
    async with running(rough.url, home, beside=False) as store:
        await furnish(store)
        with full_disk(home):
            await write(store, "owed")
        rough.kill()
        assert await ids(store) == set()
        with full_disk(home), pytest.raises(Degraded, match="fallen behind"):
            await write(store, "refused")
        rough.start()
    async with running(rough.url, home) as store:
        await whole(store)
    await whole_and_equal(rough.url, home, {"owed"})
