"""A transaction sees its own changes, nobody else does, and it is all or nothing."""

from datetime import timedelta
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.domain.audit import AuditFilter
from mcp_server.domain.environments import EnvironmentVersion
from mcp_server.domain.errors import Conflict, Invalid
from mcp_server.domain.idempotency import Remembered
from mcp_server.domain.locks import LockScope
from mcp_server.domain.members import Member
from tests.registry.samples import (
    INTENT,
    NOON,
    Clock,
    add,
    found,
    key,
    lock,
    plan,
    project,
    rename,
    row,
    task,
    team,
)


async def run(mirror: RegistryMirror, fn: Any, *, pending: bool = False) -> Any:
    return await mirror.run(fn, INTENT, line_id="line-1", pending=pending)


async def test_a_change_is_seen_inside_at_once_and_outside_only_after_the_commit(mirror, other):
    async def fn(tx: Any) -> None:
        await tx.tasks.add(task())
        assert (await tx.tasks.get("k1")).rev == 1
        assert [t.id for t in (await tx.tasks.of_project("shop")).items] == ["k1"]
        assert await found(mirror, "tasks", "k1") is None
        assert await found(other, "tasks", "k1") is None

    await run(mirror, fn)
    assert (await found(mirror, "tasks", "k1")).rev == 1
    assert (await found(other, "tasks", "k1")).rev == 1


async def test_what_raises_leaves_nothing_behind(mirror, root):
    before = {path.name: path.read_bytes() for path in root.iterdir()}

    async def fn(tx: Any) -> None:
        await tx.tasks.add(task())
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await run(mirror, fn)
    assert await found(mirror, "tasks", "k1") is None
    assert {path.name: path.read_bytes() for path in root.iterdir()} == before
    await rename_works(mirror)


async def rename_works(mirror: RegistryMirror) -> None:
    await add(mirror, task("later"))
    assert await found(mirror, "tasks", "later") is not None


async def test_a_transaction_that_changes_nothing_writes_no_line(mirror):
    seq = mirror.gauges()["journal_seq"]
    assert await run(mirror, lambda tx: tx.tasks.get("k1")) == (None, None)
    assert mirror.gauges()["journal_seq"] == seq


async def test_revisions_count_every_operation_and_the_line_says_base_and_result(with_task):
    async def fn(tx: Any) -> None:
        once = await tx.tasks.save((await tx.tasks.hold("k1")).change(title="a"))
        await tx.tasks.save(once.change(title="b"))
        new = await tx.tasks.add(task("k2"))
        await tx.tasks.remove(new)

    _, line = await run(with_task, fn, pending=True)
    first, second = line.changes
    assert (first.base, first.rev, first.record.title, first.before.title) == (1, 3, "b", "Do it")
    assert (second.base, second.rev, second.record, second.before) == (0, 2, None, None)


async def test_a_record_added_again_counts_on_from_its_tombstone(with_task):
    async def remove(tx: Any) -> None:
        await tx.tasks.remove(await tx.tasks.hold("k1"))

    await run(with_task, remove)
    assert await found(with_task, "tasks", "k1") is None
    await add(with_task, task())
    assert (await found(with_task, "tasks", "k1")).rev == 3


async def test_a_stale_revision_is_a_conflict_on_save_and_on_remove(with_task):
    old = await found(with_task, "tasks", "k1")
    await rename(with_task, "newer")

    async def remove(tx: Any) -> None:
        await tx.tasks.remove(old)

    with pytest.raises(Conflict, match="changed meanwhile"):
        await run(with_task, lambda tx: tx.tasks.save(old.change(title="x")))
    with pytest.raises(Conflict, match="changed meanwhile"):
        await run(with_task, remove)
    with pytest.raises(Conflict, match="gone"):
        await run(with_task, lambda tx: tx.tasks.save(task("k9")))


def member(id_: str, email: str = "a@b.c") -> Member:
    return Member(id=id_, team_id="t1", email=email, role="member", joined_at=NOON)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (task(), task()),
        (team("t2", slug="same"), team("t3", slug="same")),
        (key("a", "text"), key("b", "text")),
        (member("m1"), member("m2")),
        (lock("l1", "src", "h1"), lock("l2", "src", "h2")),
        (lock("l1", "src", "h1", "reviewing"), lock("l2", "src", "h1", "reviewing")),
    ],
)
async def test_what_must_be_unique_is_refused_across_transactions_and_inside_one(mirror, first, second):
    with pytest.raises(Conflict):
        await add(mirror, first, second)
    await add(mirror, first)
    with pytest.raises(Conflict):
        await add(mirror, second)


async def test_what_is_unique_is_free_again_once_its_record_is_gone(mirror):
    await add(mirror, lock("l1", "src", "h1"))

    async def replace(tx: Any) -> None:
        await tx.locks.remove(await tx.locks.hold("l1"))
        await tx.locks.add(lock("l2", "src", "h2"))

    await run(mirror, replace)
    await add(mirror, lock("l3", "src", "h3", "reviewing"))
    assert [each.id for each in await mirror.read(lambda r: r.locks.of_project("shop"))] == ["l2", "l3"]


