"""The path of every call: limit, grant, tenant walls, and an audit row whatever comes of it."""

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from mcp_server.domain.conflicts import KeptConflict
from mcp_server.domain.errors import Conflict, Forbidden, NotFound, QuaymasterError, RateLimited, Unavailable
from mcp_server.domain.grants import GRANTS, may
from mcp_server.domain.members import Member
from mcp_server.domain.results import Result
from mcp_server.domain.roles import ROLES, Role
from mcp_server.ports.store import Transaction
from mcp_server.services.calls import Call
from tests.usecases.world import SETUP, START, World

MakeWorld = Callable[..., Awaitable[World]]

# What each use case of these services is called with when team red means something of team blue.
FOREIGN: dict[str, dict[str, Any]] = {
    "get_project": {"name": "blue-shop"},
    "update_project": {"name": "blue-shop", "description": "mine now"},
    "delete_project": {"name": "blue-shop"},
    "get_team": {"team": "blue"},
    "update_team": {"team": "blue", "name": "mine now"},
    "delete_team": {"team": "blue"},
    "update_member": {"member_id": "blue-ann", "role": "viewer"},
    "remove_member": {"member_id": "blue-ann"},
    "revoke_key": {"key_id": "blue-member"},
    "rotate_key": {"key_id": "blue-member"},
    "resolve_conflict": {"conflict_id": "blue-conflict", "keep": "ours"},
}
LISTS: dict[str, dict[str, Any]] = {
    "list_projects": {},
    "list_teams": {},
    "list_members": {},
    "list_keys": {},
    "list_conflicts": {},
    "query_audit": {"with_params": True},
}
MAKING: dict[str, dict[str, Any]] = {
    "create_project": {"name": "new-shop"},
    "create_team": {"name": "Green"},
    "add_member": {"email": "new@example.test"},
    "create_key": {"name": "new", "role": "viewer"},
}
ALL = {**FOREIGN, **LISTS, **MAKING, "infrastructure_status": {}}
HERE = ("projects", "teams", "keys", "audit", "system")
WORK = {name for name, grant in GRANTS.items() if grant.group not in HERE}
"""Tried against the wall beside their own services."""


async def _furnish(world: World, team_id: str) -> None:
    """One of everything for a team, under ids that begin with its name."""
    owner = world.caller("owner", team_id)
    await world.do(owner, "create_project", name=f"{team_id}-shop", description=f"{team_id} secret plans")
    now = world.clock.now()

    async def transaction(tx: Transaction) -> None:
        await tx.members.add(
            Member(
                id=f"{team_id}-ann",
                team_id=team_id,
                email=f"ann@{team_id}.test",
                role="member",
                joined_at=now,
            )
        )
        await tx.conflicts.add(
            KeptConflict(
                id=f"{team_id}-conflict",
                team_id=team_id,
                line_id="l",
                target_noun="projects",
                target_key=f"{team_id}-shop",
                reason="both changed",
                ours={"description": f"{team_id} ours"},
                theirs={"description": f"{team_id} theirs"},
                at=now,
            )
        )

    await world.store.run(transaction, SETUP)


def test_every_use_case_of_these_services_is_tried_against_the_wall():
    assert set(ALL) | WORK == set(GRANTS)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("action", sorted(FOREIGN))
async def test_what_is_of_another_team_is_not_found_and_stays_as_it_is(world: World, action: str, role: Role):
    await _furnish(world, "red")
    await _furnish(world, "blue")
    before = await _state(world)
    refusal: type[QuaymasterError] = NotFound if may(world.caller(role), action) else Forbidden
    with pytest.raises(refusal) as told:
        await world.do(world.caller(role), action, **FOREIGN[action])
    assert await _state(world) == before
    foreign, absent = told.value, await _refusal_of_what_is_not_there(world, action, role)
    assert (foreign.code, foreign.next) == (absent.code, absent.next)
    assert foreign.message.replace("blue-shop", "NAME") == absent.message.replace("no-such", "NAME")


