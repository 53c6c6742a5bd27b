"""Teams and people: what may be set, who may set it, and who can never be taken away."""

from typing import Any

import pytest

from mcp_server.domain.errors import Conflict, Forbidden, Invalid, NotFound, QuotaExceeded, Unauthenticated
from mcp_server.domain.roles import Role
from mcp_server.domain.teams import Team
from mcp_server.ports.store import Reading, Transaction
from tests.usecases.world import SETUP, World

HOOK = "https://hooks.slack.com/services/T0/B0/C4n4ry"


# -- teams


async def test_a_new_team_comes_with_an_owner_key_that_signs_in(world: World):
    made = await world.do(world.caller(), "create_team", name="Green Team")
    assert made.slug == "green-team"
    assert made.key is not None
    caller = await world.signin.authenticate(made.key)
    assert (caller.team_id, caller.role, caller.scopes) == (made.id, "owner", ())
    assert (await world.do(caller, "get_team")).name == "Green Team"
    assert [item.id for item in (await world.do(world.caller(), "list_teams")).items] == ["red"]


async def test_a_new_team_is_out_of_reach_for_the_key_that_founded_it(world: World):
    made = await world.do(world.caller(), "create_team", name="Green")
    with pytest.raises(NotFound):
        await world.do(world.caller(), "get_team", team=made.id)


@pytest.mark.parametrize("name", ["Red", "RED!", "red"])
async def test_a_taken_slug_gets_an_ending(world: World, name: str):
    made = await world.do(world.caller(), "create_team", name=name)
    assert made.slug.startswith("red-")


@pytest.mark.parametrize("name", ["シ", "!!!", "_"])
async def test_a_name_without_a_letter_of_the_alphabet_gets_its_id_as_slug(world: World, name: str):
    made = await world.do(world.caller(), "create_team", name=name)
    assert made.slug == made.id
    assert "_" not in made.id


@pytest.mark.parametrize("name", ["", "  ", "x" * 256])
async def test_a_name_that_is_none_is_refused(world: World, name: str):
    for action in ("create_team", "update_team"):
        with pytest.raises(Invalid) as refusal:
            await world.do(world.caller(), action, name=name)
        assert refusal.value.details["fields"].keys() == {"name"}


async def test_a_key_with_scopes_founds_no_team(world: World):
    with pytest.raises(Forbidden):
        await world.do(world.caller(scopes=("teams",)), "create_team", name="Green")


@pytest.mark.parametrize("named", [None, "red"])
async def test_a_team_may_be_named_by_its_owner_or_left_out(world: World, named: str | None):
    assert (await world.do(world.caller(), "get_team", team=named)).id == "red"


async def test_settings_are_merged_level_by_level(world: World):
    caller = world.caller("admin")
    await world.do(
        caller,
        "update_team",
        settings={"notifications": {"slack": HOOK}, "deploymentDefaults": {"graceHours": 2}},
    )
    after = await world.do(caller, "update_team", settings={"deploymentDefaults": {"autoPromote": True}})
    assert after.notifications == ("slack",)
    defaults = after.deployment_defaults
    assert (defaults.graceHours, defaults.autoPromote, defaults.healthCheckTimeout) == (2, True, 30)
    cleared = await world.do(caller, "update_team", settings={"notifications": {"slack": None}})
    assert cleared.notifications == ()


@pytest.mark.parametrize(
    "settings",
    [
        {"unknown": 1},
        {"notifications": {"slack": "http://plain.test/x"}},
        {"notifications": {"discord": "file:///etc/passwd"}},
        {"notifications": {"discord": "https://"}},
        {"notifications": {"slack": "https://[x"}},
        {"notifications": {"slack": "https://ann:word@hooks.slack.com/x"}},
        {"notifications": {"pager": HOOK}},
        {"notifications": "all"},
        {"deploymentDefaults": {"graceHours": 0}},
        {"deploymentDefaults": {"healthCheckTimeout": 601}},
        {"deploymentDefaults": {"environment": "moon"}},
    ],
)
async def test_settings_that_break_a_rule_change_nothing_and_are_not_repeated(
    world: World, settings: dict[str, Any]
):
    before = await world.do(world.caller(), "get_team")
    with pytest.raises(Invalid) as refusal:
        await world.do(world.caller(), "update_team", name="Other", settings=settings)
    assert "C4n4ry" not in str(refusal.value.payload())
    assert await world.do(world.caller(), "get_team") == before


async def test_the_address_of_a_channel_is_neither_shown_nor_audited(world: World):
    after = await world.do(world.caller(), "update_team", settings={"notifications": {"slack": HOOK}})
    assert "C4n4ry" not in after.model_dump_json()
    assert "C4n4ry" not in "".join(row.model_dump_json() for row in await world.rows())


async def test_a_team_with_projects_is_not_deleted(world: World):
    await world.do(world.caller(), "create_project", name="shop")
    with pytest.raises(Conflict, match="1 project"):
        await world.do(world.caller(), "delete_team")