async def test_what_a_transaction_took_and_gave_back_is_free_inside_it(mirror):
    async def fn(tx: Any) -> None:
        first = await tx.locks.add(lock("l1", "src", "h1"))
        await tx.locks.remove(first)
        second = await tx.locks.add(lock("l2", "src", "h2"))
        await tx.locks.save(second.change(path="doc"))
        await tx.locks.add(lock("l3", "src", "h2"))

    await run(mirror, fn)
    locks = await mirror.read(lambda r: r.locks.of_project("shop"))
    assert [(each.id, each.path) for each in locks] == [("l2", "doc"), ("l3", "src")]


@pytest.mark.parametrize(
    "orphan",
    [
        project("alone", team_id="nobody"),
        key(team_id="nobody"),
        task(project="nothing"),
        lock("l1", "src", project="nothing"),
        LockScope(project="nothing"),
        EnvironmentVersion(project="nothing", environment="staging", version=1, env_data={}, created_at=NOON),
    ],
)
async def test_a_child_of_a_parent_that_is_not_there_is_a_conflict(mirror, orphan):
    with pytest.raises(Conflict, match="which is not in"):
        await add(mirror, orphan)


async def test_a_parent_added_in_the_same_transaction_counts(mirror):
    await add(mirror, team("t2"), project("mine", "t2"))


async def test_time_never_goes_back_behind_a_line(mirror, other, clock: Clock):
    clock.forward(hours=1)
    await add(mirror, task())
    clock.forward(hours=-5)
    times = [await mirror.read(lambda r: r.now()), await other.read(lambda r: r.now())]
    _, line = await run(other, lambda tx: tx.tasks.add(task("k2")))
    assert times == [NOON + timedelta(hours=1)] * 2
    assert line.at == NOON + timedelta(hours=1)


async def test_a_claim_is_granted_once(mirror):
    record = Remembered(
        id="i1", team_id="t1", caller="c", tool="t", arguments="a", created_at=NOON, expires_at=NOON
    )
    assert (await run(mirror, lambda tx: tx.idempotency.claim(record)))[0] is None
    assert (await run(mirror, lambda tx: tx.idempotency.claim(record)))[0].id == "i1"


async def test_expired_plans_come_oldest_first(mirror):
    await add(
        mirror,
        plan("new", NOON),
        plan("old", NOON - timedelta(hours=2)),
        plan("mid", NOON - timedelta(hours=1)),
    )
    expired = await mirror.read(lambda r: r.plans.expired(NOON, limit=5))
    assert [each.id for each in expired] == ["old", "mid"]


async def test_a_reading_does_not_write(mirror):
    with pytest.raises(TypeError, match="open a transaction"):
        await mirror.read(lambda r: r.tasks.add(task()))
    with pytest.raises(TypeError, match="open a transaction"):
        await mirror.read(lambda r: r.audit.add(row("a")))


async def test_a_transaction_that_has_ended_takes_no_more(mirror):
    kept = []

    async def fn(tx: Any) -> None:
        kept.append(tx)

    await run(mirror, fn)
    with pytest.raises(TypeError, match="ended"):
        await kept[0].tasks.add(task())


async def test_text_that_is_not_unicode_is_invalid_and_nothing_is_written(mirror):
    record = plan().change(target={"x": "\ud800"})
    with pytest.raises(Invalid):
        await add(mirror, record)
    await rename_works(mirror)
    assert await found(mirror, "plans", "p1") is None


async def test_cancelled_writers_leave_no_lock_and_no_half_line(mirror, other):
    async def slow(tx: Any) -> None:
        await tx.tasks.add(task())
        await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(add, mirror, task(f"waiting-{number}"))
        group.start_soon(run, mirror, slow)
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    with anyio.fail_after(2):
        await add(other, task("after"))
        await add(mirror, task("after-2"))
    assert await found(mirror, "tasks", "k1") is None


async def test_a_write_whose_caller_is_cancelled_in_the_middle_is_whole_or_absent(mirror, other):
    for number in range(30):
        with anyio.move_on_after(0.0001 * number):
            await add(mirror, task(f"n{number}"))
        mine, theirs = await found(mirror, "tasks", f"n{number}"), await found(other, "tasks", f"n{number}")
        assert mine == theirs
    await add(other, task("after"))


async def test_writers_of_one_process_are_served_in_the_order_in_which_they_came(mirror):
    served: list[int] = []

    async def fn(number: int) -> None:
        async def note(tx: Any) -> None:
            served.append(number)
            await tx.tasks.add(task(f"n{number}"))

        await run(mirror, note)

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(fn, number)
    assert served == sorted(served)
    assert len(served) == 20


async def test_an_audit_row_is_in_its_own_transaction(mirror):
    async def fn(tx: Any) -> None:
        await tx.audit.add(row("a1"))
        assert len((await tx.audit.find(AuditFilter(team_id="t1"))).items) == 1
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await run(mirror, fn)
    assert (await mirror.read(lambda r: r.audit.find(AuditFilter(team_id="t1")))).items == []