async def _refusal_of_what_is_not_there(world: World, action: str, role: Role) -> QuaymasterError:
    absent = {
        name: "no-such" if name in ("name", "team", "member_id", "key_id", "conflict_id") else value
        for name, value in FOREIGN[action].items()
    }
    if "team" in FOREIGN[action]:
        absent = {**FOREIGN[action], "team": "no-such"}
    with pytest.raises(QuaymasterError) as told:
        await world.do(world.caller(role), action, **absent)
    return told.value


@pytest.mark.parametrize("action", sorted(LISTS))
async def test_a_list_shows_the_own_team_and_nothing_of_another(world: World, action: str):
    await _furnish(world, "red")
    await _furnish(world, "blue")
    await world.trail.flush()
    for team_id, other in (("red", "blue"), ("blue", "red")):
        page = await world.do(world.caller(team_id=team_id), action, **LISTS[action])
        shown = page.model_dump_json(exclude={"notices"})
        assert team_id in shown
        assert other not in shown


async def test_a_cursor_of_another_team_shows_nothing_of_it(world: World):
    for name in ("a-blue", "b-blue", "c-blue"):
        await world.do(world.caller(team_id="blue"), "create_project", name=name)
    page = await world.do(world.caller(team_id="blue"), "list_projects", limit=1)
    assert page.cursor is not None
    assert (await world.do(world.caller(), "list_projects", cursor=page.cursor)).items == ()


@pytest.mark.parametrize(("action", "role"), list(itertools.product(sorted(ALL), ROLES)))
async def test_a_role_reaches_exactly_the_use_cases_that_the_table_grants_it(
    world: World, action: str, role: Role
):
    await _furnish(world, "red")
    caller = world.caller(role)
    own = {
        name: value.replace("blue", "red") if isinstance(value, str) else value
        for name, value in ALL[action].items()
    }
    if action == "delete_team":
        await world.planned(world.caller(), "delete_project", name="red-shop")
    if may(caller, action):
        await world.do(caller, action, **own)
    else:
        with pytest.raises(Forbidden):
            await world.do(caller, action, **own)


async def _state(world: World) -> dict[str, Any]:
    async def reading(tx: Any) -> dict[str, Any]:
        return {
            "projects": await tx.projects.get("blue-shop"),
            "team": await tx.teams.get("blue"),
            "member": await tx.members.get("blue-ann"),
            "key": await tx.keys.get("blue-member"),
            "conflict": await tx.conflicts.get("blue-conflict"),
        }

    return await world.store.read(reading)


# -- the rate limit


async def test_a_key_has_so_many_calls_a_minute_and_is_told_how_long_to_wait(make_world: MakeWorld):
    world = await make_world(rate_limit=3)
    for _ in range(3):
        await world.do(world.caller(), "get_team")
    world.clock.seconds = 20
    with pytest.raises(RateLimited) as refusal:
        await world.do(world.caller(), "get_team")
    assert refusal.value.details["retry_after"] == 41
    await world.do(world.caller("member"), "get_team")
    world.clock.seconds = 61
    await world.do(world.caller(), "get_team")


async def test_the_limit_of_the_key_goes_before_that_of_the_server(make_world: MakeWorld):
    world = await make_world(rate_limit=100)
    caller = world.caller(rate_limit=1)
    await world.do(caller, "get_team")
    with pytest.raises(RateLimited):
        await world.do(caller, "get_team")


@pytest.mark.parametrize("transport", ["stdio", "cli"])
async def test_local_callers_are_not_limited(make_world: MakeWorld, transport: str):
    world = await make_world(rate_limit=1)
    for _ in range(5):
        await world.do(world.caller(transport=transport), "get_team")


# -- the audit row


