"""Projects: made within quota and roots, and deleted by plan with all that belongs to them."""

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_server.domain.callers import Caller
from mcp_server.domain.deployments import Deployment
from mcp_server.domain.domains import DomainName
from mcp_server.domain.environments import EnvironmentVersion, ProjectEnvironment
from mcp_server.domain.errors import Conflict, Invalid, NotFound, PlanStale, QuotaExceeded
from mcp_server.domain.locks import Lock, LockScope
from mcp_server.domain.nouns import RECORDS
from mcp_server.domain.slots import SlotPair
from mcp_server.domain.tasks import Task
from mcp_server.ports.store import Reading, Transaction
from mcp_server.services.projects import Projects
from tests.usecases.workshops import ADA, EVE, Workshop
from tests.usecases.world import SETUP, START, World

MakeWorld = Callable[..., Awaitable[World]]


NOT_THE_PROJECTS = {"databases", "database_servers", "ports", "branches", "backups"}
"""A project with a database is not deleted, and branches go with it; servers and ports are the host's; backups outlive both."""


async def test_a_new_project_is_found_and_listed_by_its_normalised_name(world: World):
    made = await world.do(
        world.caller(), "create_project", name="My Shop", type="python", description="sells"
    )
    assert (made.name, made.type, made.description, made.database) == ("my-shop", "python", "sells", None)
    assert await world.do(world.caller("viewer"), "get_project", name="my_shop") == made
    listed = await world.do(world.caller("viewer"), "list_projects")
    assert [item.name for item in listed.items] == ["my-shop"]


async def test_a_name_is_taken_over_all_teams(world: World):
    await world.do(world.caller(), "create_project", name="shop")
    with pytest.raises(Conflict, match="taken"):
        await world.do(world.caller(team_id="blue"), "create_project", name="Shop")


async def test_a_list_goes_on_at_its_cursor(world: World):
    for name in "dbeca":
        await world.do(world.caller(), "create_project", name=name)
    seen: list[str] = []
    cursor = None
    while True:
        page = await world.do(world.caller(), "list_projects", limit=2, cursor=cursor)
        seen += [item.name for item in page.items]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("limit", [0, -1, 201])
async def test_a_list_refuses_a_limit_that_is_none(world: World, limit: int):
    with pytest.raises(Invalid):
        await world.do(world.caller(), "list_projects", limit=limit)


async def test_a_team_has_at_most_its_quota_of_projects_and_another_team_its_own(world: World):
    for at in range(world.quota):
        await world.do(world.caller(), "create_project", name=f"p{at}")
    with pytest.raises(QuotaExceeded):
        await world.do(world.caller(), "create_project", name="one-more")
    await world.do(world.caller(team_id="blue"), "create_project", name="one-more")


@pytest.mark.parametrize("database", ["auto", "postgres", "sqlite", "oracle"])
async def test_without_databases_a_project_is_not_made_with_one(world: World, database: str):
    with pytest.raises(Invalid, match="database"):
        await world.do(world.caller(), "create_project", name="shop", database=database)
    with pytest.raises(NotFound):
        await world.do(world.caller(), "get_project", name="shop")


@pytest.mark.parametrize(
    "fields", [{"description": "x" * 2001}, {"type": "cobol"}, {"path": "relative"}, {"path": "/a\x00b"}]
)
async def test_what_breaks_a_rule_is_refused_by_its_field_and_changes_nothing(
    world: World, fields: dict[str, Any]
):
    for action, name in (("create_project", "other"), ("update_project", "shop")):
        if action == "update_project":
            before = await world.do(world.caller(), "create_project", name="shop")
        with pytest.raises(Invalid) as refusal:
            await world.do(world.caller(transport="stdio", key_id=None), action, name=name, **fields)
        assert refusal.value.details["fields"].keys() == fields.keys()
        assert not any(str(value) in str(refusal.value.payload()) for value in fields.values())
    assert await world.do(world.caller(), "get_project", name="shop") == before


