"""What may follow what in the life of a task."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from mcp_server.domain.errors import Conflict
from mcp_server.domain.tasks import ENDED, TRANSITIONS, Task, TaskStatus, moved

NOW = datetime(2026, 1, 31, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
STATUSES: tuple[TaskStatus, ...] = get_args(TaskStatus)

# Written out a second time on purpose.
ALLOWED = {
    ("draft", "in-progress"),
    ("draft", "cancelled"),
    ("in-progress", "draft"),
    ("in-progress", "review"),
    ("in-progress", "done"),
    ("in-progress", "cancelled"),
    ("review", "in-progress"),
    ("review", "done"),
    ("review", "cancelled"),
    ("done", "in-progress"),
    ("done", "deployed"),
    ("done", "cancelled"),
    ("cancelled", "draft"),
}


def task(status: TaskStatus) -> Task:
    return Task(
        id="task-1",
        team_id="t-1",
        project="shop",
        title="Fix it",
        author="ann",
        status=status,
        created_at=NOW,
        updated_at=NOW,
    )


@pytest.mark.parametrize(("before", "after"), list(itertools.product(STATUSES, STATUSES)))
def test_a_task_moves_only_as_the_table_says(before: TaskStatus, after: TaskStatus):
    if before == after:
        assert moved(task(before), after, LATER) == task(before)
    elif (before, after) in ALLOWED:
        assert moved(task(before), after, LATER) == task(before).change(status=after, updated_at=LATER)
    else:
        with pytest.raises(Conflict) as refusal:
            moved(task(before), after, LATER)
        assert refusal.value.details["allowed"] == sorted(TRANSITIONS[before])


def test_every_status_is_in_the_table():
    assert set(TRANSITIONS) == set(STATUSES)


def test_every_status_but_the_first_is_reached_by_some_path():
    reached: set[TaskStatus] = {"draft"}
    for _ in STATUSES:
        reached |= {after for before in reached for after in TRANSITIONS[before]}
    assert reached == set(STATUSES)


def test_a_deployed_task_stays_deployed_and_holds_nothing():
    assert TRANSITIONS["deployed"] == frozenset()
    assert frozenset({"done", "deployed", "cancelled"}) == ENDED