async def test_a_project_made_after_the_plan_saves_the_team(world: World):
    plan = await world.do(world.caller(), "delete_team")
    await world.do(world.caller(), "create_project", name="shop")
    with pytest.raises(Conflict):
        await world.do(world.caller(), "delete_team", plan_token=plan.plan_token)
    assert (await world.do(world.caller(), "get_team")).id == "red"


async def test_a_key_made_after_the_plan_makes_it_stale(world: World):
    plan = await world.do(world.caller(), "delete_team")
    await world.do(world.caller(), "create_key", name="new", role="viewer")
    with pytest.raises(Conflict, match="changed since"):
        await world.do(world.caller(), "delete_team", plan_token=plan.plan_token)


async def test_a_deleted_team_takes_its_people_and_keys_and_leaves_the_others(world: World):
    await world.do(world.caller(), "add_member", email="ann@example.test")
    done = await world.planned(world.caller(), "delete_team")
    assert done.status == "done"
    assert "4 good API keys" in " ".join(done.effects)
    with pytest.raises(Unauthenticated):
        await world.signin.authenticate(world.texts["red-owner"])
    assert (await world.signin.authenticate(world.texts["blue-owner"])).team_id == "blue"

    async def reading(tx: Reading) -> list[object]:
        keys, members = await tx.keys.of_team("red"), await tx.members.of_team("red")
        return [*keys.items, *members.items, *filter(None, [await tx.teams.get("red")])]

    assert await world.store.read(reading) == []
    assert [row.success for row in await world.rows(action="delete_team")] == [True, True]


async def test_the_team_of_this_machine_is_never_deleted(world: World):
    async def transaction(tx: Transaction) -> None:
        now = await tx.now()
        await tx.teams.add(
            Team(id="local", name="Local", slug="local", owner="ann", created_at=now, updated_at=now)
        )

    await world.store.run(transaction, SETUP)
    with pytest.raises(Conflict, match="this machine"):
        await world.do(world.caller(team_id="local"), "delete_team")


# -- members


async def _member(world: World, role: Role, email: str = "ann@example.test") -> str:
    return str((await world.do(world.caller(), "add_member", email=email, role=role)).id)


async def test_a_member_is_added_under_the_lower_case_of_the_address(world: World):
    made = await world.do(world.caller("admin"), "add_member", email=" Ann@Example.TEST ", name="Ann")
    assert (made.email, made.name, made.role) == ("ann@example.test", "Ann", "member")
    with pytest.raises(Conflict, match="already"):
        await world.do(world.caller("admin"), "add_member", email="ANN@example.test")
    await world.do(world.caller(team_id="blue"), "add_member", email="ann@example.test")


@pytest.mark.parametrize("email", ["", "ann", "a b@c.test", "@", "a@b@c", "x" * 260 + "@y.test"])
async def test_what_is_not_an_address_is_refused(world: World, email: str):
    with pytest.raises(Invalid) as refusal:
        await world.do(world.caller(), "add_member", email=email)
    assert refusal.value.details["fields"].keys() == {"email"}


async def test_a_team_has_at_most_its_quota_of_members(world: World):
    for at in range(world.quota):
        await _member(world, "member", f"m{at}@example.test")
    with pytest.raises(QuotaExceeded):
        await _member(world, "member", "more@example.test")


async def test_an_admin_neither_makes_changes_nor_removes_an_owner(world: World):
    admin = world.caller("admin")
    owner = await _member(world, "owner")
    await _member(world, "owner", "bob@example.test")
    member = await _member(world, "member", "cid@example.test")
    for action, arguments in (
        ("add_member", {"email": "eve@example.test", "role": "owner"}),
        ("update_member", {"member_id": member, "role": "owner"}),
        ("update_member", {"member_id": owner, "role": "viewer"}),
        ("remove_member", {"member_id": owner}),
    ):
        with pytest.raises(Forbidden):
            await world.do(admin, action, **arguments)
    roles = {item.email: item.role for item in (await world.do(admin, "list_members")).items}
    assert roles == {"ann@example.test": "owner", "bob@example.test": "owner", "cid@example.test": "member"}


async def test_the_last_owner_stays_and_one_of_two_may_go(world: World):
    ann = await _member(world, "owner")
    for action, arguments in (("remove_member", {}), ("update_member", {"role": "admin"})):
        with pytest.raises(Conflict, match="last owner"):
            await world.do(world.caller(), action, member_id=ann, **arguments)
    bob = await _member(world, "owner", "bob@example.test")
    assert (await world.do(world.caller(), "update_member", member_id=ann, role="admin")).role == "admin"
    with pytest.raises(Conflict, match="last owner"):
        await world.do(world.caller(), "remove_member", member_id=bob)


async def test_a_removed_member_may_come_back(world: World):
    ann = await _member(world, "member")
    assert (await world.do(world.caller(), "remove_member", member_id=ann)).email == "ann@example.test"
    await _member(world, "viewer")
    assert [item.role for item in (await world.do(world.caller(), "list_members")).items] == ["viewer"]
