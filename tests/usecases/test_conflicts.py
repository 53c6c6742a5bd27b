"""Kept conflicts: shown without secrets, decided once, with both versions kept."""

from typing import Any

import pytest

from mcp_server.domain.conflicts import KeptConflict
from mcp_server.domain.errors import Conflict, NotFound, PlanStale
from mcp_server.domain.projects import Project
from mcp_server.domain.slots import SlotPair
from mcp_server.ports.store import Reading, Transaction
from mcp_server.services.signin import local_owner
from tests.usecases.world import SETUP, START, World


async def _project(world: World) -> Project:
    async def reading(tx: Reading) -> Project | None:
        return await tx.projects.get("shop")

    found = await world.store.read(reading)
    assert found is not None
    return found


async def _keep(world: World, **fields: Any) -> None:
    kept = KeptConflict(
        **{
            "id": "c-1",
            "team_id": "red",
            "line_id": "l",
            "target_noun": "projects",
            "target_key": "shop",
            "reason": "both changed",
            "at": START,
            **fields,
        }
    )

    async def transaction(tx: Transaction) -> None:
        await tx.conflicts.add(kept)

    await world.store.run(transaction, SETUP)


@pytest.fixture
async def shop(world: World) -> World:
    """`shop` says "theirs"; the kept conflict's own version says "ours"."""
    await world.do(world.caller(), "create_project", name="shop", description="theirs")
    theirs = (await _project(world)).model_dump(mode="json")
    await _keep(world, ours={**theirs, "description": "ours", "rev": 7}, theirs=theirs)
    return world


async def test_a_conflict_is_listed_with_the_fields_that_differ(shop: World):
    listed = await shop.do(shop.caller("admin"), "list_conflicts")
    (item,) = listed.items
    assert (item.id, item.about, item.reason) == ("c-1", "projects/shop", "both changed")
    assert (item.ours, item.theirs) == ({"description": "ours"}, {"description": "theirs"})


@pytest.mark.parametrize(("keep", "description"), [("ours", "ours"), ("theirs", "theirs")])
async def test_a_decision_keeps_the_chosen_version_and_both_in_the_conflict(
    shop: World, keep: str, description: str
):
    before = await _project(shop)
    done = await shop.planned(shop.caller("admin"), "resolve_conflict", conflict_id="c-1", keep=keep)
    assert done.status == "done"
    after = await _project(shop)
    assert after.description == description
    assert after.rev == before.rev + (keep == "ours")
    assert (await shop.do(shop.caller("admin"), "list_conflicts")).items == ()

    async def reading(tx: Reading) -> KeptConflict | None:
        return await tx.conflicts.get("c-1")

    kept = await shop.store.read(reading)
    assert kept is not None
    assert kept.ours is not None
    assert kept.theirs is not None
    assert (kept.decided, kept.decided_by) == (keep, "red-admin")
    assert (kept.ours["description"], kept.theirs["description"]) == ("ours", "theirs")


async def test_a_conflict_is_decided_once(shop: World):
    await shop.planned(shop.caller(), "resolve_conflict", conflict_id="c-1", keep="theirs")
    with pytest.raises(Conflict, match="already been decided"):
        await shop.do(shop.caller(), "resolve_conflict", conflict_id="c-1", keep="ours")


async def test_a_plan_for_one_side_does_not_decide_for_the_other(shop: World):
    plan = await shop.do(shop.caller(), "resolve_conflict", conflict_id="c-1", keep="theirs")
    with pytest.raises(PlanStale):
        await shop.do(
            shop.caller(), "resolve_conflict", conflict_id="c-1", keep="ours", plan_token=plan.plan_token
        )


async def test_a_record_that_changed_after_the_plan_is_not_overwritten(shop: World):
    plan = await shop.do(shop.caller(), "resolve_conflict", conflict_id="c-1", keep="ours")
    await shop.do(shop.caller(), "update_project", name="shop", description="newer")
    with pytest.raises(PlanStale):
        await shop.do(
            shop.caller(), "resolve_conflict", conflict_id="c-1", keep="ours", plan_token=plan.plan_token
        )
    assert (await _project(shop)).description == "newer"


async def test_our_deletion_deletes_and_our_version_of_a_deleted_record_comes_back(world: World):
    await world.do(world.caller(), "create_project", name="shop", description="theirs")
    version = (await _project(world)).model_dump(mode="json")
    await _keep(world, ours=None, theirs=version)
    await world.planned(world.caller(), "resolve_conflict", conflict_id="c-1", keep="ours")
    with pytest.raises(NotFound):
        await world.do(world.caller(), "get_project", name="shop")
    await _keep(world, id="c-2", ours={**version, "description": "ours"}, theirs=None)
    await world.planned(world.caller(), "resolve_conflict", conflict_id="c-2", keep="ours")
    assert (await _project(world)).description == "ours"


async def test_secrets_of_either_version_are_hidden_in_the_list(world: World):
    canary = "C4n4ry"
    await _keep(
        world,
        target_noun="environments",
        target_key="shop/staging",
        ours={"env_data": {"ANY": canary}},
        theirs={"key_hash": canary, "settings": {"notifications": {"slack": canary}}},
    )
    listed = await world.do(world.caller(), "list_conflicts")
    assert len(listed.items) == 1
    assert canary not in listed.model_dump_json()


async def test_a_conflict_belongs_to_the_team_of_its_project_where_the_record_names_none(world: World):
    await world.do(world.caller(), "create_project", name="shop")
    pair = SlotPair(project="shop", environment="staging", updated_at=START).model_dump(mode="json")
    await _keep(world, team_id=None, target_noun="slots", target_key="shop/staging", ours=pair, theirs=None)
    assert len((await world.do(world.caller(), "list_conflicts")).items) == 1
    assert (await world.do(world.caller(team_id="blue"), "list_conflicts")).items == ()
    with pytest.raises(NotFound):
        await world.do(world.caller(team_id="blue"), "resolve_conflict", conflict_id="c-1", keep="ours")


async def test_what_belongs_to_no_team_is_for_the_local_operator(world: World):
    await _keep(world, team_id=None, target_noun="plans", target_key="p", ours={"id": "p"}, theirs=None)
    assert (await world.do(world.caller(), "list_conflicts")).items == ()
    assert len((await world.do(local_owner("ann"), "list_conflicts")).items) == 1


async def test_pages_skip_what_belongs_to_other_teams(world: World):
    for at in range(9):
        await _keep(world, id=f"c-{at}", team_id="red" if at % 3 == 0 else "blue", target_key=f"p{at}")
    first = await world.do(world.caller(), "list_conflicts", limit=2)
    assert [item.id for item in first.items] == ["c-0", "c-3"]
    rest = await world.do(world.caller(), "list_conflicts", limit=2, cursor=first.cursor)
    assert [item.id for item in rest.items] == ["c-6"]


async def test_a_record_of_an_unknown_kind_is_left_to_a_newer_server(world: World):
    await _keep(world, target_noun="starships", target_key="s", ours={"a": 1}, theirs={"a": 2})
    with pytest.raises(Conflict, match="starships"):
        await world.do(world.caller(), "resolve_conflict", conflict_id="c-1", keep="ours")
