"""Work tasks as a caller meets them, over every store."""

import itertools
from dataclasses import replace
from typing import get_args

import pytest

from mcp_server.domain.errors import Conflict, Forbidden, Invalid, NotFound, QuotaExceeded
from mcp_server.domain.tasks import ENDED, TRANSITIONS, TaskStatus
from mcp_server.services.tasks import Tasks
from tests.usecases.workshops import ANN, BOB, EVE, VIC, Workshop

STATUSES: tuple[TaskStatus, ...] = get_args(TaskStatus)
WAY_TO: dict[TaskStatus, tuple[TaskStatus, ...]] = {
    "draft": (),
    "in-progress": ("in-progress",),
    "review": ("in-progress", "review"),
    "done": ("in-progress", "done"),
    "deployed": ("in-progress", "done", "deployed"),
    "cancelled": ("cancelled",),
}


async def test_a_new_task_is_a_draft_of_its_author_with_canonical_files(workshop: Workshop):
    task = await workshop.create_task(
        ANN,
        "Pay by card",
        affected_files=["./src//a.py", "src/a.py"],
        affected_areas=["checkout"],
        branch="pay",
    )

    assert (task.status, task.author, task.priority) == ("draft", "ann", "medium")
    assert (task.affected_files, task.affected_areas) == (("src/a.py",), ("checkout",))
    assert await workshop.get_task(VIC, task.id) == task


@pytest.mark.parametrize(("before", "after"), list(itertools.product(STATUSES, STATUSES)))
async def test_a_task_moves_only_along_its_table(workshop: Workshop, before: TaskStatus, after: TaskStatus):
    task = await workshop.create_task(ANN)
    for status in WAY_TO[before]:
        task = await workshop.update_task(ANN, task.id, status=status)

    if after == before or after in TRANSITIONS[before]:
        moved = await workshop.update_task(ANN, task.id, status=after)
        assert moved.status == after
        assert set(moved.next_statuses) == TRANSITIONS[after]
    else:
        with pytest.raises(Conflict) as refused:
            await workshop.update_task(ANN, task.id, status=after)
        assert set(refused.value.details["allowed"]) == TRANSITIONS[before]
        assert (await workshop.get_task(ANN, task.id)).status == before


async def test_a_team_has_at_most_its_quota_of_open_tasks_and_ending_one_makes_room(workshop: Workshop):
    small = replace(workshop, tasks=Tasks(workshop.calls, quota=2))
    first, _ = await small.create_task(ANN), await small.create_task(ANN, project="blog")

    with pytest.raises(QuotaExceeded):
        await small.create_task(BOB)
    await small.update_task(ANN, first.id, status="cancelled")
    await small.create_task(BOB)
    with pytest.raises(QuotaExceeded):
        await small.update_task(ANN, first.id, status="draft")
    assert (await small.get_task(ANN, first.id)).status == "cancelled"
    await small.create_task(EVE, project="den")


async def test_an_update_changes_what_is_given_and_nothing_else(workshop: Workshop):
    task = await workshop.create_task(ANN, description="text", affected_areas=["a"])

    changed = await workshop.update_task(
        BOB, task.id, title="New", priority="high", pr_number=7, affected_files=["./x"], affected_areas=[]
    )

    assert (changed.title, changed.priority, changed.pr_number) == ("New", "high", 7)
    assert (changed.description, changed.status, changed.author) == ("text", "draft", "ann")
    assert (changed.affected_files, changed.affected_areas) == (("x",), ())
    assert changed.updated_at > task.updated_at


async def test_notes_have_author_and_time_and_the_newest_are_shown(workshop: Workshop):
    task = await workshop.create_task(ANN)
    for number in range(12):
        task = await workshop.update_task(BOB, task.id, note=f"step {number}")

    assert task.note_count == 12
    assert [note.note for note in task.notes] == [f"step {number}" for number in range(2, 12)]
    assert {note.author for note in task.notes} == {"bob"}
    assert task.notes[-1].date == task.updated_at


async def test_an_ill_note_or_status_leaves_the_whole_update_undone(workshop: Workshop):
    task = await workshop.create_task(ANN)

    with pytest.raises(Invalid):
        await workshop.update_task(ANN, task.id, title="New", note="")
    with pytest.raises(Conflict):
        await workshop.update_task(ANN, task.id, title="New", status="deployed")
    assert await workshop.get_task(ANN, task.id) == task


