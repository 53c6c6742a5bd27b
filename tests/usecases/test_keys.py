"""Keys: shown once, never above whoever makes them, ended at once, replaced without a gap."""

from datetime import timedelta
from typing import Any

import pytest

from mcp_server.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    QuaymasterError,
    QuotaExceeded,
    Unauthenticated,
)
from mcp_server.domain.keys import digest, well_formed
from mcp_server.domain.roles import Role
from mcp_server.ports.store import Reading
from mcp_server.services.calls import Call
from mcp_server.services.signin import local_owner
from tests.usecases.world import START, World


async def _good(world: World, text: str | None) -> bool:
    try:
        await world.signin.authenticate(text)
    except Unauthenticated:
        return False
    return True


async def test_a_new_key_signs_in_as_what_it_was_made_for(world: World):
    made = await world.do(
        world.caller(), "create_key", name="ci", role="member", scopes=["tasks"], rate_limit=7, expires_days=2
    )
    assert well_formed(made.key)
    assert made.expires_at == START + timedelta(days=2)
    caller = await world.signin.authenticate(made.key)
    assert (caller.team_id, caller.role, caller.scopes, caller.rate_limit, caller.key_id, caller.user) == (
        "red",
        "member",
        ("tasks",),
        7,
        made.id,
        "ci",
    )
    assert len(made.id) <= 24


async def test_only_digest_and_beginning_of_a_key_are_kept_and_the_list_has_no_digest(world: World):
    made = await world.do(world.caller(), "create_key", name="ci", role="viewer")
    listed = await world.do(world.caller("admin"), "list_keys")
    item = next(item for item in listed.items if item.id == made.id)
    assert (item.prefix, item.state, item.created_by) == (made.key[:20], "good", "red owner")
    assert digest(made.key) not in listed.model_dump_json()
    assert made.key not in listed.model_dump_json()
    assert made.key not in world.on_disk()
    assert digest(made.key) in world.on_disk()


@pytest.mark.parametrize(
    ("maker", "fields"),
    [
        ({"role": "admin"}, {"role": "owner"}),
        ({"scopes": ("keys",)}, {"role": "viewer"}),
        ({"scopes": ("keys",)}, {"role": "viewer", "scopes": ["projects"]}),
        ({"rate_limit": 10}, {"role": "viewer"}),
        ({"rate_limit": 10}, {"role": "viewer", "rate_limit": 11}),
        ({}, {"role": "viewer", "rate_limit": 10_001}),
    ],
)
async def test_no_key_is_above_the_key_that_makes_it(
    world: World, maker: dict[str, Any], fields: dict[str, Any]
):
    with pytest.raises(Forbidden):
        await world.do(world.caller(**maker), "create_key", name="more", **fields)
    assert len((await world.do(world.caller(), "list_keys")).items) == 4


async def test_a_key_may_be_as_far_as_the_key_that_makes_it(world: World):
    maker = world.caller(scopes=("keys", "tasks"), rate_limit=10)
    made = await world.do(
        maker, "create_key", name="same", role="owner", scopes=["tasks", "list_keys"], rate_limit=10
    )
    assert made.scopes == ("list_keys", "tasks")


async def test_only_the_operator_gives_a_key_more_requests_than_the_server_gives_every_key(world: World):
    operator = world.caller(transport="cli", key_id=None)
    fast = await world.do(operator, "create_key", name="fast", role="viewer", rate_limit=10_001)
    with pytest.raises(Forbidden) as refused:
        await world.do(world.caller(), "rotate_key", key_id=fast.id)
    assert "--rate-limit" in refused.value.next
    await world.do(world.caller(), "create_key", name="as fast as any", role="viewer", rate_limit=10_000)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 256),
        ("scopes", ["everything"]),
        ("expires_days", 0),
        ("expires_days", 10**9),
        ("rate_limit", 0),
    ],
)
async def test_what_breaks_a_rule_is_refused_by_its_field(world: World, field: str, value: Any):
    with pytest.raises(Invalid) as refusal:
        await world.do(world.caller(), "create_key", **{"name": "ci", "role": "viewer", field: value})
    assert refusal.value.details["fields"].keys() == {field}


