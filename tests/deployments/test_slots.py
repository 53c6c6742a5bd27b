"""The table of slots, and what no sequence of events can break."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_server.domain.errors import Conflict
from mcp_server.domain.slots import (
    TRANSITIONS,
    Slot,
    SlotPair,
    after,
    expired,
    filled,
    other,
    promoted,
    rolled_back,
    vacated,
)

T0 = datetime(2026, 5, 1, tzinfo=UTC)
EVENTS = ("deploy", "promote", "give_grace", "restore", "step_back", "clear", "expire")
TABLE = {
    ("empty", "deploy"): "deployed",
    ("deployed", "promote"): "active",
    ("deployed", "restore"): "active",
    ("deployed", "clear"): "empty",
    ("active", "give_grace"): "grace",
    ("active", "step_back"): "deployed",
    ("grace", "restore"): "active",
    ("grace", "clear"): "empty",
    ("grace", "expire"): "empty",
}
"""Written out a second time on purpose."""


@pytest.mark.parametrize("state", list(TRANSITIONS))
@pytest.mark.parametrize("event", EVENTS)
def test_a_slot_changes_as_the_table_says_and_not_otherwise(state, event):
    wanted = TABLE.get((state, event))
    if wanted is None:
        with pytest.raises(Conflict):
            after(state, event)
    else:
        assert after(state, event) == wanted


def pair(**fields) -> SlotPair:
    return SlotPair(project="app", environment="staging", updated_at=T0, **fields)


def test_the_first_deploy_goes_to_blue_and_again_to_blue_until_it_is_promoted():
    assert pair().idle == "blue"
    once = filled(pair(), "blue", Slot(deployment="d1"), T0)
    assert (once.active, once.idle) == (None, "blue")
    assert promoted(once, "blue", T0, 48).idle == "green"


def test_after_a_rollback_the_slot_that_was_active_is_deployed_and_nothing_is_left_to_roll_back_to():
    now = filled(pair(), "blue", Slot(deployment="d1"), T0)
    now = filled(promoted(now, "blue", T0, 48), "green", Slot(deployment="d2"), T0)
    now = promoted(now, "green", T0, 48)
    assert (now.previous, now.grace_expires_at) == ("d1", T0 + timedelta(hours=48))
    back = rolled_back(now, "blue", T0)
    assert (back.active, back.green.state, back.previous, back.grace_expires_at) == (
        "blue",
        "deployed",
        None,
        None,
    )


def test_a_deploy_over_grace_keeps_the_name_of_what_a_rollback_leads_back_to():
    now = filled(pair(), "blue", Slot(deployment="d1"), T0)
    now = filled(promoted(now, "blue", T0, 48), "green", Slot(deployment="d2"), T0)
    now = vacated(promoted(now, "green", T0, 48), "blue", T0)
    assert (now.previous, now.blue.state, now.grace_expires_at) == ("d1", "empty", None)


@given(st.lists(st.sampled_from(["deploy", "promote", "rollback", "expire", "clean", "grow"]), max_size=40))
def test_never_two_are_active_and_there_is_always_room_for_the_next_deploy(events):
    now, number = pair(), 0
    for event in events:
        idle = now.idle
        held = now.slot(idle).state
        if event == "deploy":
            number += 1
            emptied = vacated(now, idle, T0)
            now = filled(emptied, idle, Slot(deployment=f"d{number}", port=4500), T0)
        elif event == "promote" and held == "deployed":
            before = now.slot(now.active).deployment if now.active else None
            now = promoted(now, idle, T0, 48)
            assert now.previous == before
        elif event == "rollback" and now.previous is not None and held in ("grace", "deployed"):
            if now.slot(idle).deployment == now.previous:
                now = rolled_back(now, idle, T0)
        elif event == "expire" and held == "grace":
            now = expired(now, idle, T0)
        elif event == "clean" and held in ("deployed", "grace"):
            now = vacated(now, idle, T0)
        states = [now.blue.state, now.green.state]
        assert states.count("active") <= 1
        assert states.count("grace") <= 1
        assert now.slot(now.idle).state != "active"
        if now.active:
            assert other(now.active) == now.idle
        assert (now.grace_expires_at is not None) == ("grace" in states)