async def test_an_update_changes_what_is_given_and_nothing_else(world: World):
    local = world.caller(transport="stdio")
    made = await world.do(local, "create_project", name="shop", description="old", path="/srv/shop")
    world.clock.seconds = 60
    after = await world.do(local, "update_project", name="shop", description="new")
    assert (after.description, after.type, after.path) == ("new", made.type, made.path)
    assert after.updated_at > made.updated_at
    cleared = await world.do(local, "update_project", name="shop", description="", path="")
    assert (cleared.description, cleared.path) == ("", None)


async def test_an_update_that_changes_nothing_makes_no_new_version(world: World):
    made = await world.do(world.caller(), "create_project", name="shop", description="same")
    world.clock.seconds = 60
    assert await world.do(world.caller(), "update_project", name="shop", description="same") == made


# -- where a project may lie


async def test_over_http_no_path_is_taken_unless_the_operator_set_roots(world: World):
    with pytest.raises(Invalid, match="QUAYMASTER_PROJECT_ROOTS"):
        await world.do(world.caller(), "create_project", name="shop", path="/srv/shop")


@pytest.mark.parametrize("transport", ["http", "stdio"])
async def test_a_link_that_leads_out_of_the_roots_is_refused(
    make_world: MakeWorld, tmp_path: Path, transport: str
):
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    world = await make_world(roots=(str(root),))
    caller = world.caller(transport=transport)
    with pytest.raises(Invalid):
        await world.do(caller, "create_project", name="shop", path=str(root / "link" / "shop"))
    with pytest.raises(Invalid):
        await world.do(caller, "create_project", name="shop", path=str(outside))
    made = await world.do(caller, "create_project", name="shop", path=str(root / "new" / "shop"))
    assert made.path == os.path.realpath(root / "new" / "shop")
    with pytest.raises(Invalid):
        await world.do(caller, "update_project", name="shop", path=str(root / "link"))


@pytest.mark.parametrize("place", [".", "db", "db/app", ".."])
async def test_over_http_a_path_leads_to_no_project_of_another_team(
    make_world: MakeWorld, tmp_path: Path, place: str
):
    world = await make_world(roots=(str(tmp_path),))
    await world.team("others")
    ours, foreign = world.caller(), world.caller(team_id="others")
    shop = tmp_path / "all" / "shop"
    await world.do(ours, "create_project", name="shop", path=str(shop))
    with pytest.raises(Invalid, match="another team"):
        await world.do(foreign, "create_project", name="spy", path=str(shop / place))
    await world.do(foreign, "create_project", name="spy", path=f"{shop}-of-others")
    with pytest.raises(Invalid, match="another team"):
        await world.do(foreign, "update_project", name="spy", path=str(shop / place))
    await world.do(ours, "create_project", name="within", path=str(shop / "db"))


async def test_of_two_teams_that_claim_one_place_in_the_same_instant_one_gets_it(
    workshop: Workshop, tmp_path: Path
):
    projects = Projects(workshop.calls, roots=(str(tmp_path),), quota=100)
    made: list[str] = []

    async def claim(caller: Caller, action: str, name: str, path: Path) -> None:
        use_case = projects.create if action == "create_project" else projects.update
        with suppress(Invalid):
            made.append((await workshop.ask(caller, action, use_case, name=name, path=str(path))).name)

    for turn in range(12):
        place = tmp_path / str(turn)
        async with anyio.create_task_group() as group:
            group.start_soon(claim, ADA, "create_project", f"ours-{turn}", place)
            group.start_soon(claim, EVE, "update_project", "den", place / "db")
        assert len(made) == turn + 1, made


async def test_a_root_that_is_a_link_itself_holds_what_lies_behind_it(make_world: MakeWorld, tmp_path: Path):
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "alias").symlink_to(real)
    world = await make_world(roots=(str(tmp_path / "alias"),))
    for name, path in (("one", tmp_path / "alias" / "one"), ("two", real / "two")):
        made = await world.do(world.caller(), "create_project", name=name, path=str(path))
        assert made.path == os.path.realpath(path)


# -- deletion


