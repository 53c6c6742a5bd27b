"""Many processes on one home."""

import signal
from pathlib import Path

import pytest

from mcp_server.adapters.registry.filelock import holders_of
from mcp_server.adapters.registry.journal import Segment
from mcp_server.adapters.registry.keyring import RegistryKeyRing
from mcp_server.adapters.registry.maintenance import verify
from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.domain.audit import AuditFilter
from mcp_server.domain.errors import Unavailable
from mcp_server.domain.keys import digest
from tests.registry.processes import finish, first_word, start
from tests.registry.samples import add, found, project, segment_of, task, team
from tests.services.waiting import wait_until

APPEND_POINTS = ("locked", "appended", "before_fsync", "fsynced", "applied", "before_unlock")
COMPACT_POINTS = ("audit", "snapshot", "segment", "switched", "removed")


@pytest.fixture
async def home(root: Path) -> Path:
    mirror = await RegistryMirror.open(root)
    await add(mirror, team(), project(), task("counter"))
    mirror.close()
    return root


async def tasks_of(root: Path) -> set[str]:
    """All but the counter, whose count must be theirs."""
    mirror = await RegistryMirror.open(root)
    page = await mirror.read(lambda r: r.tasks.of_project("shop", limit=100_000))
    counter = await found(mirror, "tasks", "counter")
    mirror.close()
    ids = {each.id for each in page.items} - {"counter"}
    assert (counter.pr_number or 0) == len(ids)
    return ids


async def test_no_write_of_many_processes_is_lost_and_the_sequence_has_no_gap(home, rounds):
    count = rounds(60, 500)
    workers = [start(home, "write", f"p{n}", count) for n in range(4)]
    acknowledged: set[str] = set()
    for worker in workers:
        code, words, err = finish(worker, 120)
        assert code == 0, err
        acknowledged |= set(words)
    assert await tasks_of(home) == acknowledged
    assert len(acknowledged) == 4 * count
    segment = Segment(segment_of(home))
    seqs = [entry.seq for entry in segment.read_on(0, "")]
    segment.close()
    assert seqs == list(range(1, 4 * count + 2))


@pytest.mark.parametrize("point", APPEND_POINTS)
async def test_every_acknowledged_write_survives_a_kill_at_each_step(home, point, rounds):
    acknowledged: set[str] = set()
    for turn in range(rounds(2, 20)):
        name = f"pending{turn}" if turn % 2 else f"t{turn}"
        code, words, err = finish(
            start(home, "write", name, turn + 20, fault=f"registry.{point}:KILL:{turn + 3}")
        )
        assert code == -signal.SIGKILL, err
        acknowledged |= set(words)
        stored = await tasks_of(home)
        assert acknowledged <= stored
        assert len(stored - acknowledged) <= turn + 1, "one write in flight for each kill"
        assert verify(home).sound
    mirror = await RegistryMirror.open(home)
    pending = [line.id for line in await mirror.pending(1000)]
    assert len(pending) == len(set(pending))
    assert {name for name in acknowledged if name.startswith("pending")} <= set(pending)
    mirror.close()


@pytest.mark.parametrize("point", COMPACT_POINTS)
async def test_a_kill_at_each_step_of_a_compaction_leaves_a_readable_home(home, point, rounds):
    for turn in range(rounds(2, 10)):
        code, words, err = finish(
            start(home, "compact", f"c{turn}", turn + 5, fault=f"registry.compact.{point}:KILL:{turn + 1}")
        )
        assert code == -signal.SIGKILL, err
        mirror = await RegistryMirror.open(home)
        for word in words:
            if word.startswith(f"c{turn}"):
                assert await found(mirror, "tasks", word) is not None
                rows = await mirror.read(lambda r: r.audit.find(AuditFilter(team_id="t1"), limit=200))
                assert [row.id for row in rows.items].count(word) == 1
        await add(mirror, task(f"after-{turn}"))
        await mirror.compact()
        assert len(list(home.glob("journal-*"))) == 1
        assert len(list(home.glob("snapshot-*"))) == 1
        assert list(home.glob("*.tmp")) == []
        mirror.close()
    assert verify(home).sound


async def test_two_processes_that_compact_and_two_that_write_lose_nothing(home, rounds):
    count = rounds(15, 100)
    compactors = [start(home, "compact", f"c{n}", count) for n in range(2)]
    writers = [start(home, "write", f"w{n}", count) for n in range(2)]
    reader = await RegistryMirror.open(home)
    seen = 0
    while any(worker.poll() is None for worker in compactors + writers):
        page = await reader.read(lambda r: r.tasks.of_project("shop", limit=100_000))
        assert len(page.items) >= seen, "a reader went back in time"
        seen = len(page.items)
    acknowledged: set[str] = set()
    for worker in compactors + writers:
        code, words, err = finish(worker)
        assert code == 0, err
        acknowledged |= {word for word in words if not word.startswith("compacted")}
    page = await reader.read(lambda r: r.tasks.of_project("shop", limit=100_000))
    reader.close()
    assert {each.id for each in page.items} == acknowledged | {"counter"}
    assert verify(home).sound


