"""What the failover needs of the registry: mirror, pending lines, modes."""

import os
import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from mcp_server.adapters.registry.documents import Said
from mcp_server.adapters.registry.keyring import RegistryKeyRing
from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.domain.audit import AuditFilter
from mcp_server.domain.conflicts import KeptConflict
from mcp_server.domain.errors import Conflict, Unavailable
from mcp_server.domain.keys import digest
from mcp_server.ports.mirror import Gone, Whole
from tests.registry.samples import (
    INTENT,
    NOON,
    Clock,
    add,
    found,
    found_key,
    key,
    line,
    lock,
    position,
    project,
    rename,
    row,
    segment_of,
    task,
    team,
)


def seq_of(mirror: Any) -> int:
    return int(mirror.gauges()["journal_seq"])


async def test_a_newer_revision_is_applied_and_an_older_or_equal_one_is_not(mirror, other):
    await mirror.mirror([line(task(rev=3, title="three"))], position(1))
    await mirror.mirror([line(task(rev=2, title="two")), line(task(rev=3, title="again"))], position(2))
    assert (await found(other, "tasks", "k1")).title == "three"
    await mirror.mirror([line(task(rev=4, title="four"))], position(3))
    assert (await found(other, "tasks", "k1")).title == "four"


async def test_a_mirrored_deletion_is_not_undone_by_an_older_line(mirror):
    await mirror.mirror([line(task(rev=1)), line(gone=(("tasks", "k1", 2),))], position(1))
    await mirror.mirror([line(task(rev=1))], position(2))
    assert await found(mirror, "tasks", "k1") is None
    await mirror.mirror([line(task(rev=3))], position(3))
    assert (await found(mirror, "tasks", "k1")).rev == 3


async def test_what_was_deleted_long_ago_and_is_forgotten_in_the_log_begins_anew(mirror, clock: Clock):
    """Of what comes and goes only: the registry keeps its tombstone until it is compacted, the log counts from 1 again."""
    await mirror.mirror([line(task(rev=1)), line(lock("l1", "src", rev=1))], position(1))
    await mirror.mirror([line(gone=(("tasks", "k1", 2), ("locks", "l1", 2)))], position(2))
    clock.forward(days=6)
    await mirror.mirror([line(lock("l1", "src", rev=1))], position(3))
    assert await found(mirror, "locks", "l1") is None
    clock.forward(days=2)
    await mirror.mirror([line(task(rev=1)), line(lock("l1", "src", rev=1))], position(4))
    assert (await found(mirror, "locks", "l1")).rev == 1
    assert await found(mirror, "tasks", "k1") is None


async def test_a_batch_is_one_line_and_one_that_is_known_is_none(mirror):
    before = seq_of(mirror)
    batch = [line(task("a", rev=1)), line(task("b", rev=1)), line(task("a", rev=2))]
    await mirror.mirror(batch, position(3))
    await mirror.mirror(batch, position(3))
    assert seq_of(mirror) == before + 1
    assert (await mirror.refresh()).position == position(3)


async def test_children_may_come_before_their_parents_and_twins_may_meet(mirror):
    await mirror.mirror([line(task("orphan", project="later", rev=1))], position(1))
    await mirror.mirror(
        [line(lock("l2", "src", "h2", rev=1)), line(lock("l1", "src", "h1", rev=1))], position(2)
    )
    await mirror.mirror([line(gone=(("locks", "l1", 2),))], position(3))
    with pytest.raises(Conflict):
        await add(mirror, lock("l3", "src", "h3"))


async def test_positions_alone_are_noted_at_a_bounded_rate(mirror, clock: Clock):
    await mirror.mirror([], position(1))
    before = seq_of(mirror)
    for number in range(2, 50):
        await mirror.mirror([], position(number))
    assert seq_of(mirror) == before
    clock.forward(seconds=1)
    await mirror.mirror([], position(50))
    assert seq_of(mirror) == before + 1
    clock.forward(seconds=30)
    await mirror.mirror([], position(50, horizon=999))
    assert seq_of(mirror) == before + 1, "a horizon that moves by itself can wait"
    clock.forward(seconds=30)
    await mirror.mirror([], position(50, horizon=999))
    assert seq_of(mirror) == before + 2


async def test_adopting_sets_a_record_whatever_stands_there(with_task):
    await rename(with_task, "mine")
    theirs = task(rev=1, title="theirs")
    await with_task.adopt([("tasks", "k1", theirs, 1), ("projects", "shop", None, 9)])
    assert await found(with_task, "tasks", "k1") == theirs
    assert await found(with_task, "projects", "shop") is None
    await with_task.mirror([line(project().change(rev=8))], None)
    assert await found(with_task, "projects", "shop") is None
    before = seq_of(with_task)
    await with_task.adopt([("tasks", "k1", theirs, 1), ("projects", "shop", None, 9)])
    assert seq_of(with_task) == before, "what stands already is no line"


