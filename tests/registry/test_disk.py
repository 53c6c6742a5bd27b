"""What a disk refuses is taken back, and said."""

import errno
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mcp_server.adapters.registry.keyring import RegistryKeyRing
from mcp_server.adapters.registry.maintenance import verify
from mcp_server.domain.errors import OutcomeUnknown, Unavailable
from mcp_server.domain.keys import digest
from tests.registry.samples import add, found, found_key, key, rename, row, segment_of, task


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """The kernel refuses to make any file of this process larger, in the middle of a write when need be."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("room", [0, 1, 100])
async def test_a_line_without_room_is_taken_back_and_later_ones_follow(with_task, other, root, room):
    path = segment_of(root)
    before = path.read_bytes()
    with largest_file(len(before) + room), pytest.raises(Unavailable, match="cannot write the journal"):
        await rename(with_task, "no room")
    assert path.read_bytes() == before
    assert (await found(with_task, "tasks", "k1")).title == "Do it"
    await rename(with_task, "room again")
    await add(other, task("k2"))
    assert (await found(other, "tasks", "k1")).title == "room again"
    assert verify(root).sound


async def test_a_snapshot_for_which_there_is_no_room_changes_nothing(with_task, root):
    generation = verify(root).generation or 0
    with largest_file(300), pytest.raises(Unavailable):
        await with_task.compact()
    assert verify(root).generation == generation
    await rename(with_task, "on we go")
    await with_task.compact()
    assert verify(root).generation == generation + 1


async def test_audit_rows_for_which_there_is_no_room_are_taken_back(mirror, root):
    await mirror.record([row("a")], {}, pending=False)
    (path,) = root.glob("audit-*")
    before = path.read_bytes()
    with largest_file(len(before) + 20), pytest.raises(Unavailable):
        await mirror.record([row("b")], {}, pending=False)
    assert path.read_bytes() == before


async def test_after_a_failed_fsync_the_line_is_gone_and_this_process_writes_no_more(
    with_task, other, root, monkeypatch
):
    def fails(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    before = segment_of(root).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fails)
        with pytest.raises(Unavailable, match="could not be made durable"):
            await rename(with_task, "lost")
    assert segment_of(root).read_bytes() == before
    with pytest.raises(Unavailable, match="no longer writes"):
        await rename(with_task, "refused")
    assert (await found(with_task, "tasks", "k1")).title == "Do it"
    await rename(other, "another process goes on")
    assert (await found(with_task, "tasks", "k1")).title == "another process goes on"


async def test_who_read_a_line_before_its_fsync_failed_goes_on_from_the_one_that_took_its_place(
    with_task, other, open_mirror, root, monkeypatch
):
    """A repeated call makes a line of the same length: then the size of the file does not tell."""
    third = await open_mirror()

    def fails(fd: int) -> None:
        other._files.catch_up()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fails)
        with pytest.raises(Unavailable, match="could not be made durable"):
            await rename(with_task, "lost")
    read = other._files.size()
    await rename(third, "kept")
    assert segment_of(root).stat().st_size == read
    assert (await found(other, "tasks", "k1")).title == "kept"
    await add(other, task("k2"))
    assert verify(root).sound
    assert (await found(third, "tasks", "k2")) is not None


async def test_keys_that_could_not_be_projected_say_so_and_are_projected_by_the_next_writer(
    with_task, root, monkeypatch
):
    real = os.replace

    def fails(source: object, target: object) -> None:
        if str(target).endswith("api-keys.json"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fails)
        with pytest.raises(OutcomeUnknown, match="is stored"):
            await add(with_task, key())
    ring = RegistryKeyRing(root)
    assert await ring.find(digest("secret-1")) is None
    await rename(with_task, "any write")
    assert (await found_key(ring, "secret-1")).id == "key1"


async def test_every_line_is_fsynced_before_its_call_returns(with_task, monkeypatch):
    synced: list[int] = []
    real = os.fdatasync

    def noted(fd: int) -> None:
        real(fd)
        synced.append(os.fstat(fd).st_size)

    monkeypatch.setattr(os, "fdatasync", noted)
    for number in range(3):
        await rename(with_task, f"title {number}")
        assert synced[-1] == with_task.gauges()["journal_bytes"]
    assert len(synced) == 3


async def test_everything_is_for_its_owner_only(with_task, root, open_mirror):
    await add(with_task, key())
    await with_task.record([row("a")], {}, pending=True)
    async with with_task.working(), with_task.leading():
        await with_task.compact()
    assert root.stat().st_mode & 0o777 == 0o700
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in root.iterdir()} == dict.fromkeys(
        (path.name for path in root.iterdir()), "0o600"
    )
    root.chmod(0o755)
    await open_mirror()
    assert root.stat().st_mode & 0o777 == 0o700


async def test_a_directory_with_other_things_in_it_keeps_its_mode(root, open_mirror):
    root.mkdir(mode=0o755)
    (root / "notes.txt").write_text("mine")
    await open_mirror()
    assert root.stat().st_mode & 0o777 == 0o755
    assert (root / "HEAD").stat().st_mode & 0o777 == 0o600
