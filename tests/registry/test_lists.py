"""Lists, against the plain definition of their order, through transactions and reloads."""

import random
from datetime import timedelta
from typing import Any

import pytest

from mcp_server.domain.deployments import Deployment
from mcp_server.domain.environments import EnvironmentVersion
from mcp_server.domain.errors import Invalid
from mcp_server.domain.pages import encode_cursor
from mcp_server.domain.slots import SlotPair
from tests.registry.samples import INTENT, NOON, add, lock, project, task, team


async def whole(mirror: Any, noun: str, name: str, *given: Any, limit: int = 3, **options: Any) -> list[str]:
    """The keys of a list, gathered page by page."""
    keys, after = [], None
    while True:
        page = await mirror.read(
            lambda r, a=after: getattr(getattr(r, noun), name)(*given, limit=limit, after=a, **options)
        )
        assert len(page.items) <= limit
        keys += [record.key for record in page.items]
        after = page.cursor
        if after is None:
            return keys


def deployment(id_: str, environment: str, minutes: int) -> Deployment:
    return Deployment(
        id=id_,
        project="shop",
        environment=environment,
        slot="blue",
        created_at=NOON + timedelta(minutes=minutes),
    )


async def test_deployments_come_newest_first_and_by_environment(mirror):
    await add(mirror, *(deployment(f"d{n}", ("staging", "production")[n % 2], n // 2) for n in range(8)))
    expected = ["d6", "d7", "d4", "d5", "d2", "d3", "d0", "d1"]
    assert await whole(mirror, "deployments", "of_project", "shop") == expected
    assert await whole(mirror, "deployments", "of_project", "shop", environment="staging") == expected[::2]


async def test_versions_come_newest_first_also_beyond_nine(mirror):
    versions = [
        EnvironmentVersion(project="shop", environment="staging", version=n, env_data={}, created_at=NOON)
        for n in range(1, 13)
    ]
    await add(mirror, *versions)
    keys = await whole(mirror, "environment_versions", "of_environment", "shop", "staging")
    assert keys == [f"shop/staging/{n}" for n in range(12, 0, -1)]


def pair(project: str, environment: str) -> SlotPair:
    return SlotPair(project=project, environment=environment, updated_at=NOON)


async def test_slots_of_a_team_come_by_project_and_a_cursor_opens_no_other_team(mirror):
    await add(mirror, team("t2"), project("a"), project("other", "t2"), project("z"))
    environments = ("preview", "production", "staging")
    await add(mirror, *(pair(name, each) for name in ("a", "other", "shop", "z") for each in environments))
    expected = [f"{name}/{each}" for name in ("a", "shop", "z") for each in environments]
    for limit in (1, 2, 3, 4, 50):
        assert await whole(mirror, "slots", "of_team", "t1", limit=limit) == expected
    forged = encode_cursor("other", "")
    page = await mirror.read(lambda r: r.slots.of_team("t1", after=forged))
    assert [each.project for each in page.items] == ["shop"] * 3 + ["z"] * 3
    assert [each.environment for each in await mirror.read(lambda r: r.slots.of_project("a"))] == list(
        environments
    )


async def test_locks_come_by_path_and_those_of_a_task_are_found(mirror):
    await add(
        mirror,
        lock("l2", "src"),
        lock("l1", "doc", task_id="k"),
        lock("l3", "src", "h2", "reviewing", task_id="k"),
    )
    assert [each.id for each in await mirror.read(lambda r: r.locks.of_project("shop"))] == ["l1", "l2", "l3"]
    assert [each.id for each in await mirror.read(lambda r: r.locks.of_task("k"))] == ["l1", "l3"]


@pytest.mark.parametrize("cursor", ["x", "!!", "WyJhIl0", "WyJhIiwiYiJd"])
async def test_a_cursor_that_no_page_returned_is_invalid(mirror, cursor):
    with pytest.raises(Invalid):
        await mirror.read(lambda r: r.tasks.of_project("shop", after=cursor))


async def test_random_changes_keep_every_list_in_order_inside_a_transaction_outside_and_after_reloads(
    mirror, other, open_mirror, rounds
):
    """The lists are compared with a sort of all records, after each step, seen by each kind of reader."""
    draw = random.Random(7)
    model: dict[str, Any] = {}

    def expected(statuses: Any = None, author: Any = None) -> list[str]:
        kept = [
            each
            for each in model.values()
            if (statuses is None or each.status in statuses) and (author is None or each.author == author)
        ]
        return [each.id for each in sorted(kept, key=lambda each: (-each.created_at.timestamp(), each.id))]

    async def step(tx: Any) -> None:
        for _ in range(draw.randint(1, 4)):
            name = f"k{draw.randint(0, 25)}"
            known = await tx.tasks.hold(name)
            if known is None:
                at = NOON + timedelta(seconds=draw.randint(0, 5))
                model[name] = await tx.tasks.add(task(name, at=at, author=draw.choice("ab")))
            elif draw.random() < 0.3:
                await tx.tasks.remove(known)
                del model[name]
            else:
                model[name] = await tx.tasks.save(known.change(status=draw.choice(["draft", "review"])))
            page = await tx.tasks.of_project("shop", limit=100)
            assert [each.id for each in page.items] == expected()

    for number in range(rounds(40, 400)):
        await mirror.run(step, INTENT, line_id=f"l{number}", pending=False)
        if number % 10 == 9:
            await mirror.compact()
        for reader in (mirror, other, await open_mirror()) if number % 8 == 7 else (mirror, other):
            assert await whole(reader, "tasks", "of_project", "shop") == expected()
            assert await whole(
                reader, "tasks", "of_project", "shop", statuses=["review"], limit=2
            ) == expected(["review"])
            assert await whole(reader, "tasks", "of_project", "shop", author="a") == expected(None, "a")
            for record in model.values():
                assert await reader.read(lambda r, key=record.id: r.tasks.get(key)) == record
