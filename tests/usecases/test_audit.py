"""The audit log: the own team's rows, by filter, page by page."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from mcp_server.domain.errors import Invalid, NotFound
from tests.usecases.world import START, World


@pytest.fixture
async def busy(world: World) -> World:
    """Six calls a second apart: two made projects, a read, one that is not found, and two of another key."""
    owner, viewer = world.caller(), world.caller("viewer")
    await world.do(owner, "create_project", name="shop")
    world.clock.seconds = 1
    await world.do(owner, "create_project", name="blog")
    world.clock.seconds = 2
    await world.do(viewer, "get_project", name="shop")
    world.clock.seconds = 3
    with pytest.raises(NotFound):
        await world.do(viewer, "get_project", name="none")
    world.clock.seconds = 4
    await world.do(world.caller(team_id="blue"), "create_project", name="den")
    world.clock.seconds = 5
    await world.do(owner, "update_project", name="shop", description="words")
    await world.trail.flush()
    return world


async def _found(world: World, **filters: Any) -> list[str]:
    page = await world.do(world.caller("admin"), "query_audit", **filters)
    return [f"{item.action} {item.about}" for item in page.items if item.action != "query_audit"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (
            {},
            [
                "update_project projects/shop",
                "get_project projects/none",
                "get_project projects/shop",
                "create_project projects/blog",
                "create_project projects/shop",
            ],
        ),
        ({"action": "create_project"}, ["create_project projects/blog", "create_project projects/shop"]),
        ({"success": False}, ["get_project projects/none"]),
        ({"resource": "projects", "resource_id": "blog"}, ["create_project projects/blog"]),
        ({"key_id": "red-viewer"}, ["get_project projects/none", "get_project projects/shop"]),
        ({"key_id": "blue-owner"}, []),
        (
            {"since": START + timedelta(seconds=1), "until": START + timedelta(seconds=3)},
            ["get_project projects/shop", "create_project projects/blog"],
        ),
        ({"action": "create_project", "key_id": "red-viewer"}, []),
    ],
)
async def test_every_filter_narrows_and_the_newest_comes_first(
    busy: World, filters: dict[str, Any], expected: list[str]
):
    assert await _found(busy, **filters) == expected


async def test_pages_together_are_the_whole_list_without_a_row_twice(busy: World):
    until = START + timedelta(seconds=60)
    whole = await busy.do(busy.caller(), "query_audit", until=until, since=START)
    pages: list[Any] = []
    cursor = None
    while True:
        page = await busy.do(
            busy.caller(),
            "query_audit",
            until=busy.clock.now() + timedelta(seconds=1),
            limit=2,
            cursor=cursor,
        )
        assert len(page.items) <= 2
        pages += page.items
        cursor = page.cursor
        if cursor is None:
            break
    assert [item.at for item in pages] == [item.at for item in whole.items]


async def test_rows_of_the_same_moment_are_paged_too(world: World):
    for at in range(5):
        await world.do(world.caller(), "create_project", name=f"p{at}")
    seen: list[str] = []
    cursor = None
    while True:
        page = await world.do(world.caller(), "query_audit", action="create_project", limit=1, cursor=cursor)
        seen += [str(item.about) for item in page.items]
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(seen) == [f"projects/p{at}" for at in range(5)]


async def test_a_row_is_short_and_has_its_parameters_when_asked_for(busy: World):
    plain = await busy.do(busy.caller(), "query_audit", action="update_project")
    assert plain.items[0].params is None
    full = await busy.do(busy.caller(), "query_audit", action="update_project", with_params=True)
    assert full.items[0].params == {"name": "shop", "description": "words"}
    assert (full.items[0].ok, full.items[0].user, full.items[0].key_id) == (True, "red owner", "red-owner")


@pytest.mark.parametrize(
    "arguments",
    [
        {"since": datetime(2026, 1, 31)},  # noqa: DTZ001 - what is refused
        {"until": datetime(2026, 1, 31)},  # noqa: DTZ001 - what is refused
        {"since": datetime.fromisoformat("0001-01-01T00:00:00+23:59")},
        {"until": datetime.fromisoformat("9999-12-31T23:59:59-23:59")},
        {"limit": 0},
        {"cursor": "nonsense"},
        {"cursor": "W10"},
    ],
)
async def test_what_is_no_time_limit_or_cursor_is_refused_by_its_field(
    world: World, arguments: dict[str, Any]
):
    with pytest.raises(Invalid) as refusal:
        await world.do(world.caller(), "query_audit", **arguments)
    assert refusal.value.details["fields"].keys() == arguments.keys()


async def test_asking_for_the_log_is_in_the_log(world: World):
    await world.do(world.caller(), "query_audit")
    assert [row.action for row in await world.rows()] == ["query_audit"]