async def _fill(world: World, name: str) -> None:
    """One record of everything that belongs to a project."""

    async def transaction(tx: Transaction) -> None:
        await tx.tasks.add(
            Task(
                id=f"task-{name}",
                team_id="red",
                project=name,
                title="Paint it",
                author="ann",
                created_at=START,
                updated_at=START,
            )
        )
        await tx.lock_scopes.add(LockScope(project=name, fence=1))
        await tx.locks.add(
            Lock(
                id=f"lock-{name}",
                team_id="red",
                project=name,
                path="src/a.py",
                mode="editing",
                holder="k",
                fence=1,
                locked_at=START,
                expires_at=START,
                lease_seconds=60,
            )
        )
        await tx.slots.add(SlotPair(project=name, environment="staging", updated_at=START))
        await tx.deployments.add(
            Deployment(id=f"d-{name}", project=name, environment="staging", slot="blue", created_at=START)
        )
        await tx.domains.add(
            DomainName(domain=f"{name}.example.test", project=name, created_at=START, updated_at=START)
        )
        await tx.environments.add(
            ProjectEnvironment(
                project=name, environment="staging", env_data={"A": "1"}, created_at=START, updated_at=START
            )
        )
        await tx.environment_versions.add(
            EnvironmentVersion(
                project=name, environment="staging", version=1, env_data={"A": "1"}, created_at=START
            )
        )

    await world.store.run(transaction, SETUP)


async def _left_of(world: World, name: str) -> list[str]:
    """The nouns that still have a record of the project."""
    keys = {
        "projects": name,
        "tasks": f"task-{name}",
        "lock_scopes": name,
        "locks": f"lock-{name}",
        "slots": f"{name}/staging",
        "deployments": f"d-{name}",
        "domains": f"{name}.example.test",
        "environments": f"{name}/staging",
        "environment_versions": f"{name}/staging/1",
    }

    async def reading(tx: Reading) -> list[str]:
        return [noun for noun, key in keys.items() if await getattr(tx, noun).get(key) is not None]

    assert set(keys) | {
        "teams",
        "members",
        "keys",
        "plans",
        "idempotency",
        "conflicts",
    } | NOT_THE_PROJECTS == {kind.noun for kind in RECORDS}
    return await world.store.read(reading)


async def test_a_plan_lists_all_that_is_lost_and_loses_nothing_yet(world: World):
    await world.do(world.caller(), "create_project", name="shop")
    await _fill(world, "shop")
    plan = await world.do(world.caller(), "delete_project", name="shop")
    assert plan.status == "planned"
    assert plan.message.startswith("Nothing has been changed yet")
    text = "\n".join(plan.effects)
    for part in ("Paint it", "src/a.py", "staging", "d-shop", "shop.example.test", "1 environment version"):
        assert part in text
    assert len(await _left_of(world, "shop")) == 9


async def test_a_deletion_takes_all_that_belongs_to_the_project_and_nothing_of_another(world: World):
    for name in ("shop", "blog"):
        await world.do(world.caller(), "create_project", name=name)
        await _fill(world, name)
    done = await world.planned(world.caller("admin"), "delete_project", name="shop")
    assert done.status == "done"
    assert await _left_of(world, "shop") == []
    assert len(await _left_of(world, "blog")) == 9


async def test_a_deleted_name_is_free_and_the_old_plan_does_not_reach_the_new_project(world: World):
    owner = world.caller()
    await world.do(owner, "create_project", name="shop")
    old = await world.do(owner, "delete_project", name="shop")
    await world.planned(owner, "delete_project", name="shop")
    await world.do(owner, "create_project", name="shop")
    with pytest.raises(PlanStale):
        await world.do(owner, "delete_project", name="shop", plan_token=old.plan_token)
    assert (await world.do(owner, "get_project", name="shop")).name == "shop"


async def test_many_belongings_are_counted_and_only_the_first_are_named(world: World):
    await world.do(world.caller(), "create_project", name="shop")

    async def transaction(tx: Transaction) -> None:
        for at in range(250):
            await tx.tasks.add(
                Task(
                    id=f"task-{at:03}",
                    team_id="red",
                    project="shop",
                    title=f"T{at}",
                    author="ann",
                    created_at=START,
                    updated_at=START,
                )
            )

    await world.store.run(transaction, SETUP)
    plan = await world.do(world.caller(), "delete_project", name="shop")
    assert any(effect.startswith("250 tasks") and "240 more" in effect for effect in plan.effects)
    done = await world.do(world.caller(), "delete_project", name="shop", plan_token=plan.plan_token)
    assert done.status == "done"
