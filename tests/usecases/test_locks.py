"""File locks as a caller meets them, over every store."""

from datetime import timedelta
from typing import Any

import anyio
import pytest

from mcp_server.domain.callers import Caller
from mcp_server.domain.errors import Conflict, Forbidden, Invalid, Locked, NotFound, PlanStale, QuotaExceeded
from mcp_server.domain.projects import Project
from mcp_server.ports.store import Transaction
from mcp_server.services import lock_board
from mcp_server.services.staged import committer
from tests.usecases.workshops import ADA, ANN, BOB, EVE, SET_UP, VIC, Workshop

STDIO = Caller(team_id="t1", role="owner", user="root", transport="stdio")


# -- locking -------------------------------------------------------------------------------------------


async def test_a_grant_says_who_holds_what_until_when_and_under_which_fence(workshop: Workshop):
    result = await workshop.lock(ANN, "./a.py", "src//lib/", agent="one", lease_seconds=60)

    held = await workshop.held()
    assert result.holder == "k-ann/agent:one"
    assert [(lock.path, lock.mode) for lock in result.locks] == [("a.py", "editing"), ("src/lib/", "editing")]
    assert {lock.fence for lock in result.locks} == {result.fence} == {lock.fence for lock in held.values()}
    assert result.expires_at == held["a.py"].expires_at == held["a.py"].locked_at + timedelta(seconds=60)
    assert (held["a.py"].team_id, held["a.py"].key_id, held["a.py"].agent) == ("t1", "k-ann", "one")


async def test_the_fences_of_a_project_that_is_made_again_are_above_those_it_granted_before(
    workshop: Workshop,
):
    before = [await workshop.lock(ANN, f"{number}.py") for number in range(3)]
    found: list[Project] = []

    async def delete(tx: Transaction) -> None:
        project, scope = await tx.projects.hold("shop"), await tx.lock_scopes.hold("shop")
        assert project is not None
        assert scope is not None
        for lock in (await workshop.held()).values():
            await tx.locks.remove(lock)
        await tx.lock_scopes.remove(scope)
        await tx.projects.remove(project)
        found.append(project)

    async def make_again(tx: Transaction) -> None:
        await tx.projects.add(found[0].change(rev=0))

    await workshop.store.run(delete, SET_UP)
    await workshop.store.run(make_again, SET_UP)
    again = await workshop.lock(BOB, "0.py")
    assert again.fence > max(each.fence for each in before)


async def test_a_conflict_locks_nothing_and_names_holder_task_mode_and_expiry(workshop: Workshop):
    task = await workshop.create_task(ANN, "Pay by card")
    granted = await workshop.lock(ANN, "src/", task_id=task.id, change_description="new form")

    with pytest.raises(Locked) as refused:
        await workshop.lock(BOB, "free.py", "src/a.py")

    assert list(await workshop.held()) == ["src/"]
    assert refused.value.details["conflicts"] == [
        {
            "path": "src/a.py",
            "held": "src/",
            "holder": f"k-ann/task:{task.id}",
            "mode": "editing",
            "expires_at": granted.expires_at.isoformat().replace("+00:00", "Z"),
            "task_id": task.id,
            "task_title": "Pay by card",
            "change_description": "new form",
        }
    ]


async def test_reviewers_share_and_exclude_editors(workshop: Workshop):
    first = await workshop.lock(ANN, "a.py", mode="reviewing")
    second = await workshop.lock(BOB, "a.py", mode="reviewing")

    for caller in (ANN, BOB, ADA):
        with pytest.raises(Locked):
            await workshop.lock(caller, "a.py")

    await workshop.release(BOB)
    upgraded = await workshop.lock(ANN, "a.py")
    assert upgraded.locks[0].mode == "editing"
    assert upgraded.fence > second.fence > first.fence


async def test_asking_again_renews_and_keeps_the_fence(workshop: Workshop):
    first = await workshop.lock(ANN, "a.py", lease_seconds=60)

    again = await workshop.lock(ANN, "./a.py", lease_seconds=900)

    assert again.fence == first.fence
    assert again.expires_at > first.expires_at
    assert len(await workshop.held()) == 1