async def test_revoked_keys_make_room_in_the_quota(world: World):
    made = None
    for at in range(16):
        made = await world.do(world.caller(), "create_key", name=f"k{at}", role="viewer")
    with pytest.raises(QuotaExceeded):
        await world.do(world.caller(), "create_key", name="more", role="viewer")
    assert made is not None
    await world.do(world.caller(), "revoke_key", key_id=made.id)
    await world.do(world.caller(), "create_key", name="more", role="viewer")


async def test_a_revoked_key_is_not_good_from_now_on_and_stays_revoked(world: World):
    text = world.texts["red-member"]
    assert await _good(world, text)
    world.clock.seconds = 5
    first = await world.do(world.caller("admin"), "revoke_key", key_id="red-member")
    assert not await _good(world, text)
    world.clock.seconds = 10
    again = await world.do(world.caller("admin"), "revoke_key", key_id="red-member")
    assert again.revoked_at == first.revoked_at == START + timedelta(seconds=5)
    listed = await world.do(world.caller(), "list_keys")
    assert next(item.state for item in listed.items if item.id == "red-member") == "revoked"


async def test_an_expired_key_is_not_good_and_says_so_in_the_list(world: World):
    made = await world.do(world.caller(), "create_key", name="ci", role="viewer", expires_days=1)
    world.clock.seconds = 86_399
    assert await _good(world, made.key)
    world.clock.seconds = 86_400
    assert not await _good(world, made.key)
    listed = await world.do(world.caller(), "list_keys")
    assert next(item.state for item in listed.items if item.id == made.id) == "expired"


@pytest.mark.parametrize("action", ["revoke_key", "rotate_key"])
async def test_an_admin_ends_and_replaces_no_owner_key(world: World, action: str):
    with pytest.raises(Forbidden):
        await world.do(world.caller("admin"), action, key_id="red-owner")
    assert await _good(world, world.texts["red-owner"])


async def test_a_key_with_scopes_replaces_no_key_that_may_do_more(world: World):
    with pytest.raises(Forbidden):
        await world.do(world.caller(scopes=("keys",)), "rotate_key", key_id="red-viewer")
    assert await _good(world, world.texts["red-viewer"])


async def test_the_last_owner_key_is_replaced_and_not_revoked(world: World):
    with pytest.raises(Conflict, match="last owner key"):
        await world.do(world.caller(), "revoke_key", key_id="red-owner")
    rotated = await world.do(world.caller(), "rotate_key", key_id="red-owner")
    assert not await _good(world, world.texts["red-owner"])
    assert await _good(world, rotated.key)
    second = await world.do(world.caller(), "create_key", name="second", role="owner")
    await world.do(world.caller(), "revoke_key", key_id=rotated.id)
    assert await _good(world, second.key)


@pytest.mark.parametrize("role", ["admin", "member", "viewer"])
async def test_a_replaced_key_keeps_its_rights_and_loses_its_text_at_once(world: World, role: Role):
    before = await world.signin.authenticate(world.texts[f"red-{role}"])
    rotated = await world.do(world.caller(), "rotate_key", key_id=f"red-{role}")
    assert rotated.replaces == f"red-{role}"
    after = await world.signin.authenticate(rotated.key)
    assert after == before.change(key_id=rotated.id)
    assert not await _good(world, world.texts[f"red-{role}"])


async def test_with_a_grace_both_keys_are_good_until_it_ends(world: World):
    rotated = await world.do(world.caller(), "rotate_key", key_id="red-member", grace_seconds=60)
    world.clock.seconds = 59
    assert await _good(world, world.texts["red-member"])
    world.clock.seconds = 60
    assert not await _good(world, world.texts["red-member"])
    assert await _good(world, rotated.key)


