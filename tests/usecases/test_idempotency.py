"""A call repeated under its key is answered again and done once."""

import asyncio
from typing import Any

import pytest

from mcp_server.domain.errors import Conflict, Invalid, QuaymasterError
from mcp_server.domain.idempotency import KEEP_SECONDS
from mcp_server.ports.store import Reading
from tests.usecases.world import START, World


async def _remembered(world: World) -> list[dict[str, Any] | None]:
    async def reading(tx: Reading) -> list[dict[str, Any] | None]:
        return [record.result for record in await tx.idempotency.expired(START.replace(year=2030), limit=100)]

    return await world.store.read(reading)


async def test_the_same_key_and_arguments_give_the_first_result_again(world: World):
    first = await world.do(world.caller(), "create_project", name="shop", idempotency_key="a")
    world.clock.seconds = 60
    await world.do(world.caller(), "update_project", name="shop", description="changed")
    again = await world.do(world.caller(), "create_project", name="shop", idempotency_key="a")
    assert again == first
    assert len((await world.do(world.caller(), "list_projects")).items) == 1


async def test_the_order_of_the_arguments_does_not_matter(world: World):
    await world.do(world.caller(), "create_project", name="shop", description="x", idempotency_key="a")
    await world.do(world.caller(), "create_project", description="x", name="shop", idempotency_key="a")


async def test_the_same_key_with_other_arguments_is_a_conflict(world: World):
    await world.do(world.caller(), "create_project", name="shop", idempotency_key="a")
    with pytest.raises(Conflict, match="other arguments"):
        await world.do(world.caller(), "create_project", name="blog", idempotency_key="a")
    assert len((await world.do(world.caller(), "list_projects")).items) == 1


async def test_a_key_belongs_to_one_team_caller_and_tool(world: World):
    await world.do(world.caller(), "create_project", name="shop", idempotency_key="a")
    await world.do(world.caller(), "update_project", name="shop", description="x", idempotency_key="a")
    await world.do(world.caller("admin"), "create_project", name="blog", idempotency_key="a")
    await world.do(world.caller(team_id="blue"), "create_project", name="den", idempotency_key="a")
    assert len(await _remembered(world)) == 4


async def test_two_callers_of_one_team_make_two_records_under_the_same_key(world: World):
    first = await world.do(world.caller(), "create_key", name="a", role="viewer", idempotency_key="a")
    second = await world.do(world.caller("admin"), "create_key", name="a", role="viewer", idempotency_key="a")
    assert first.id != second.id


async def test_calls_at_the_same_time_make_one_record(world: World):
    results = await asyncio.gather(
        *(
            world.do(world.caller(), "add_member", email="ann@example.test", idempotency_key="a")
            for _ in range(10)
        )
    )
    assert len({result.id for result in results}) == 1
    assert len((await world.do(world.caller(), "list_members")).items) == 1


async def test_a_refused_call_is_not_remembered(world: World):
    await world.do(world.caller(), "create_project", name="shop")
    with pytest.raises(Conflict, match="taken"):
        await world.do(world.caller(), "create_project", name="shop", idempotency_key="a")
    assert await _remembered(world) == []
    await world.planned(world.caller(), "delete_project", name="shop")
    await world.do(world.caller(), "create_project", name="shop", idempotency_key="a")


async def test_a_plan_is_not_remembered_and_its_application_is(world: World):
    await world.do(world.caller(), "create_project", name="shop")
    arguments: dict[str, Any] = {"name": "shop", "idempotency_key": "a"}
    first = await world.do(world.caller(), "delete_project", **arguments)
    second = await world.do(world.caller(), "delete_project", **arguments)
    assert first.plan_token != second.plan_token
    assert await _remembered(world) == []
    done = await world.do(world.caller(), "delete_project", **arguments, plan_token=second.plan_token)
    again = await world.do(world.caller(), "delete_project", **arguments, plan_token=second.plan_token)
    assert (done.status, again) == ("done", done)


async def test_a_secret_is_shown_once_and_never_stored(world: World):
    first = await world.do(world.caller(), "create_key", name="ci", role="viewer", idempotency_key="a")
    again = await world.do(world.caller(), "create_key", name="ci", role="viewer", idempotency_key="a")
    assert first.key is not None
    assert (again.id, again.key) == (first.id, None)
    assert any("secret" in notice for notice in again.notices)
    assert first.notices == ()
    assert first.key not in world.on_disk()
    assert len((await world.do(world.caller(), "list_keys")).items) == 5


async def test_a_key_is_free_again_after_a_day(world: World):
    await world.do(world.caller(), "update_team", name="One", idempotency_key="a")
    world.clock.seconds = KEEP_SECONDS - 1
    with pytest.raises(Conflict):
        await world.do(world.caller(), "update_team", name="Two", idempotency_key="a")
    world.clock.seconds = KEEP_SECONDS
    await world.do(world.caller(), "update_team", name="Two", idempotency_key="a")
    assert (await world.do(world.caller(), "get_team")).name == "Two"


@pytest.mark.parametrize("key", ["", "x" * 201])
async def test_a_key_that_is_none_is_refused(world: World, key: str):
    with pytest.raises(Invalid) as refusal:
        await world.do(world.caller(), "create_project", name="shop", idempotency_key=key)
    assert refusal.value.details["fields"].keys() == {"idempotency_key"}


async def test_a_repeated_call_is_audited_like_the_first(world: World):
    for _ in range(2):
        await world.do(world.caller(), "create_project", name="shop", idempotency_key="a")
    assert [row.success for row in await world.rows(action="create_project")] == [True, True]


async def test_a_stored_result_never_speaks_for_another_team(world: World):
    await world.do(world.caller(), "create_project", name="shop", idempotency_key="a")
    with pytest.raises(QuaymasterError):
        await world.do(world.caller(team_id="blue"), "create_project", name="shop", idempotency_key="a")