async def test_a_grant_that_adds_a_path_puts_all_its_paths_under_one_higher_fence(workshop: Workshop):
    first = await workshop.lock(ANN, "a.py")

    second = await workshop.lock(ANN, "a.py", "b.py")

    assert second.fence > first.fence
    assert {lock.fence for lock in (await workshop.held()).values()} == {second.fence}


async def test_two_agents_on_one_key_are_two_holders(workshop: Workshop):
    await workshop.lock(ANN, "a.py", agent="one")

    with pytest.raises(Locked):
        await workshop.lock(ANN, "a.py", agent="two")
    assert (await workshop.release(ANN, agent="two")).released == ()


async def test_two_stdio_servers_without_a_key_are_two_holders(workshop: Workshop):
    one, two = STDIO.change(process="p1"), STDIO.change(process="p2")
    await workshop.lock(one, "a.py")

    with pytest.raises(Locked):
        await workshop.lock(two, "a.py")
    await workshop.lock(one, "a.py")


async def test_many_first_callers_of_a_project_get_one_winner_each(workshop: Workshop):
    outcomes = []

    async def grab(agent: int) -> None:
        try:
            outcomes.append((await workshop.lock(ANN, "a.py", agent=str(agent))).holder)
        except Locked:
            outcomes.append("refused")

    async with anyio.create_task_group() as group:
        for agent in range(8):
            group.start_soon(grab, agent)

    assert sorted(outcomes)[1:] == ["refused"] * 7
    assert [lock.holder for lock in (await workshop.held()).values()] == sorted(outcomes)[:1]


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ("lease_seconds", {"lease_seconds": 9}),
        ("lease_seconds", {"lease_seconds": 86_401}),
        ("wait_seconds", {"wait_seconds": 46}),
        ("wait_seconds", {"wait_seconds": -1}),
        ("agent", {"agent": ""}),
        ("agent", {"agent": "x" * 201}),
        ("task_id", {"task_id": "x" * 41}),
    ],
)
async def test_an_argument_out_of_bounds_is_named(workshop: Workshop, field: str, named: dict[str, Any]):
    with pytest.raises(Invalid) as refused:
        await workshop.lock(ANN, "a.py", **named)
    assert list(refused.value.details["fields"]) == [field]


async def test_a_holder_has_a_bounded_number_of_locks(workshop: Workshop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lock_board, "MAX_HELD", 3)
    await workshop.lock(ANN, "a", "b")

    with pytest.raises(QuotaExceeded):
        await workshop.lock(ANN, "c", "d")
    await workshop.lock(ANN, "a", "b", "c")
    await workshop.lock(BOB, "d")


async def test_a_foreign_project_is_not_found(workshop: Workshop):
    for call in (workshop.lock, workshop.release, workshop.check):
        with pytest.raises(NotFound):
            await call(EVE, "a.py")
    with pytest.raises(NotFound):
        await workshop.lock(ANN, "a.py", project="den")


# -- tasks that lock -----------------------------------------------------------------------------------


async def test_a_task_must_be_one_of_this_team_and_project(workshop: Workshop):
    foreign = await workshop.create_task(EVE, project="den")
    elsewhere = await workshop.create_task(ANN, project="blog")

    for task_id in ("task-none", foreign.id):
        with pytest.raises(NotFound):
            await workshop.lock(ANN, "a.py", task_id=task_id)
        with pytest.raises(NotFound):
            await workshop.check(ANN, "a.py", task_id=task_id)
    with pytest.raises(Invalid):
        await workshop.lock(ANN, "a.py", task_id=elsewhere.id)
    assert await workshop.held() == {}


async def test_an_ended_task_takes_no_locks(workshop: Workshop):
    task = await workshop.create_task(ANN)
    await workshop.update_task(ANN, task.id, status="cancelled")

    with pytest.raises(Conflict, match="has ended"):
        await workshop.lock(ANN, "a.py", task_id=task.id)


