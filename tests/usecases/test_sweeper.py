"""Removal of what has had its time, and of nothing else."""

import asyncio
from datetime import timedelta

from mcp_server.domain.locks import Lock, LockScope
from mcp_server.ports.store import Reading, Transaction
from mcp_server.services.sweeper import Sweeper, Swept
from tests.usecases.world import SETUP, START, World


def _lock(number: int, project: str, seconds: int) -> Lock:
    return Lock(
        id=f"{project}-{number}",
        team_id="red",
        project=project,
        path=f"src/{number}.py",
        mode="editing",
        holder="red-member",
        fence=number + 1,
        locked_at=START,
        expires_at=START + timedelta(seconds=seconds),
        lease_seconds=60,
    )


async def _lock_in(world: World, project: str, *seconds: int) -> None:
    async def transaction(tx: Transaction) -> None:
        await tx.lock_scopes.add(LockScope(project=project, fence=9))
        for number, length in enumerate(seconds):
            await tx.locks.add(_lock(number, project, length))

    await world.store.run(transaction, SETUP)


async def test_a_store_without_anything_old_keeps_everything(world: World):
    await world.do(world.caller(), "create_project", name="shop", idempotency_key="a")
    await world.do(world.caller(), "delete_project", name="shop")
    await _lock_in(world, "shop", 60)
    assert await world.sweeper.run_once(world.clock.now()) == Swept()


async def test_ended_plans_results_leases_and_old_rows_go_and_the_rest_stays(world: World):
    await world.do(world.caller(), "create_project", name="shop", idempotency_key="a")
    await world.do(world.caller(), "create_project", name="blog")
    await world.do(world.caller(), "delete_project", name="shop")
    await _lock_in(world, "shop", 60, 86_400 * 30, 60)
    await _lock_in(world, "blog", 86_400 * 30)
    world.clock.seconds = 86_400 * 2
    await world.do(world.caller(), "delete_project", name="shop")
    await world.do(world.caller(), "update_project", name="shop", description="x", idempotency_key="b")
    swept = await world.sweeper.run_once(world.clock.now())
    assert (swept.plans, swept.remembered, swept.locks, swept.audit_rows) == (1, 1, 2, 0)

    async def reading(tx: Reading) -> tuple[int, int, list[str], int]:
        far = START.replace(year=2030)
        locks = [*await tx.locks.of_project("shop"), *await tx.locks.of_project("blog")]
        plans, remembered = await tx.plans.expired(far, limit=10), await tx.idempotency.expired(far, limit=10)
        scope = await tx.lock_scopes.get("shop")
        assert scope is not None
        return len(plans), len(remembered), [lock.id for lock in locks], len(scope.lost)

    assert await world.store.read(reading) == (1, 1, ["shop-1", "blog-0"], 2)
    assert await world.sweeper.run_once(world.clock.now()) == Swept()


async def test_more_than_a_batch_goes_in_batches(world: World):
    for at in range(7):
        await world.do(world.caller(), "update_team", name=f"n{at}", idempotency_key=f"k{at}")
    world.clock.seconds = 86_401
    swept = await Sweeper(world.store, batch=3).run_once(world.clock.now())
    assert swept.remembered == 7


async def test_audit_rows_are_kept_for_as_many_days_as_the_operator_says(world: World):
    await world.do(world.caller(), "update_team", name="old")
    await world.do(world.caller(), "get_team")
    await world.rows()
    world.clock.seconds = 86_400 * 5
    await world.do(world.caller(), "update_team", name="new")
    now = world.clock.now()
    assert (await Sweeper(world.store, retention_days=6).run_once(now)).audit_rows == 0
    assert len(await world.rows()) == 3
    await Sweeper(world.store, retention_days=4).run_once(now)
    assert [row.timestamp for row in await world.rows()] == [now]


async def test_two_sweeps_at_the_same_time_remove_each_thing_once(world: World):
    for at in range(5):
        await world.do(world.caller(), "update_team", name=f"n{at}", idempotency_key=f"k{at}")
    world.clock.seconds = 86_401
    now = world.clock.now()
    swept = await asyncio.gather(*(world.sweeper.run_once(now) for _ in range(3)))
    assert sum(one.remembered for one in swept) == 5
