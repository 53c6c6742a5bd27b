"""What becomes of a change that was made while PostgreSQL was away: every row of the table, and what holds for all of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_server.domain.changes import Change
from mcp_server.domain.locks import LostLock
from mcp_server.domain.merging import Decision, Keep, Leave, Write, decide, overlapped, parents, same
from mcp_server.domain.nouns import RECORDS
from mcp_server.domain.records import Record
from mcp_server.domain.tasks import Note
from tests.store import samples
from tests.store.samples import SAMPLES, T0, at

NOUNS = [kind.noun for kind in RECORDS]


LATER = at(2000)


def merge(
    before: Record | None, ours: Record | None, theirs: Record | None, when: datetime = LATER
) -> Decision:
    some = ours or before or theirs
    assert some is not None
    return decide(Change(some.noun, some.key, 0, 0, ours, before), theirs, when)


def written(decision: Decision) -> Any:
    assert isinstance(decision, Write), decision
    return decision.record


def kept(decision: Decision) -> str:
    assert isinstance(decision, Keep), decision
    return decision.reason


# -- for all nouns


@pytest.mark.parametrize("noun", NOUNS)
def test_what_only_we_changed_is_written(noun: str) -> None:
    before = SAMPLES[noun].make().change(rev=3)
    ours = SAMPLES[noun].other(before).change(rev=9)
    assert written(merge(before, ours, before)) == ours
    assert written(merge(None, ours, None)) == ours
    assert merge(before, None, before) == Write(None)


@pytest.mark.parametrize("noun", NOUNS)
def test_what_both_made_the_same_is_left(noun: str) -> None:
    before = SAMPLES[noun].make()
    ours = SAMPLES[noun].other(before)
    assert merge(before, ours, ours.change(rev=17)) == Leave()
    assert merge(before, None, None) == Leave()


@pytest.mark.parametrize("noun", NOUNS)
def test_what_only_postgresql_changed_is_left(noun: str) -> None:
    before = SAMPLES[noun].make()
    theirs = SAMPLES[noun].other(before)
    decision = merge(before, before, theirs)
    assert decision == Leave() or same(written(decision), theirs) or noun in OURS_WINS


OURS_WINS = {"slots", "branches", "backups", "databases", "database_servers", "deployments", "environments"}


def test_a_later_use_is_no_change() -> None:
    before = samples.key()
    used = before.change(last_used_at=at(50), rev=4)
    assert same(before, used)
    ours = before.change(name="new")
    assert written(merge(before, ours, used)) == ours


# -- tasks


def test_fields_of_a_task_changed_on_each_side_are_both_there() -> None:
    before = samples.task()
    ours = before.change(title="ours", updated_at=at(5))
    theirs = before.change(status="in-progress", updated_at=at(9), rev=7)
    merged = written(merge(before, ours, theirs))
    assert (merged.title, merged.status, merged.updated_at, merged.rev) == ("ours", "in-progress", at(9), 7)
    assert merged.progress_notes == ()


@pytest.mark.parametrize(("mine", "yours", "winner"), [(5, 9, "theirs"), (9, 5, "ours"), (5, 5, "ours")])
def test_of_one_field_of_a_task_the_later_change_stays_and_the_other_is_a_note(
    mine: int, yours: int, winner: str
) -> None:
    before = samples.task()
    ours = before.change(title="ours", updated_at=at(mine))
    theirs = before.change(title="theirs", updated_at=at(yours))
    merged = written(merge(before, ours, theirs))
    assert merged.title == winner
    (note,) = merged.progress_notes
    loser = {"ours": "theirs", "theirs": "ours"}[winner]
    assert f"title was also set to '{loser}'" in note.note
    assert note.author == "quaymaster"


@pytest.mark.parametrize(("mine", "yours"), [(5, 9), (9, 5)])
def test_the_note_of_a_clash_is_written_once(mine: int, yours: int) -> None:
    before = samples.task()
    ours = before.change(title="ours", updated_at=at(mine))
    merged = written(merge(before, ours, before.change(title="theirs", updated_at=at(yours))))
    assert merge(before, ours, merged) == Leave()


def test_notes_of_both_sides_are_kept_once_in_order() -> None:
    first, second, third = (Note(date=at(n), note=f"n{n}", author="a") for n in (1, 2, 3))
    before = samples.task(progress_notes=(first,))
    ours = before.change(progress_notes=(first, third))
    theirs = before.change(progress_notes=(first, second))
    assert written(merge(before, ours, theirs)).progress_notes == (first, second, third)


def test_a_task_deleted_in_postgresql_and_changed_here_is_kept() -> None:
    before = samples.task()
    assert "deleted in PostgreSQL" in kept(merge(before, before.change(title="x"), None))


# -- locks


def test_a_release_is_done_though_the_lease_was_renewed() -> None:
    before = samples.lock()
    theirs = before.change(expires_at=at(1200))
    assert merge(before, None, theirs, at(800)) == Write(None)


def test_a_removal_never_meets_a_newer_grant_of_the_same_holder() -> None:
    before = samples.lock()
    again = before.change(fence=before.fence + 1, expires_at=at(1800))
    assert merge(before, None, again, at(800)) == Leave()


def test_a_lease_that_ended_here_and_was_renewed_there_goes_on() -> None:
    before = samples.lock()
    assert merge(before, None, before.change(expires_at=at(1800)), at(900)) == Leave()
    assert merge(before, None, before.change(change_description="x"), at(900)) == Write(None)


def test_a_renewal_of_a_lock_that_is_gone_is_not_done_and_its_holder_hears_of_it() -> None:
    before = samples.lock()
    assert merge(before, before.change(expires_at=at(1800)), None) == Leave(lost=True)


def test_a_renewal_on_both_sides_lasts_to_the_later_end() -> None:
    before = samples.lock()
    ours, theirs = before.change(expires_at=at(1000)), before.change(expires_at=at(2000), rev=2)
    assert written(merge(before, theirs, ours)).expires_at == at(2000)
    assert merge(before, ours, theirs) == Leave()


def test_the_same_grant_on_both_sides_keeps_the_lower_fence_and_never_becomes_exclusive() -> None:
    theirs = samples.lock(fence=1_000_001)
    ours = theirs.change(fence=2_000_001, expires_at=at(950))
    assert written(merge(None, ours, theirs)).fence == 1_000_001
    assert merge(None, ours, theirs.change(mode="reviewing")) == Leave(lost=True)


@pytest.mark.parametrize(("ours", "theirs", "gives_way"), [(5, 4, True), (5, 5, True), (4, 5, False)])
def test_of_two_overlapping_locks_the_lower_fence_stays(ours: int, theirs: int, gives_way: bool) -> None:
    assert overlapped(samples.lock("a", fence=ours), samples.lock("b", fence=theirs)) is gives_way


# -- the other rows


def test_the_higher_fence_of_a_scope_stays_and_nobody_s_lost_lock_is_forgotten() -> None:
    lost = [LostLock(lock_id=str(n), holder="h", path="p", reason="r", at=at(n)) for n in range(3)]
    before = samples.scope(fence=1, lost=(lost[0],))
    ours = before.with_lost(lost[1]).change(fence=9)
    theirs = before.with_lost(lost[2]).change(fence=5)
    merged = written(merge(before, ours, theirs))
    assert merged.fence == 9
    assert {one.lock_id for one in merged.lost} == {"0", "1", "2"}
    assert written(merge(before, theirs, ours)).fence == 9


def test_both_environments_are_kept_ours_as_the_next_version() -> None:
    before = samples.environment()
    theirs = before.change(version=4, env_data={"A": "theirs"}, rev=8)
    ours = before.change(version=2, env_data={"A": "ours"}, updated_at=at(3), created_by="ann")
    decision = merge(before, ours, theirs)
    record = written(decision)
    assert (record.version, record.env_data) == (5, {"A": "ours"})
    assert isinstance(decision, Write)
    (version,) = decision.also
    assert (version.key, version.env_data, version.created_by) == ("app/staging/5", {"A": "ours"}, "ann")  # type: ignore[attr-defined]


def test_an_environment_version_is_written_once() -> None:
    ours, theirs = samples.environment_version(env_data={"A": "x"}), samples.environment_version()
    assert merge(None, ours, theirs) == Leave()


@pytest.mark.parametrize("noun", ["slots", "deployments", "databases", "database_servers"])
def test_what_this_host_observed_wins(noun: str) -> None:
    before = SAMPLES[noun].make()
    ours = SAMPLES[noun].other(before)
    theirs = before.change(**{_some_field(before): _other_value(before)}, rev=5)
    assert written(merge(before, ours, theirs)) == ours
    assert kept(merge(before, ours, None))


def _some_field(record: Record) -> str:
    return {"slots": "updated_at"}.get(record.noun, "created_at")


def _other_value(record: Record) -> datetime:
    return T0 + timedelta(days=1)


def test_a_revocation_wins_on_either_side_and_the_earlier_one_stays() -> None:
    before = samples.key()
    revoked, named = before.change(revoked_at=at(5)), before.change(name="theirs")
    for ours, theirs in ((revoked, named), (named, revoked)):
        merged = written(merge(before, ours, theirs))
        assert (merged.revoked_at, merged.name) == (at(5), "theirs")
    later = before.change(revoked_at=at(9))
    assert written(merge(before, revoked, later)).revoked_at == at(5)
    assert merge(before, later, revoked) == Leave()


def test_a_key_changed_on_both_sides_is_kept_unless_it_is_revoked() -> None:
    before = samples.key()
    ours, theirs = before.change(name="a"), before.change(name="b")
    assert "name" in kept(merge(before, ours, theirs))
    assert written(merge(before, ours.change(revoked_at=at(5)), theirs)).revoked_at == at(5)
    assert merge(before, ours, None) == Leave()


def test_the_first_remembered_result_stays_and_a_used_plan_stays_used() -> None:
    assert merge(None, samples.remembered(result={"id": "ours"}), samples.remembered()) == Leave()
    before = samples.plan()
    used = before.change(used_at=at(8))
    other = before.change(effects=("two",))
    assert written(merge(before, used, other)).used_at == at(8)
    assert merge(before, other, used) == Leave()
    assert merge(before, None, used) == Leave()


@pytest.mark.parametrize(
    ("before", "ours", "theirs"),
    [
        (samples.project(), samples.project(description="a"), samples.project(description="b")),
        (samples.team(), samples.team(name="a"), samples.team(name="b")),
        (samples.member(), samples.member(role="admin"), samples.member(role="viewer")),
        (samples.domain(), samples.domain(status="active"), samples.domain(status="error")),
        (None, samples.project(uid="1"), samples.project(uid="2")),
        (samples.project(), None, samples.project(description="b")),
        (samples.project(), samples.project(description="a"), None),
        (samples.domain(), None, samples.domain(status="active")),
    ],
)
def test_the_rest_is_kept_for_a_person_where_it_cannot_be_merged(
    before: Record | None, ours: Record | None, theirs: Record | None
) -> None:
    assert kept(merge(before, ours, theirs))


def test_the_rest_is_merged_by_field_where_it_can() -> None:
    before = samples.project()
    ours = before.change(description="a", updated_at=at(4))
    theirs = before.change(path="/srv/app", updated_at=at(3), rev=6)
    merged = written(merge(before, ours, theirs))
    assert (merged.description, merged.path, merged.updated_at, merged.rev) == ("a", "/srv/app", at(4), 6)


def test_a_record_knows_its_parents() -> None:
    assert parents(samples.task()) == (("teams", "acme"), ("projects", "app"))
    assert parents(samples.member()) == (("teams", "acme"),)
    assert parents(samples.environment()) == (("projects", "app"),)
    assert parents(samples.team()) == ()
    assert parents(samples.plan()) == ()


# -- for all records of all histories


def versions(noun: str) -> st.SearchStrategy[Record | None]:
    base = SAMPLES[noun].make()
    other = SAMPLES[noun].other(base)
    fields = [name for name in type(base).model_fields if getattr(base, name) != getattr(other, name)]
    clocks = [name for name in ("updated_at",) if name in type(base).model_fields]

    def build(taken: set[str], second: int, tag: str) -> Record:
        values = {name: getattr(other, name) for name in taken}
        values |= {name: at(second) for name in clocks}
        if noun == "tasks":
            values["title"] = f"title {tag}"
        if noun == "environments":
            values["env_data"] = {"A": tag}
        return base.change(**values)

    made = st.builds(build, st.sets(st.sampled_from(fields)), st.integers(0, 9), st.sampled_from("xyz"))
    return st.none() | made


@st.composite
def histories(draw: st.DrawFn) -> tuple[Record | None, Record | None, Record | None]:
    one = versions(draw(st.sampled_from([*NOUNS, "tasks", "tasks", "environments", "projects"])))
    return draw(one), draw(one), draw(one)


@settings(max_examples=500)
@given(history=histories(), when=st.sampled_from([at(1), at(1000), at(5000)]))
def test_a_change_applied_twice_is_applied_once(
    history: tuple[Record | None, Record | None, Record | None], when: datetime
) -> None:
    before, ours, theirs = history
    if before is None and ours is None:
        return
    first = merge(before, ours, theirs, when)
    if not isinstance(first, Write):
        assert merge(before, ours, theirs, when) == first
        return
    again = merge(before, ours, first.record, when)
    assert isinstance(again, Leave) or (isinstance(again, Write) and same(again.record, first.record))


@settings(max_examples=500)
@given(history=histories(), when=st.sampled_from([at(1), at(5000)]))
def test_nothing_that_both_changed_disappears_without_a_word(
    history: tuple[Record | None, Record | None, Record | None], when: datetime
) -> None:
    """For what people write: the outcome holds both versions, or both are kept."""
    before, ours, theirs = history
    if (
        before is None
        or ours is None
        or theirs is None
        or ours.noun not in ("tasks", "projects", "environments")
    ):
        return
    decision = merge(before, ours, theirs, when)
    if isinstance(decision, Keep | Leave):
        assert isinstance(decision, Keep) or _holds(theirs, before, ours)
        return
    assert decision.record is not None
    shown = "\n".join(_texts([dict(decision.record), [dict(record) for record in decision.also]]))
    for name in ("title", "description"):
        for side in (ours, theirs):
            value = getattr(side, name, None)
            if value is not None and value != getattr(before, name):
                assert value in shown


def _texts(value: object) -> list[str]:
    if isinstance(value, Note):
        return [value.note]
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    if isinstance(value, list | tuple):
        return [text for each in value for text in _texts(each)]
    return [str(value)]


def _holds(record: Record, before: Record, change: Record) -> bool:
    """Whether the record has all that the change set."""
    return all(
        getattr(record, name) == value or name in ("updated_at", "version", "created_by", "created_at")
        for name, value in change
        if value != getattr(before, name)
    )