async def test_the_keys_can_be_read_at_every_moment_while_they_are_written(home):
    writer = start(home, "keys", "k", 40)
    assert first_word(writer) == "k-0"
    code, words, err = finish(start(home, "find", "k-0", 20_000))
    assert (code, words) == (0, ["read"]), err
    assert finish(writer)[0] == 0
    assert await RegistryKeyRing(home).find(digest("k-39")) is not None


@pytest.mark.parametrize("point", ["projected", "fsynced", "appended"])
async def test_keys_that_a_killed_writer_did_not_project_are_projected_at_the_next_opening(home, point):
    code, words, err = finish(start(home, "keys", "k", 5, fault=f"registry.{point}:KILL:2"))
    assert code == -signal.SIGKILL, err
    mirror = await RegistryMirror.open(home)
    stored = {each.id for each in (await mirror.read(lambda r: r.keys.of_team("t1"))).items}
    mirror.close()
    ring = RegistryKeyRing(home)
    assert set(words) <= stored
    assert {name for name in stored if await ring.find(digest(name)) is not None} == stored


@pytest.mark.parametrize("turn", range(3))
async def test_a_home_whose_making_was_killed_can_be_made(root, turn):
    point = ("projected", "compact.segment", "compact.switched")[turn]
    code, _, err = finish(start(root, "write", "w", 1, fault=f"registry.{point}:KILL"))
    assert code == -signal.SIGKILL, err
    mirror = await RegistryMirror.open(root)
    await add(mirror, team())
    mirror.close()
    assert verify(root).sound


async def test_processes_that_make_one_home_at_once_make_one(root):
    workers = [start(root, "keys", f"w{n}", 0) for n in range(4)]
    assert [finish(worker)[0] for worker in workers] == [0] * 4
    assert verify(root).sound


async def test_a_killed_holder_of_the_lock_does_not_keep_it(home):
    stopped = start(home, "write", "w", 5, fault="registry.locked:STOP")
    mirror = await RegistryMirror.open(home, patience=0.3)
    state = Path(f"/proc/{stopped.pid}/stat")
    wait_until(
        lambda: state.read_text().rpartition(")")[2].split()[0] == "T", seconds=10, what="the writer to stop"
    )
    with pytest.raises(Unavailable, match=rf"stopped \(pid {stopped.pid}\)"):
        await add(mirror, task("k1"))
    stopped.kill()
    stopped.communicate()
    await add(mirror, task("k1"))
    mirror.close()


async def test_who_is_stopped_in_the_middle_of_a_call_is_named_to_whom_it_keeps_from_changing_the_mode(home):
    worker = start(home, "work")
    assert first_word(worker) == "working"
    mirror = await RegistryMirror.open(home, patience=0.3)
    lock = home / "mode.lock"
    wait_until(lambda: worker.pid in holders_of(lock), seconds=10, what="the worker to hold the mode")
    worker.send_signal(signal.SIGSTOP)
    while worker.pid not in holders_of(lock):  # it was stopped between two calls
        worker.send_signal(signal.SIGCONT)
        worker.send_signal(signal.SIGSTOP)
    with pytest.raises(Unavailable, match=rf"stopped \(pid {worker.pid}\)") as refused:
        async with mirror.switching():
            pass
    assert f"kill -CONT {worker.pid}" in refused.value.next
    worker.send_signal(signal.SIGCONT)
    async with mirror.switching():
        pass
    mirror.close()
    worker.kill()
    worker.communicate()


async def test_one_process_leads_and_the_next_one_does_when_it_is_killed(home, mirror_of):
    leader = start(home, "lead")
    assert first_word(leader) == "True"
    mirror = await mirror_of(home)
    async with mirror.leading() as leads:
        assert not leads
    leader.kill()
    leader.communicate()
    async with mirror.leading() as leads:
        assert leads


async def test_a_change_of_mode_gets_through_against_processes_that_work_without_a_pause(home, mirror_of):
    workers = [start(home, "work", count=5) for _ in range(2)]
    assert [first_word(worker) for worker in workers] == ["working"] * 2
    mirror = await mirror_of(home)
    for _ in range(10):
        async with mirror.switching():
            assert [worker.poll() for worker in workers] == [None, None]
    for worker in workers:
        worker.kill()
        worker.communicate()


@pytest.fixture
async def mirror_of():
    opened = []

    async def opener(root: Path) -> RegistryMirror:
        opened.append(await RegistryMirror.open(root))
        return opened[-1]

    yield opener
    for mirror in opened:
        mirror.close()