async def test_a_task_keeps_a_bounded_number_of_notes(workshop: Workshop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mcp_server.domain.tasks.MAX_NOTES", 2)
    task = await workshop.create_task(ANN)
    await workshop.update_task(ANN, task.id, note="1")
    await workshop.update_task(ANN, task.id, note="2")

    with pytest.raises(QuotaExceeded):
        await workshop.update_task(ANN, task.id, note="3")


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ("title", {"title": ""}),
        ("title", {"title": "x" * 501}),
        ("description", {"description": "x" * 20_001}),
        ("branch", {"branch": "x" * 256}),
        ("affected_files.1", {"affected_files": ["a", "../b"]}),
        ("affected_areas", {"affected_areas": [""]}),
        ("affected_areas", {"affected_areas": ["a"] * 101}),
    ],
)
async def test_a_field_out_of_bounds_is_named_and_its_value_is_not(workshop: Workshop, field, named):
    task = await workshop.create_task(ANN)

    for attempt in (
        workshop.create_task(ANN, **{"title": "t", **named}),
        workshop.update_task(ANN, task.id, **named),
    ):
        with pytest.raises(Invalid) as refused:
            await attempt
        assert list(refused.value.details["fields"]) == [field]
        assert "xxx" not in str(refused.value.payload())


@pytest.mark.parametrize("status", sorted(ENDED))
async def test_a_task_that_ends_releases_its_locks_and_tells_their_other_holders(
    workshop: Workshop, status: TaskStatus
):
    task = await workshop.create_task(ANN)
    for step in WAY_TO[status][:-1] if status != "deployed" else ("in-progress",):
        await workshop.update_task(ANN, task.id, status=step)
    await workshop.lock(ANN, "a.py", task_id=task.id)
    await workshop.lock(BOB, "b.py", task_id=task.id)
    await workshop.lock(BOB, "c.py")

    last = "done" if status == "deployed" else status
    ended = await workshop.update_task(ANN, task.id, status=last)

    assert ended.notices == ("released 2 locks of this task",)
    assert list(await workshop.held()) == ["c.py"]
    told = await workshop.check(BOB, "d.py", task_id=task.id)
    assert told.notices == (f"lost: b.py: the task ended ({last})",)


async def test_an_update_that_fails_releases_nothing(workshop: Workshop):
    task = await workshop.create_task(ANN)
    await workshop.lock(ANN, "a.py", task_id=task.id)

    with pytest.raises(Invalid):
        await workshop.update_task(ANN, task.id, status="cancelled", note="")
    assert list(await workshop.held()) == ["a.py"]


async def test_tasks_are_listed_newest_first_by_status_and_author_in_pages(workshop: Workshop):
    made = [await workshop.create_task((ANN, BOB)[n % 2], f"task {n}") for n in range(5)]
    await workshop.update_task(ANN, made[0].id, status="in-progress")
    await workshop.update_task(ANN, made[4].id, status="cancelled")

    async def titles(**named):
        page = await workshop.ask(VIC, "list_tasks", workshop.tasks.list, "shop", **named)
        return [task.title for task in page.tasks], page.cursor

    assert (await titles())[0] == ["task 4", "task 3", "task 2", "task 1", "task 0"]
    assert (await titles(author="bob"))[0] == ["task 3", "task 1"]
    assert (await titles(status="draft"))[0] == ["task 3", "task 2", "task 1"]
    assert (await titles(status=["in-progress", "cancelled"]))[0] == ["task 4", "task 0"]
    first, cursor = await titles(limit=3)
    assert (first, (await titles(limit=3, cursor=cursor))[0]) == (
        ["task 4", "task 3", "task 2"],
        ["task 1", "task 0"],
    )
    for limit in (0, 201):
        with pytest.raises(Invalid):
            await titles(limit=limit)


async def test_a_foreign_task_or_project_is_not_found(workshop: Workshop):
    task = await workshop.create_task(ANN)

    for attempt in (
        workshop.get_task(EVE, task.id),
        workshop.update_task(EVE, task.id, note="hello"),
        workshop.create_task(EVE),
        workshop.ask(EVE, "list_tasks", workshop.tasks.list, "shop"),
        workshop.get_task(ANN, "task-none"),
    ):
        with pytest.raises(NotFound):
            await attempt


async def test_a_viewer_reads_and_changes_nothing(workshop: Workshop):
    task = await workshop.create_task(ANN)

    await workshop.get_task(VIC, task.id)
    for attempt in (workshop.create_task(VIC), workshop.update_task(VIC, task.id, note="x")):
        with pytest.raises(Forbidden):
            await attempt


async def test_a_repeated_creation_makes_one_task(workshop: Workshop):
    first = await workshop.create_task(ANN, key="once")

    assert (await workshop.create_task(ANN, key="once")).id == first.id
    with pytest.raises(Conflict):
        await workshop.create_task(ANN, "Another", key="once")
    page = await workshop.ask(ANN, "list_tasks", workshop.tasks.list, "shop")
    assert len(page.tasks) == 1


async def test_two_callers_with_the_same_key_make_two_tasks(workshop: Workshop):
    await workshop.create_task(ANN, "one", key="1")
    await workshop.create_task(BOB, "two", key="1")

    page = await workshop.ask(ANN, "list_tasks", workshop.tasks.list, "shop")
    assert {task.title for task in page.tasks} == {"one", "two"}