async def test_a_read_a_write_and_a_refusal_leave_one_row_each(world: World):
    await world.do(world.caller("member"), "create_project", name="shop")
    world.clock.seconds = 1
    await world.do(world.caller("viewer", user_agent="agent/1"), "get_project", name="shop")
    world.clock.seconds = 2
    with pytest.raises(Forbidden):
        await world.do(world.caller("viewer"), "create_project", name="other")
    world.clock.seconds = 3
    with pytest.raises(Conflict):
        await world.do(world.caller("member"), "create_project", name="shop")
    world.clock.seconds = 4
    with pytest.raises(NotFound):
        await world.do(world.caller("viewer"), "get_project", name="none")
    rows = list(reversed(await world.rows()))
    assert [(row.action, row.success, (row.error or "").split(":")[0]) for row in rows] == [
        ("create_project", True, ""),
        ("get_project", True, ""),
        ("create_project", False, "FORBIDDEN"),
        ("create_project", False, "CONFLICT"),
        ("get_project", False, "NOT_FOUND"),
    ]
    read = rows[1]
    assert (read.team_id, read.key_id, read.role, read.user_id) == (
        "red",
        "red-viewer",
        "viewer",
        "red viewer",
    )
    assert (read.resource, read.resource_id, read.ip, read.user_agent) == (
        "projects",
        "shop",
        "192.0.2.7",
        "agent/1",
    )
    assert read.params == {"name": "shop"}
    assert read.duration is not None
    assert read.duration >= 0
    assert len({row.id for row in rows}) == 5


async def test_a_fault_that_nobody_foresaw_leaves_a_row_without_its_text(world: World):
    async def use_case() -> Result:
        raise ZeroDivisionError("the text of a fault may hold anything")

    with pytest.raises(ZeroDivisionError):
        await world.calls.perform(Call(caller=world.caller(), action="get_team"), use_case)
    assert [row.error for row in await world.rows()] == ["INTERNAL: ZeroDivisionError"]


async def test_a_cancelled_call_leaves_a_row(world: World):
    async def use_case() -> Result:
        await anyio.sleep_forever()
        return Result()

    with anyio.move_on_after(0.01):
        await world.calls.perform(Call(caller=world.caller(), action="get_team"), use_case)
    rows = await world.rows()
    assert [(row.action, row.success) for row in rows] == [("get_team", False)]
    assert (rows[0].error or "").startswith("CANCELLED")


async def test_a_write_that_fails_leaves_neither_a_record_nor_a_row_of_success(world: World):
    async def use_case() -> Result:
        async def transaction(tx: Transaction) -> Result:
            await tx.lock_scopes.hold("none")
            raise Unavailable("the other thing is away")

        return await world.calls.write(call, transaction, Result)

    call = Call(caller=world.caller(), action="create_project")
    with pytest.raises(Unavailable):
        await world.calls.perform(call, use_case)
    assert [row.success for row in await world.rows()] == [False]


async def test_secrets_reach_neither_the_audit_log_nor_the_disk(world: World):
    canary = "C4n4ryC4n4ryC4n4ryC4n4ry"
    texts = {
        "key": f"qm_red_owner_{canary}",
        "url": f"postgres://app:{canary}@db.test/app",
        "bearer": f"Bearer {canary}",
    }
    for text in texts.values():
        with pytest.raises(QuaymasterError):
            await world.do(world.caller(user_agent=text), "get_project", name=text)
    await world.do(world.caller(), "create_key", name="ci", role="viewer")
    await world.do(world.caller(), "create_team", name="Green", idempotency_key="once")
    await world.rows()
    made = await world.do(world.caller(), "create_key", name="cd", role="viewer", idempotency_key="twice")
    assert made.key is not None
    await world.rows()
    assert made.key not in world.on_disk()
    assert made.key[-24:] not in world.on_disk()
    assert canary not in world.on_disk()


@pytest.mark.parametrize(
    ("address", "kept"), [("2001:db8::1", "2001:db8::1"), (None, None), ("x" * 80, "x" * 45)]
)
async def test_the_address_of_a_call_is_kept_at_its_width(
    world: World, address: str | None, kept: str | None
):
    await world.do(world.caller(address=address), "get_team")
    assert (await world.rows())[0].ip == kept


async def test_a_row_is_kept_at_the_time_of_the_store(world: World):
    world.clock.seconds = 5
    await world.do(world.caller(), "create_project", name="shop")
    assert (await world.rows())[0].timestamp == START.replace(second=5)