@pytest.mark.parametrize("name", ["lock", "release", "check", "renew", "update_task", "get_task"])
async def test_every_call_that_names_a_task_begins_its_leases_anew(workshop: Workshop, name: str):
    task = await workshop.create_task(ANN)
    first = await workshop.lock(ANN, "a.py", task_id=task.id, lease_seconds=60)
    if name == "renew":
        await workshop.renew(ANN, task_id=task.id)
    elif name.endswith("task"):
        await getattr(workshop, name)(ANN, task.id)
    else:
        await getattr(workshop, name)(ANN, "b.py", task_id=task.id)

    lock = (await workshop.held())["a.py"]
    assert lock.expires_at > first.expires_at
    assert lock.fence == first.fence


async def test_naming_a_task_renews_no_other_key_s_leases(workshop: Workshop):
    task = await workshop.create_task(ANN)
    first = await workshop.lock(ANN, "a.py", task_id=task.id)

    for caller in (BOB, VIC):
        await workshop.get_task(caller, task.id)
        await workshop.check(caller, "b.py", task_id=task.id)

    assert (await workshop.held())["a.py"].expires_at == first.expires_at


# -- leases ----------------------------------------------------------------------------------------------


async def test_a_lease_that_ended_excludes_nobody_and_its_holder_is_told_once(workshop: Workshop):
    first = await workshop.lock(ANN, "a.py", "b.py")
    await workshop.lapse("a.py", "b.py")

    taken = await workshop.lock(BOB, "a.py")

    assert taken.fence > first.fence
    told = await workshop.renew(ANN)
    assert told.locks == ()
    assert (
        [notice for notice in told.notices if notice.startswith("lost: ")]
        == [notice for notice in told.notices if "a.py, b.py: the lease ended at" in notice]
        != []
    )
    assert not [notice for notice in (await workshop.renew(ANN)).notices if "lost" in notice]


async def test_a_lease_that_ended_is_granted_anew_with_a_new_fence_and_said(workshop: Workshop):
    first = await workshop.lock(ANN, "a.py")
    await workshop.lapse("a.py")

    again = await workshop.lock(ANN, "a.py")

    assert again.fence > first.fence
    assert any(notice.startswith("lost: a.py: the lease ended") for notice in again.notices)


async def test_renewing_keeps_fences_and_may_change_the_length(workshop: Workshop):
    first = await workshop.lock(ANN, "a.py", lease_seconds=60)

    renewed = await workshop.renew(ANN, lease_seconds=600)

    assert renewed.fence == first.fence
    assert renewed.expires_at > first.expires_at + timedelta(seconds=500)
    assert (await workshop.held())["a.py"].lease_seconds == 600


async def test_a_short_lease_is_announced_before_it_ends(workshop: Workshop):
    granted = await workshop.lock(ANN, "a.py", lease_seconds=30)
    checked = await workshop.check(ANN, "b.py")

    for result in (granted, checked):
        assert [notice.split(" in ")[0] for notice in result.notices] == ["expiring: a.py"]


# -- releasing -------------------------------------------------------------------------------------------


async def test_the_next_caller_gets_what_was_released(workshop: Workshop):
    await workshop.lock(ANN, "a.py", "src")

    result = await workshop.release(ANN, "src/", "c.py")

    assert (result.released, result.not_held) == (("src",), ("c.py",))
    await workshop.lock(BOB, "src/x.py")
    with pytest.raises(Locked):
        await workshop.lock(BOB, "a.py")


async def test_a_release_without_paths_gives_up_all_of_this_holder_only(workshop: Workshop):
    await workshop.lock(ANN, "a.py", "b.py")
    await workshop.lock(ANN, "c.py", agent="one")
    await workshop.lock(BOB, "d.py")

    assert (await workshop.release(ANN)).released == ("a.py", "b.py")
    assert list(await workshop.held()) == ["c.py", "d.py"]


async def test_nobody_releases_another_holder_s_lock(workshop: Workshop):
    await workshop.lock(ANN, "a.py")

    assert (await workshop.release(BOB, "a.py")).not_held == ("a.py",)
    assert list(await workshop.held()) == ["a.py"]


# -- waiting ---------------------------------------------------------------------------------------------


