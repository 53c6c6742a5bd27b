"""The gate before what cannot be taken back: exactly the plan that was shown, once, by who asked for it."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from mcp_server.domain.errors import Conflict, Forbidden, NotFound, PlanStale, Unauthenticated
from mcp_server.domain.plans import PLAN_SECONDS
from mcp_server.domain.tasks import Task
from mcp_server.ports.store import Reading, Transaction
from tests.usecases.world import SETUP, START, World


@pytest.fixture
async def shop(world: World) -> World:
    await world.do(world.caller(), "create_project", name="shop")
    return world


async def _stands(world: World) -> bool:
    try:
        await world.do(world.caller(), "get_project", name="shop")
    except NotFound:
        return False
    return True


async def _token(world: World, **arguments: Any) -> str:
    plan = await world.do(world.caller(), "delete_project", name="shop", **arguments)
    assert plan.expires_at == world.clock.now() + timedelta(seconds=PLAN_SECONDS)
    return str(plan.plan_token)


async def _refused(world: World, token: str, because: str, **fields: Any) -> None:
    with pytest.raises(PlanStale, match=because) as refusal:
        await world.do(world.caller(**fields), "delete_project", name="shop", plan_token=token)
    assert refusal.value.code == "PLAN_STALE"
    assert token not in str(refusal.value.payload())


async def test_a_plan_changes_nothing_and_its_token_does_what_it_said(shop: World):
    plan = await shop.do(shop.caller(), "delete_project", name="shop")
    assert (plan.status, plan.message.split(";")[0][:33]) == ("planned", "Nothing has been changed yet. Cal")
    assert await _stands(shop)
    done = await shop.do(shop.caller(), "delete_project", name="shop", plan_token=plan.plan_token)
    assert (done.status, done.effects, done.plan_token) == ("done", plan.effects, None)
    assert not await _stands(shop)


async def test_a_token_works_once(shop: World):
    token = await _token(shop)
    await shop.do(shop.caller(), "delete_project", name="shop", plan_token=token)
    await shop.do(shop.caller(), "create_project", name="shop")
    await _refused(shop, token, "already been used")


async def test_a_token_works_until_it_ends(shop: World):
    token = await _token(shop)
    shop.clock.seconds = PLAN_SECONDS
    await _refused(shop, token, "expired")
    assert await _stands(shop)


async def test_a_token_still_works_in_its_last_second(shop: World):
    token = await _token(shop)
    shop.clock.seconds = PLAN_SECONDS - 1
    await shop.do(shop.caller(), "delete_project", name="shop", plan_token=token)
    assert not await _stands(shop)


@pytest.mark.parametrize("fields", [{"role": "admin"}, {"key_id": "red-other"}, {"key_id": None}])
async def test_a_token_works_for_the_caller_who_asked(shop: World, fields: dict[str, Any]):
    await _refused(shop, await _token(shop), "has no such plan_token", **fields)
    assert await _stands(shop)


@pytest.mark.parametrize(
    ("lost", "error"),
    [
        ({"revoked_at": START}, Unauthenticated),
        ({"expires_at": START}, Unauthenticated),
        ({"role": "member"}, Forbidden),
        ({"scopes": ("tasks",)}, Forbidden),
    ],
)
async def test_a_key_that_lost_its_power_since_it_signed_in_carries_out_no_plan(
    shop: World, lost: dict[str, Any], error: type[Exception]
):
    token = await _token(shop)

    async def lose(tx: Transaction) -> None:
        key = await tx.keys.hold("red-owner")
        assert key is not None
        await tx.keys.save(key.change(**lost))

    await shop.store.run(lose, SETUP)
    with pytest.raises(error):
        await shop.do(shop.caller(), "delete_project", name="shop", plan_token=token)
    assert await _stands(shop)


@pytest.mark.parametrize("token", ["", "x", "x" * 10_000, "\x00", "ü"])
async def test_a_token_that_was_never_given_is_refused(shop: World, token: str):
    await _token(shop)
    with pytest.raises(PlanStale, match="has no such plan_token"):
        await shop.do(shop.caller(), "delete_project", name="shop", plan_token=token)
    assert await _stands(shop)


async def test_a_token_works_for_its_target_and_action_only(shop: World):
    token = await _token(shop)
    await shop.do(shop.caller(), "create_project", name="blog")
    with pytest.raises(PlanStale, match="another call"):
        await shop.do(shop.caller(), "delete_project", name="blog", plan_token=token)
    empty = shop.caller("owner", "blue")
    other = await shop.do(empty, "delete_team")
    with pytest.raises(PlanStale):
        await shop.do(shop.caller(), "delete_project", name="shop", plan_token=other.plan_token)
    assert await _stands(shop)


async def test_a_changed_project_makes_the_token_stale(shop: World):
    token = await _token(shop)
    await shop.do(shop.caller(), "update_project", name="shop", description="changed")
    await _refused(shop, token, "has changed since")
    assert await _stands(shop)


async def test_a_task_that_came_changed_or_went_makes_the_token_stale(shop: World):
    task = Task(
        id="task-1", team_id="red", project="shop", title="T", author="a", created_at=START, updated_at=START
    )

    async def came(tx: Transaction) -> None:
        await tx.tasks.add(task)

    async def changed(tx: Transaction) -> None:
        held = await tx.tasks.hold("task-1")
        assert held is not None
        await tx.tasks.save(held.change(title="other"))

    async def went(tx: Transaction) -> None:
        held = await tx.tasks.hold("task-1")
        assert held is not None
        await tx.tasks.remove(held)

    for change in (came, changed, went):
        token = await _token(shop)
        await shop.store.run(change, SETUP)
        await _refused(shop, token, "has changed since")
    assert await _stands(shop)


async def test_two_uses_at_the_same_time_delete_once(shop: World):
    token = await _token(shop)
    outcomes = await asyncio.gather(
        *(shop.do(shop.caller(), "delete_project", name="shop", plan_token=token) for _ in range(8)),
        return_exceptions=True,
    )
    done = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert len(done) == 1
    assert all(isinstance(outcome, (Conflict, NotFound)) for outcome in outcomes if outcome not in done)


async def test_a_refused_use_leaves_the_token_unused(shop: World):
    token = await _token(shop)
    await _refused(shop, token, "caller", role="admin")
    await shop.do(shop.caller(), "delete_project", name="shop", plan_token=token)
    assert not await _stands(shop)


async def test_only_the_digest_of_a_token_is_stored(shop: World):
    token = await _token(shop)

    async def reading(tx: Reading) -> int:
        return len(await tx.plans.expired(START.replace(year=2027), limit=10))

    assert await shop.store.read(reading) == 1
    await shop.rows()
    assert token not in shop.on_disk()