async def test_a_resync_replaces_everything_also_for_other_processes(with_task, other, root):
    await add(with_task, key())
    records = [team(rev=5), project("new").change(rev=7), key("key2", "secret-2", rev=1)]
    await with_task.resync(Whole(records, [], position(9)))
    assert await found(other, "tasks", "k1") is None
    assert await found(other, "projects", "shop") is None
    assert (await found(other, "projects", "new")).rev == 7
    assert (await other.refresh()).position == position(9)
    ring = RegistryKeyRing(root)
    assert await ring.find(digest("secret-1")) is None
    assert (await found_key(ring, "secret-2")).id == "key2"
    await add(other, task("next", project="new"))
    assert await found(with_task, "tasks", "next") is not None


async def test_a_resync_brings_what_was_deleted_so_that_late_lines_do_not_bring_it_back(
    with_task, other, open_mirror
):
    gone = [Gone("tasks", "k1", 7, NOON), Gone("projects", "new", 6, NOON)]
    await with_task.resync(Whole([team(rev=5), project("new").change(rev=7)], gone, position(9)))
    assert (await found(other, "projects", "new")).rev == 7, "it was made again since"
    await other.mirror([line(task(rev=6, project="new"))], position(10))
    assert await found(with_task, "tasks", "k1") is None
    await with_task.compact()
    again = await open_mirror()
    await add(again, task("k1", project="new"))
    assert (await found(with_task, "tasks", "k1")).rev == 8


async def test_a_resync_is_refused_while_a_line_is_pending(with_task):
    await rename(with_task, "pending", pending=True)
    with pytest.raises(Conflict):
        await with_task.resync(Whole([], [], position(1)))
    assert (await found(with_task, "tasks", "k1")).title == "pending"


async def test_pending_lines_come_in_order_with_what_they_were_based_on(with_task, open_mirror):
    ids = [await rename(with_task, title, pending=True) for title in "abc"]
    last = await add(with_task, task("k2"), pending=True, audit=(row("a1"),))
    await rename(with_task, "not pending")
    await with_task.compact()
    await rename(with_task, "behind the snapshot", pending=True)
    for mirror in (with_task, await open_mirror()):
        lines = await mirror.pending(10)
        assert [each.id for each in lines][:4] == [*ids, last]
        assert len(lines) == 5
        assert [(c.before.title, c.record.title) for each in lines[:3] for c in each.changes] == [
            ("Do it", "a"),
            ("a", "b"),
            ("b", "c"),
        ]
        assert [each.id for each in lines[3].audit] == ["a1"]
        assert [each.id for each in await mirror.pending(2)] == ids[:2]
        assert (await mirror.refresh()).pending == 5


async def test_a_settled_line_is_pending_no_more_before_and_after_a_compaction(with_task, open_mirror):
    first = await rename(with_task, "a", pending=True)
    second = await add(with_task, task("k2"), pending=True, audit=(row("a1"),))
    await with_task.settle(first)
    await with_task.compact()
    assert [each.id for each in await (await open_mirror()).pending(10)] == [second]
    await with_task.settle(second)
    before = seq_of(with_task)
    await with_task.settle(second)
    assert seq_of(with_task) == before
    await with_task.compact()
    again = await open_mirror()
    assert list(await again.pending(10)) == []
    rows = await again.read(lambda r: r.audit.find(AuditFilter(team_id="t1")))
    assert [each.id for each in rows.items] == ["a1"], "its audit row outlives it"


async def test_what_pending_lines_changed_is_remembered_until_the_home_is_back(with_task, open_mirror):
    """Settling does not end it, nor does a compaction: only the return to PostgreSQL does."""
    await rename(with_task, "not pending")
    assert list(await with_task.dirty()) == []
    settled = await rename(with_task, "a", pending=True)
    await add(with_task, task("k2"), pending=True)
    await with_task.settle(settled)
    expected = [("tasks", "k1"), ("tasks", "k2")]
    assert list(await (await open_mirror()).dirty()) == expected
    await with_task.compact()
    await with_task.set_mode("degraded", epoch=2, reason="r")
    await with_task.set_mode("replaying", epoch=3, reason=None)
    for each in (with_task, await open_mirror()):
        assert list(await each.dirty()) == expected
    await with_task.set_mode("primary", epoch=4, reason=None)
    for each in (with_task, await open_mirror()):
        assert list(await each.dirty()) == []


async def test_the_mode_belongs_to_the_home_and_survives_a_compaction(
    mirror, other, open_mirror, clock: Clock
):
    first = await mirror.refresh()
    assert (first.mode, first.epoch, first.alone, first.pending, first.audit_pending) == (
        "embedded",
        1,
        True,
        0,
        False,
    )
    clock.forward(seconds=5)
    await mirror.set_mode("degraded", epoch=4, reason="no answer")
    await mirror.set_alone(False)
    since = clock()
    clock.forward(seconds=5)
    await mirror.set_mode("degraded", epoch=3, reason="still none")
    await mirror.compact()
    for each in (mirror, other, await open_mirror()):
        facts = await each.refresh()
        assert (facts.mode, facts.epoch, facts.reason, facts.alone) == ("degraded", 4, "still none", False)
        assert facts.since == since
        assert facts.home == first.home
    _, written = await other.run(epoch_of, INTENT, line_id="e", pending=False)
    assert written is None