class Pauses:
    """Stands for anyio in the service: says when the first pause begins."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.current_time = anyio.current_time

    async def sleep(self, seconds: float) -> None:
        self.begun.set()
        await anyio.sleep(seconds)


async def test_a_waiting_caller_gets_the_path_when_it_is_released(workshop: Workshop, monkeypatch):
    pauses = Pauses()
    monkeypatch.setattr("mcp_server.services.locks.anyio", pauses)
    first = await workshop.lock(ANN, "a.py")
    results = []

    async def wait() -> None:
        results.append(await workshop.lock(BOB, "a.py", wait_seconds=30))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await pauses.begun.wait()
            await workshop.release(ANN)

    assert results[0].fence > first.fence


async def test_waiting_ends_with_the_conflict(workshop: Workshop):
    await workshop.lock(ANN, "a.py")

    with anyio.fail_after(20), pytest.raises(Locked):
        await workshop.lock(BOB, "a.py", wait_seconds=0.2)


# -- checking and listing --------------------------------------------------------------------------------


async def test_a_check_says_free_or_who_stands_against_it(workshop: Workshop):
    await workshop.lock(ANN, "src/", mode="reviewing")

    assert (await workshop.check(ANN, "src/a.py", "b.py")).free
    assert (await workshop.check(BOB, "b.py")).free
    checked = await workshop.check(BOB, "src/a.py", "b.py")
    assert not checked.free
    assert [(one.path, one.held, one.holder, one.mode) for one in checked.conflicts] == [
        ("src/a.py", "src/", "k-ann", "reviewing")
    ]


@pytest.mark.parametrize("paths", [[], ["../x"], ["a\\b"], [""]])
async def test_a_check_that_cannot_be_made_is_an_error(workshop: Workshop, paths: list[str]):
    with pytest.raises(Invalid):
        await workshop.check(ANN, *paths)


async def test_a_check_changes_nothing(workshop: Workshop):
    await workshop.lock(ANN, "a.py")
    await workshop.lapse("a.py")
    before = await workshop.held()

    assert (await workshop.check(BOB, "a.py")).free
    assert any("lost: a.py" in notice for notice in (await workshop.check(ANN, "a.py")).notices)
    assert await workshop.held() == before


async def test_locks_are_listed_by_path_in_pages_without_those_that_ended(workshop: Workshop):
    await workshop.lock(ANN, "c", "a", "e", "b")
    await workshop.lock(BOB, "d")
    await workshop.lapse("e")

    seen, cursor = [], None
    while True:
        page = await workshop.ask(VIC, "list_locks", workshop.locks.list, "shop", limit=2, cursor=cursor)
        seen.append([lock.path for lock in page.locks])
        cursor = page.cursor
        if cursor is None:
            break

    assert seen == [["a", "b"], ["c", "d"]]


# -- taking over -----------------------------------------------------------------------------------------


async def test_an_admin_takes_over_by_plan_and_the_holder_hears_why(workshop: Workshop):
    task = await workshop.create_task(ANN)
    first = await workshop.lock(ANN, "src/", task_id=task.id)
    await workshop.lock(ANN, "other.py", task_id=task.id)

    plan = await workshop.take_over(ADA, "src/a.py")
    assert plan.status == "planned"
    assert "'src/'" in plan.effects[0]
    assert "Pay by card" in plan.effects[0]
    assert set(await workshop.held()) == {"src/", "other.py"}

    done = await workshop.take_over(ADA, "src/a.py", token=plan.plan_token)
    assert (done.status, done.holder, [lock.path for lock in done.locks]) == ("done", "k-ada", ["src/a.py"])
    assert done.fence > first.fence
    assert set(await workshop.held()) == {"src/a.py", "other.py"}
    told = await workshop.update_task(ANN, task.id, note="going on")
    assert told.notices == ("lost: src/: taken over by k-ada because: ann is away",)
    assert (await workshop.update_task(ANN, task.id)).notices == ()


async def test_a_renewal_leaves_a_take_over_plan_good_and_another_grant_does_not(workshop: Workshop):
    await workshop.lock(ANN, "a.py")
    plan = await workshop.take_over(ADA, "a.py")
    await workshop.renew(ANN)
    await workshop.take_over(ADA, "a.py", token=plan.plan_token)

    await workshop.release(ADA)
    await workshop.lock(ANN, "a.py")
    plan = await workshop.take_over(ADA, "a.py")
    await workshop.release(ANN)
    await workshop.lock(ANN, "a.py")
    with pytest.raises(PlanStale):
        await workshop.take_over(ADA, "a.py", token=plan.plan_token)
    assert (await workshop.held())["a.py"].holder == "k-ann"


async def test_a_take_over_plan_is_for_one_use_one_caller_and_one_target(workshop: Workshop):
    await workshop.lock(ANN, "a.py", "b.py")
    plan = await workshop.take_over(ADA, "a.py")

    for caller, path, reason in [
        (ADA.change(key_id="k-other"), "a.py", "ann is away"),
        (ADA, "b.py", "ann is away"),
        (ADA, "a.py", "another reason"),
    ]:
        with pytest.raises(PlanStale):
            await workshop.take_over(caller, path, reason=reason, token=plan.plan_token)
    await workshop.take_over(ADA, "a.py", token=plan.plan_token)
    with pytest.raises(PlanStale):
        await workshop.take_over(ADA, "a.py", token=plan.plan_token)


async def test_taking_over_needs_an_admin_a_reason_and_somebody_to_take_from(workshop: Workshop):
    await workshop.lock(ANN, "a.py")

    with pytest.raises(Forbidden):
        await workshop.take_over(BOB, "a.py")
    with pytest.raises(Invalid):
        await workshop.take_over(ADA, "a.py", reason=" ")
    with pytest.raises(Conflict, match="nobody else"):
        await workshop.take_over(ADA, "b.py")


# -- idempotency -----------------------------------------------------------------------------------------


async def test_a_repeated_call_returns_the_first_grant(workshop: Workshop):
    first = await workshop.lock(ANN, "a.py", key="once")
    await workshop.release(ANN)

    assert (await workshop.lock(ANN, "a.py", key="once")).locks == first.locks
    assert await workshop.held() == {}


async def test_a_refused_call_may_be_repeated_under_its_key(workshop: Workshop):
    await workshop.lock(ANN, "a.py")
    with pytest.raises(Locked):
        await workshop.lock(BOB, "a.py", key="once")
    await workshop.release(ANN)

    assert (await workshop.lock(BOB, "a.py", key="once")).holder == "k-bob"


async def test_two_callers_with_the_same_key_do_not_meet(workshop: Workshop):
    await workshop.lock(ANN, "a.py", key="1")
    await workshop.lock(BOB, "b.py", key="1")

    assert {lock.path: lock.holder for lock in (await workshop.held()).values()} == {
        "a.py": "k-ann",
        "b.py": "k-bob",
    }


# -- the files of a commit -------------------------------------------------------------------------------


async def test_a_commit_is_free_of_what_others_hold_however_many_files_it_has(workshop: Workshop):
    await workshop.lock(ANN, "src/", agent="one")
    files = [f"docs/{n}.md" for n in range(500)]

    async def staged(*paths: str, **named: str):
        return await workshop.ask(ANN, "check_files", workshop.staged.check, "shop", list(paths), **named)

    assert (await staged()).free
    assert (await staged(*files)).free
    assert (await staged("src/a.py", agent="one")).free
    refused = await staged(*files, "src/a.py", agent="two")
    assert [(one.path, one.holder) for one in refused.conflicts] == [("src/a.py", "k-ann/agent:one")]
    with pytest.raises(Invalid):
        await staged("ok.py", "what\\ever")


@pytest.mark.parametrize(
    ("environment", "flags", "expected"),
    [
        ({}, {}, (None, None)),
        ({"QUAYMASTER_TASK": "t", "QUAYMASTER_AGENT": "a"}, {}, ("t", "a")),
        ({"QUAYMASTER_TASK": ""}, {}, (None, None)),
        ({"QUAYMASTER_TASK": "t"}, {"agent": "b"}, (None, "b")),
        ({"QUAYMASTER_AGENT": "a"}, {"task_id": "u"}, ("u", None)),
    ],
)
def test_the_committer_is_named_by_flags_and_then_by_the_environment(environment, flags, expected):
    assert committer(environment, **flags) == expected