async def test_a_grace_never_lengthens_a_key(world: World):
    made = await world.do(world.caller(), "create_key", name="ci", role="viewer", expires_days=1)
    rotated = await world.do(world.caller(), "rotate_key", key_id=made.id, grace_seconds=7 * 86_400)
    assert rotated.expires_at == made.expires_at
    world.clock.seconds = 86_400
    assert not await _good(world, made.key)


async def test_a_key_that_is_over_is_not_replaced(world: World):
    await world.do(world.caller(), "revoke_key", key_id="red-member")
    with pytest.raises(Conflict, match="revoked or expired"):
        await world.do(world.caller(), "rotate_key", key_id="red-member")


@pytest.mark.parametrize("grace", [-1, 7 * 86_400 + 1])
async def test_a_grace_that_is_none_is_refused(world: World, grace: int):
    with pytest.raises(Invalid):
        await world.do(world.caller(), "rotate_key", key_id="red-member", grace_seconds=grace)


async def test_a_use_of_a_key_is_noted(world: World):
    world.clock.seconds = 30
    await world.do(world.caller("viewer"), "get_team")
    await world.rows()

    async def reading(tx: Reading) -> object:
        key = await tx.keys.get("red-viewer")
        assert key is not None
        return key.last_used_at

    assert await world.store.read(reading) == START + timedelta(seconds=30)


# -- the local operator


def _local(action: str) -> Call:
    return Call(caller=local_owner("ann", transport="cli"), action=action)


@pytest.mark.parametrize("team", ["blue", "red"])
async def test_the_local_operator_makes_lists_replaces_and_revokes_keys_of_any_team(world: World, team: str):
    call = _local("create_key")
    made = await world.calls.perform(
        call, lambda: world.keys.create_for(call, team=team, name="x", role="owner")
    )
    assert (await world.signin.authenticate(made.key)).team_id == team
    listing = _local("list_keys")
    listed = await world.calls.perform(listing, lambda: world.keys.list_for(listing, team=team))
    assert made.id in [item.id for item in listed.items]
    turning = _local("rotate_key")
    rotated = await world.calls.perform(turning, lambda: world.keys.rotate_for(turning, key_id=made.id))
    ending = _local("revoke_key")
    await world.calls.perform(ending, lambda: world.keys.revoke_for(ending, key_id=rotated.id))
    assert not await _good(world, rotated.key)
    actions = [row.action for row in reversed(await world.rows(team))]
    assert sorted(actions) == ["create_key", "list_keys", "revoke_key", "rotate_key", "sign_in"]


async def test_the_local_operator_may_end_even_the_last_owner_key(world: World):
    call = _local("revoke_key")
    await world.calls.perform(call, lambda: world.keys.revoke_for(call, key_id="blue-owner"))
    assert not await _good(world, world.texts["blue-owner"])


async def test_the_local_operator_is_told_when_there_is_no_such_team_or_key(world: World):
    call = _local("create_key")
    with pytest.raises(NotFound, match="team"):
        await world.keys.create_for(call, team="green", name="x")
    with pytest.raises(NotFound, match="key"):
        await world.keys.revoke_for(call, key_id="green-owner")


@pytest.mark.parametrize(
    "fields",
    [
        {"transport": "http"},
        {"transport": "stdio"},
        {"transport": "stdio", "key_id": None},
        {"transport": "cli"},
    ],
)
async def test_nobody_else_acts_for_another_team(world: World, fields: dict[str, Any]):
    call = Call(caller=world.caller(**fields), action="create_key")
    with pytest.raises(QuaymasterError) as refusal:
        await world.keys.create_for(call, team="blue", name="x", role="viewer")
    assert refusal.value.code == "FORBIDDEN"
    with pytest.raises(Forbidden):
        await world.keys.revoke_for(call, key_id="blue-member")
    assert call.caller.team_id == "red"