async def epoch_of(tx: Any) -> None:
    assert tx.epoch == 4


async def test_open_conflicts_are_counted(mirror):
    conflict = KeptConflict(id="c1", line_id="l", target_noun="tasks", target_key="k1", reason="r", at=NOON)
    await add(mirror, conflict, conflict.change(id="c2", decided="ours"))
    assert (await mirror.refresh()).conflicts == 1
    assert [each.id for each in (await mirror.read(lambda r: r.conflicts.open())).items] == ["c1"]


# -- the locks of the mode


async def test_workers_share_the_mode_and_a_switch_waits_for_the_last_of_them(mirror, other):
    seen: list[str] = []

    async def switch() -> None:
        async with other.switching():
            seen.append("switched")

    async with anyio.create_task_group() as group, mirror.working(), other.working():
        group.start_soon(switch)
        await anyio.sleep(0.02)
        seen.append("worked")
    assert seen == ["worked", "switched"]


async def test_new_workers_wait_for_a_switch_that_waits_even_in_a_process_that_works(mirror, other):
    seen: list[str] = []
    started = anyio.Event()

    async def switch() -> None:
        started.set()
        async with other.switching():
            seen.append("switched")

    async def work() -> None:
        async with mirror.working():
            seen.append("worked")

    async with anyio.create_task_group() as group, mirror.working():
        group.start_soon(switch)
        await started.wait()
        await anyio.sleep(0.01)
        group.start_soon(work)
        await anyio.sleep(0.02)
        assert seen == []
    assert seen == ["switched", "worked"]


async def test_waiting_for_the_mode_is_bounded_and_leaves_nothing_behind(mirror, open_mirror):
    hasty = await open_mirror(patience=0.05)
    async with mirror.working():
        with pytest.raises(Unavailable):
            async with hasty.switching():
                pass
    async with mirror.switching():
        with pytest.raises(Unavailable):
            async with hasty.working():
                pass
    async with hasty.working():
        pass
    async with hasty.switching():
        pass


async def test_a_cancelled_switch_opens_the_turnstile_again(mirror, other):
    async with mirror.working():
        with anyio.move_on_after(0.02):
            async with other.switching():
                pass
        with anyio.fail_after(1):
            async with other.working():
                pass


@pytest.fixture
async def descriptors() -> AsyncIterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= before + 1


async def test_the_locks_are_let_go_and_no_descriptor_is_left(mirror, descriptors):
    for _ in range(20):
        async with mirror.working(), mirror.leading():
            await rename_or_add(mirror)
        async with mirror.switching():
            await mirror.read(lambda r: r.audit.find(AuditFilter(team_id="t1")))


async def rename_or_add(mirror: Any) -> None:
    if await found(mirror, "tasks", "k1") is None:
        await add(mirror, task())
    await rename(mirror, "x")


async def test_a_second_leader_of_the_same_process_does_not_lead(mirror, other):
    async with mirror.leading() as first, other.leading() as second:
        assert (first, second) == (True, False)


async def test_an_unfinished_line_is_never_read_by_the_process_that_writes_it(mirror, other, root):
    """Between its append and its fsync a line does not count, not even for the writer's own readers."""
    seen: list[object] = []
    appended, looked = threading.Event(), threading.Event()

    async def watch() -> None:
        while "synced" not in seen:
            seen.append(await found(mirror, "tasks", "k1"))
            if appended.is_set():
                looked.set()
            await anyio.lowlevel.checkpoint()

    sync = mirror._files.sync
    size = segment_of(root).stat().st_size

    def slow_sync() -> None:
        assert segment_of(root).stat().st_size > size
        appended.set()
        assert looked.wait(10)
        seen.append("synced")
        sync()

    mirror._files.sync = slow_sync
    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await add(mirror, task())
    assert all(each is None for each in seen[: seen.index("synced")])
    assert await found(mirror, "tasks", "k1") is not None


async def test_what_an_earlier_version_wrote_of_being_alone_holds_until_its_place_is_written_too(
    mirror: RegistryMirror,
) -> None:
    await mirror.set_mode("primary", epoch=2, reason=None)
    await mirror._say("alone", Said(alone=True))
    assert (await mirror.refresh()).alone
    before = mirror._files.state.seq
    await mirror.set_alone(True)
    await mirror.set_alone(True)
    assert mirror._files.state.seq == before + 1
    await mirror._say("alone", Said(alone=True, alone_at="elsewhere"))
    assert not (await mirror.refresh()).alone
