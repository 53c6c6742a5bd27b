"""What a home's registry has when a call returns: its own line, and every line that was committed before it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mcp_server.adapters.failover.store import FailoverStore
from mcp_server.adapters.postgres.primary import PostgresPrimary
from mcp_server.ports.mirror import Position
from mcp_server.ports.store import Transaction
from tests.failover.homes import WRITE, furnish, running, sides, whole, write
from tests.services.postgres import PostgresServer
from tests.store import samples


async def mirrored(store: FailoverStore) -> set[str]:
    """The tasks in the registry as it is, without a look at PostgreSQL."""
    page = await store._mirror.read(lambda tx: tx.tasks.of_project("app", limit=1000))
    return {task.id for task in page.items}


def adding(task_id: str) -> Callable[[Transaction], Awaitable[Any]]:
    return lambda tx: tx.tasks.add(samples.task(task_id))


async def test_two_homes_that_write_in_turn_have_each_other_s_lines(
    rough: PostgresServer, home: Path
) -> None:
    async with (
        running(rough.url, home, beside=False) as here,
        running(rough.url, home.with_name("there"), beside=False) as there,
    ):
        await furnish(here)
        done = set()
        for number in range(6):
            for store, name in ((there, f"there-{number}"), (here, f"here-{number}")):
                await write(store, name)
                done.add(name)
                assert done <= await mirrored(store)


async def test_a_line_that_was_drawn_before_and_committed_after_is_there_at_the_next_call(
    rough: PostgresServer, home: Path
) -> None:
    drawn, may_end = asyncio.Event(), asyncio.Event()

    async def slow(tx: Transaction) -> None:
        await tx.tasks.add(samples.task("slow"))
        drawn.set()
        await may_end.wait()

    async with (
        running(rough.url, home, beside=False) as here,
        running(rough.url, home.with_name("there"), beside=False) as there,
    ):
        await furnish(here)
        task = asyncio.create_task(there.run(slow, WRITE))
        await drawn.wait()
        for number in range(3):
            await here.run(adding(f"quick-{number}"), WRITE)
        assert "slow" not in await mirrored(here)
        may_end.set()
        await task
        await here.run(adding("last"), WRITE)
        assert {"slow", "last"} <= await mirrored(here)


async def test_a_home_that_writes_alone_fetches_nothing(
    rough: PostgresServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(rough.url, home, beside=False) as store:
        await furnish(store)
        fetched: list[Position] = []
        since = PostgresPrimary.since

        async def counted(primary: PostgresPrimary, position: Position) -> Any:
            fetched.append(position)
            return await since(primary, position)

        monkeypatch.setattr(PostgresPrimary, "since", counted)
        for number in range(10):
            await store.run(adding(f"t{number}"), WRITE)
        assert fetched == []
        await asyncio.gather(*(store.run(adding(f"many-{number}"), WRITE) for number in range(30)))
        assert len(await mirrored(store)) == 41
    both = await sides(rough.url, home)
    assert both.registry == both.primary


async def removed(store: FailoverStore, *task_ids: str) -> None:
    async def fn(tx: Transaction) -> None:
        for task_id in task_ids:
            task = await tx.tasks.hold(task_id)
            assert task is not None
            await tx.tasks.remove(task)

    await store.run(fn, WRITE)


async def left_behind(here: FailoverStore, there: FailoverStore, server: PostgresServer) -> None:
    """The log no longer reaches back to where the registry of `here` is; it then takes everything anew."""
    for name in ("more", "newest"):
        await write(there, name)
    server.run_as_admin("UPDATE change_log SET at = at - interval '8 days'", database="quaymaster")
    known, newest = [(await store._mirror.refresh()).position for store in (here, there)]
    assert known is not None
    assert newest is not None
    await there._primary.trim("there", newest)
    assert (await here._primary.since(known)).lost
    await here._follower.catch_up()
    assert {"more", "newest"} <= await mirrored(here)


async def test_what_was_deleted_before_a_home_took_everything_anew_is_not_brought_back_by_a_late_line(
    rough: PostgresServer, home: Path
) -> None:
    """The line waits in a server that slept; its home was filled anew meanwhile, and then PostgreSQL goes."""
    async with (
        running(rough.url, home, beside=False) as here,
        running(rough.url, home.with_name("there"), beside=False) as there,
    ):
        await furnish(here)
        slept = await here._primary.run(adding("gone"), WRITE, line_id="late", epoch=1)
        await removed(there, "gone")
        await left_behind(here, there, rough)
        rough.kill()
        await here._follower.include(slept)
        assert "gone" not in await mirrored(here)


async def test_what_is_made_again_counts_on_after_a_home_took_everything_anew(
    rough: PostgresServer, home: Path
) -> None:
    async with (
        running(rough.url, home, beside=False) as here,
        running(rough.url, home.with_name("there"), beside=False) as there,
    ):
        await furnish(here)
        await write(here, "gone")
        await removed(there, "gone")
        await left_behind(here, there, rough)
        rough.kill()
        await write(here, "gone")
        made = await here.read(lambda tx: tx.tasks.get("gone"))
        assert made is not None
        assert made.rev == 3
    rough.start()
    async with running(rough.url, home) as here:
        await whole(here)
    both = await sides(rough.url, home)
    assert both.registry == both.primary
    assert both.primary["tasks", "gone"].rev == 3
