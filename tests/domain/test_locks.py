"""Who may have a lock, what a call finds ended, and that no sequence of calls gives two editors one file."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mcp_server.domain.callers import Caller, holder_of
from mcp_server.domain.errors import Invalid
from mcp_server.domain.locks import (
    LOST_KEPT,
    MAX_PATHS,
    Granted,
    Lock,
    LockMode,
    LockScope,
    Refused,
    Terms,
    canonical_paths,
    clashes_of,
    decide,
    expiry_notices,
    granted_locks,
    lock_id,
    lost_notices,
    next_fence,
    sweep,
)
from mcp_server.domain.paths import overlap
from mcp_server.domain.projects import Project

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
PROJECT = Project(name="shop", uid="p-1", team_id="t1", created_at=NOW, updated_at=NOW)


def a_lock(
    path: str, holder: str = "ann", mode: LockMode = "editing", *, fence: int = 1, ends: int = 900
) -> Lock:
    """A lock that ends `ends` seconds after NOW."""
    return Lock(
        id=lock_id(PROJECT.uid, holder, path),
        team_id="t1",
        project="shop",
        path=path,
        mode=mode,
        holder=holder,
        fence=fence,
        locked_at=NOW - timedelta(seconds=900 - min(ends, 900)),
        expires_at=NOW + timedelta(seconds=ends),
        lease_seconds=900,
    )


def terms(*paths: str, holder: str = "ann", mode: LockMode = "editing", lease: int = 900) -> Terms:
    return Terms(paths=paths, holder=holder, mode=mode, lease_seconds=lease)


# -- who may have it -----------------------------------------------------------------------------------

TABLE = [
    # held path, holder, mode, ends   asked path, mode         granted
    ("a.py", "bob", "editing", 900, "a.py", "editing", False),
    ("a.py", "bob", "editing", 900, "a.py", "reviewing", False),
    ("a.py", "bob", "reviewing", 900, "a.py", "editing", False),
    ("a.py", "bob", "reviewing", 900, "a.py", "reviewing", True),
    ("src/", "bob", "editing", 900, "src/a.py", "editing", False),
    ("src/a.py", "bob", "editing", 900, "src/", "editing", False),
    ("src/*.py", "bob", "editing", 900, "src/a*", "editing", False),
    ("src/*.py", "bob", "editing", 900, "src/a.ts", "editing", True),
    ("a.py", "bob", "editing", 900, "A.py", "editing", True),
    ("a.py", "bob", "editing", 900, "b.py", "editing", True),
    ("a.py", "bob", "editing", 1, "a.py", "editing", False),
    ("a.py", "bob", "editing", 0, "a.py", "editing", True),
    ("a.py", "bob", "editing", -1, "a.py", "editing", True),
    ("a.py", "ann", "editing", 900, "a.py", "editing", True),
    ("a.py", "ann", "editing", 900, "a.py", "reviewing", True),
    ("src/", "ann", "editing", 900, "src/a.py", "editing", True),
]


@pytest.mark.parametrize(("held", "holder", "held_mode", "ends", "asked", "mode", "granted"), TABLE)
def test_ann_gets_what_nobody_else_excludes(held, holder, held_mode, ends, asked, mode, granted):
    decision = decide([a_lock(held, holder, held_mode, ends=ends)], (asked,), mode, "ann", NOW)

    assert isinstance(decision, Granted if granted else Refused)


def test_one_refused_path_refuses_all_and_names_every_clash_in_the_order_asked():
    held = [a_lock("b.py", "bob"), a_lock("c/", "cleo", "reviewing"), a_lock("c/x.py", "cleo")]

    decision = decide(held, ("c/x.py", "a.py", "b.py"), "editing", "ann", NOW)

    assert isinstance(decision, Refused)
    assert [(clash.path, clash.lock.path) for clash in decision.clashes] == [
        ("c/x.py", "c/"),
        ("c/x.py", "c/x.py"),
        ("b.py", "b.py"),
    ]


def test_paths_that_overlap_each_other_are_granted_to_one_holder():
    decision = decide([], ("src/", "src/a.py", "src/*"), "editing", "ann", NOW)

    assert decision == Granted((), ("src/", "src/a.py", "src/*"), fresh=True)


def test_asking_again_for_what_is_held_takes_no_new_fence():
    held = a_lock("a.py", ends=10)

    decision = decide([held], ("a.py",), "editing", "ann", NOW)

    assert decision == Granted((held,), (), fresh=False)
    assert isinstance(decision, Granted)
    (lock,) = granted_locks(decision, terms("a.py", lease=60), PROJECT, None, NOW)
    assert (lock.fence, lock.expires_at, lock.lease_seconds) == (1, NOW + timedelta(seconds=60), 60)


@pytest.mark.parametrize(
    ("held", "mode"),
    [(a_lock("a.py", mode="reviewing"), "editing"), (a_lock("a.py", ends=0), "editing")],
    ids=["upgraded", "lease had ended"],
)
def test_what_was_not_held_so_before_takes_a_new_fence(held: Lock, mode: LockMode):
    decision = decide([held], ("a.py",), mode, "ann", NOW)

    assert isinstance(decision, Granted)
    assert decision.fresh
    (lock,) = granted_locks(decision, terms("a.py", mode=mode), PROJECT, 7, NOW)
    assert (lock.id, lock.fence, lock.mode, lock.live_at(NOW)) == (held.id, 7, mode, True)


def test_an_upgrade_waits_for_the_other_reviewers():
    held = [a_lock("a.py", mode="reviewing"), a_lock("a.py", "bob", "reviewing")]

    assert isinstance(decide(held, ("a.py",), "editing", "ann", NOW), Refused)
    assert isinstance(decide(held[:1], ("a.py",), "editing", "ann", NOW), Granted)


def test_all_locks_of_a_grant_share_its_fence():
    decision = decide([a_lock("a.py")], ("a.py", "b.py"), "editing", "ann", NOW)

    assert isinstance(decision, Granted)
    locks = granted_locks(decision, terms("a.py", "b.py"), PROJECT, 9, NOW)
    assert [(lock.path, lock.fence) for lock in locks] == [("a.py", 9), ("b.py", 9)]


@pytest.mark.parametrize(
    ("last", "epoch", "fence"), [(0, 0, 1), (4, 0, 5), (4, 1, 1_000_001), (1_000_007, 1, 1_000_008)]
)
def test_a_fence_is_above_the_last_and_of_its_epoch(last: int, epoch: int, fence: int):
    assert next_fence(last, epoch) == fence


def test_two_agents_of_one_key_and_two_stdio_servers_are_different_holders():
    over_http = Caller(team_id="t1", role="member", user="u", key_id="k1", transport="http")
    server = over_http.change(transport="stdio", process="p1")

    holders = [
        holder_of(over_http),
        holder_of(over_http, agent="ann"),
        holder_of(over_http, agent="bob"),
        holder_of(over_http, task_id="ann"),
        holder_of(server),
        holder_of(server.change(process="p2")),
        holder_of(over_http.change(key_id="k2"), agent="ann"),
    ]

    assert len(set(holders)) == len(holders)
    assert holder_of(server, "t") == holder_of(over_http, "t", "bob")


# -- what a call finds ended -----------------------------------------------------------------------------


def test_a_holder_is_told_once_of_a_lease_that_ended_and_others_later():
    locks = [a_lock("a.py", ends=-5), a_lock("b.py", "bob", ends=-5), a_lock("c.py", "bob")]

    first = sweep(LockScope(project="shop"), locks, "ann", NOW)

    assert [lock.path for lock in first.ended] == ["a.py", "b.py"]
    assert lost_notices(first.told) == ("lost: a.py: the lease ended at 2026-11-21T11:59:55Z",)
    second = sweep(first.scope, first.live, "bob", NOW)
    assert lost_notices(second.told) == ("lost: b.py: the lease ended at 2026-11-21T11:59:55Z",)
    third = sweep(second.scope, second.live, "bob", NOW)
    assert third.told == ()
    assert third.scope.lost == ()


def test_a_scope_remembers_the_newest_lost_locks_only():
    locks = [a_lock(f"{n}.py", "bob", ends=-1) for n in range(LOST_KEPT + 7)]

    swept = sweep(LockScope(project="shop"), locks, "ann", NOW)

    assert [one.path for one in swept.scope.lost] == [f"{n}.py" for n in range(7, LOST_KEPT + 7)]


def test_a_lock_lost_twice_is_told_with_its_last_reason():
    lock = a_lock("a.py")

    scope = LockScope(project="shop").with_lost(lock.lost("first", NOW)).with_lost(lock.lost("second", NOW))

    assert [one.reason for one in scope.lost] == ["second"]


def test_nothing_ended_leaves_the_scope_as_it_is():
    scope = LockScope(project="shop", fence=3, rev=4)

    assert sweep(scope, [a_lock("a.py")], "ann", NOW).scope is scope


def test_only_leases_that_end_soon_are_worth_a_notice():
    assert expiry_notices([a_lock("a.py", ends=61)], NOW) == ()
    assert expiry_notices([a_lock("a.py", ends=61), a_lock("b.py", ends=42)], NOW) == (
        "expiring: b.py in 42 s; renew_locks keeps what is held",
    )


# -- paths that are asked for ----------------------------------------------------------------------------


def test_spellings_of_one_path_are_asked_for_once():
    assert canonical_paths(["./a.py", "a.py", "x/../a.py", "b//c/"]) == ("a.py", "b/c/")


@pytest.mark.parametrize("paths", [[], ["a"] * (MAX_PATHS + 1)], ids=["none", "too many"])
def test_a_call_names_one_path_at_least_and_a_bounded_number(paths: list[str]):
    with pytest.raises(Invalid) as refused:
        canonical_paths(paths)
    assert "paths" in refused.value.details["fields"]


def test_a_refused_path_is_named_by_its_place_and_never_by_its_value():
    with pytest.raises(Invalid) as refused:
        canonical_paths(["a.py", "../hidden-name"])
    assert list(refused.value.details["fields"]) == ["paths.1"]
    assert "hidden-name" not in str(refused.value.payload())


# -- any sequence of calls -------------------------------------------------------------------------------

HOLDERS = st.sampled_from(["ann", "bob", "cleo", "dan"])
PATHS = st.lists(
    st.sampled_from(
        ["a.py", "src/a.py", "src/b.py", "src/", "src/*.py", "s*/a.py", "**/a.py", "lib/x/y", "lib/*/y"]
    ),
    min_size=1,
    max_size=4,
    unique=True,
)
MODES = st.sampled_from(["editing", "editing", "reviewing"])


class LockTable(RuleBasedStateMachine):
    """The domain's decisions applied in sequence, as the service applies them under the held scope."""

    def __init__(self) -> None:
        super().__init__()
        self.scope = LockScope(project="shop")
        self.locks: dict[str, Lock] = {}
        self.now = NOW
        self.fences: list[int] = []

    @rule(holder=HOLDERS, paths=PATHS, mode=MODES, lease=st.sampled_from([10, 60, 900]))
    def lock(self, holder: str, paths: list[str], mode: LockMode, lease: int) -> None:
        self.ask(terms(*paths, holder=holder, mode=mode, lease=lease))

    @rule(holder=HOLDERS, paths=PATHS)
    def release(self, holder: str, paths: list[str]) -> None:
        gone = [lock for lock in self.locks.values() if lock.holder == holder and lock.path in paths]
        for lock in gone:
            del self.locks[lock.id]

    @rule(holder=HOLDERS)
    def renew(self, holder: str) -> None:
        for lock in self.swept(holder):
            if lock.holder == holder:
                self.locks[lock.id] = lock.renewed(self.now)

    @rule(seconds=st.sampled_from([1, 9, 10, 11, 60, 1000]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(holder=HOLDERS, paths=PATHS)
    def take_over(self, holder: str, paths: list[str]) -> None:
        for clash in clashes_of(self.swept(holder), paths, "editing", holder, self.now):
            self.locks.pop(clash.lock.id, None)
        assert self.ask(terms(*paths, holder=holder)), "nothing stands against a take-over"

    @precondition(lambda self: self.locks)
    @rule(holder=HOLDERS)
    def the_next_caller_gets_what_everybody_released(self, holder: str) -> None:
        paths = sorted({lock.path for lock in self.locks.values()})
        self.locks.clear()
        assert self.ask(terms(*paths, holder=holder))

    @invariant()
    def an_editor_is_alone(self) -> None:
        live = [lock for lock in self.locks.values() if lock.live_at(self.now)]
        for one, other in itertools.combinations(live, 2):
            if one.holder != other.holder and "editing" in (one.mode, other.mode):
                assert not overlap(one.path, other.path), (one, other)

    @invariant()
    def fences_only_grow(self) -> None:
        assert self.fences == sorted(set(self.fences))

    def ask(self, wanted: Terms) -> bool:
        self.swept(wanted.holder)
        decision = decide(self.locks.values(), wanted.paths, wanted.mode, wanted.holder, self.now)
        if isinstance(decision, Refused):
            return False
        fence = next_fence(self.scope.fence, 0) if decision.fresh else None
        if fence is not None:
            self.scope = self.scope.change(fence=fence)
            self.fences.append(fence)
        granted = granted_locks(decision, wanted, PROJECT, fence, self.now)
        assert [lock.path for lock in granted] == list(wanted.paths)
        self.locks |= {lock.id: lock for lock in granted}
        return True

    def swept(self, holder: str) -> Sequence[Lock]:
        swept = sweep(self.scope, self.locks.values(), holder, self.now)
        self.scope = swept.scope
        self.locks = {lock.id: lock for lock in swept.live}
        return swept.live


TestAnySequenceOfCalls = LockTable.TestCase
