"""A compaction keeps everything that counts, and nothing else."""

import asyncio
import fcntl
import json
import os
import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from mcp_server.adapters.registry import files as files_module
from mcp_server.adapters.registry.filelock import open_lock, try_lock
from mcp_server.adapters.registry.maintenance import export, verify
from mcp_server.domain.audit import AuditFilter
from tests.registry.samples import INTENT, Clock, add, found, lock, plan, rename, row, segment_of, task, until


async def test_a_home_says_the_same_after_a_compaction(with_task, root, open_mirror):
    await add(with_task, task("k2"), pending=True)
    await with_task.set_mode("degraded", epoch=2, reason="r")
    before = export(root)
    await with_task.compact()
    assert export(root) == before
    assert await (await open_mirror()).refresh() == await with_task.refresh()
    assert segment_of(root).read_bytes() == b""


async def test_a_compaction_without_news_changes_nothing_but_cleans_up(with_task, root):
    await with_task.compact()
    (root / "snapshot-00000000000000000099.json").write_bytes(b"left over")
    (root / "HEAD.tmp").write_bytes(b"left over")
    head = (root / "HEAD").read_bytes()
    await with_task.compact()
    assert (root / "HEAD").read_bytes() == head
    assert not (root / "snapshot-00000000000000000099.json").exists()
    assert not (root / "HEAD.tmp").exists()


async def test_the_journal_is_compacted_by_itself_when_it_is_large(with_task, other, root, monkeypatch):
    monkeypatch.setattr(files_module, "SMALLEST_JOURNAL", 20_000)
    for number in range(100):
        await rename(with_task, f"title {number}")
        assert (await found(other, "tasks", "k1")).title == f"title {number}"
    assert segment_of(root).stat().st_size < 25_000
    assert json.loads((root / "HEAD").read_text())["generation"] > 2


async def test_many_tasks_write_and_read_while_others_compact(with_task, other):
    async def write(name: str) -> None:
        for number in range(25):
            await add(with_task, task(f"{name}-{number}"))
            assert await found(other, "tasks", f"{name}-{number}") is not None

    async def compact() -> None:
        for _ in range(10):
            await other.compact()
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        for name in "abcd":
            group.start_soon(write, name)
        group.start_soon(compact)
    page = await with_task.read(lambda r: r.tasks.of_project("shop", limit=1000))
    assert len(page.items) == 101


async def test_audit_rows_move_to_the_files_of_their_days_once(with_task, root, clock: Clock):
    await add(with_task, task("a"), audit=(row("r1", clock()),))
    clock.forward(days=1)
    await add(with_task, task("b"), audit=(row("r2", clock()),))
    await with_task.compact()
    await with_task.compact()
    assert {path.name: path.read_bytes().count(b"\n") for path in root.glob("audit-*")} == {
        "audit-2026-11-21.ndjson": 1,
        "audit-2026-11-22.ndjson": 1,
    }
    rows = await with_task.read(lambda r: r.audit.find(AuditFilter(team_id="t1")))
    assert [each.id for each in rows.items] == ["r2", "r1"]


async def test_tombstones_of_what_comes_and_goes_go_after_a_week_and_the_others_stay(
    with_task, root, open_mirror, clock: Clock
):
    await add(with_task, lock("l1", "src"), plan())

    async def remove(tx):
        await tx.locks.remove(await tx.locks.hold("l1"))
        await tx.plans.remove(await tx.plans.hold("p1"))
        await tx.tasks.remove(await tx.tasks.hold("k1"))

    await with_task.run(remove, INTENT, line_id="x", pending=False)
    await with_task.compact()
    assert len(tombstones(root)) == 3
    clock.forward(days=8)
    await add(with_task, task("k2"))
    await with_task.compact()
    assert tombstones(root) == ["k1"]
    again = await open_mirror()
    await add(again, task("k1"))
    assert (await found(with_task, "tasks", "k1")).rev == 3


def tombstones(root: Path) -> list[str]:
    (path,) = root.glob("snapshot-*")
    return sorted(each["key"] for each in json.loads(path.read_text())["tombstones"])


async def test_a_cancelled_compaction_holds_the_lock_until_its_thread_has_ended(
    with_task, other, root, monkeypatch
):
    """asyncio cancels tasks without asking anyio's shields, when a program is interrupted."""
    switch, entered, release = with_task._files.switch, threading.Event(), threading.Event()

    def slow(state):
        entered.set()
        assert release.wait(10)
        switch(state)

    monkeypatch.setattr(with_task._files, "switch", slow)
    compaction = asyncio.ensure_future(with_task.compact())
    await until(entered.is_set)
    compaction.cancel()
    for _ in range(50):
        await anyio.lowlevel.checkpoint()
    held = not can_lock(root)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await compaction
    assert held
    await add(other, task("k2"))
    assert await found(with_task, "tasks", "k2") is not None
    assert await found(other, "tasks", "k2") is not None
    assert verify(root).sound


def can_lock(root: Path) -> bool:
    fd = open_lock(root / "write.lock")
    try:
        return try_lock(fd, fcntl.LOCK_EX)
    finally:
        os.close(fd)


async def test_snapshot_and_head_are_durable_before_they_are_named(with_task, root, monkeypatch):
    steps: list[str] = []

    def note(name):
        real = getattr(os, name)

        def noted(*arguments, **options):
            steps.append(f"{name} {what(arguments)}")
            return real(*arguments, **options)

        monkeypatch.setattr(f"os.{name}", noted)

    def what(arguments) -> str:
        return " ".join(path_of(each) for each in arguments if isinstance(each, Path | int))

    def path_of(each: object) -> str:
        path = Path(f"/proc/self/fd/{each}").resolve() if isinstance(each, int) else Path(str(each))
        return "home" if path == root else path.name.split("-")[0]

    for name in ("fsync", "replace", "unlink"):
        note(name)
    await with_task.compact()
    assert [step for step in steps if not step.startswith("unlink")] == [
        "fsync snapshot",
        "replace snapshot snapshot",
        "fsync home",
        "fsync journal",
        "fsync home",
        "fsync HEAD.tmp",
        "replace HEAD.tmp HEAD",
        "fsync home",
    ]
    assert [step for step in steps if step.startswith("unlink")] == steps[8:]
