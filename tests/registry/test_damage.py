"""A torn tail is cut; every other damaged byte is refused by name."""

import re
import shutil
from pathlib import Path

import pytest

from mcp_server.adapters.registry.keyring import RegistryKeyRing
from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.domain.errors import Corrupt
from mcp_server.domain.keys import digest
from tests.registry.samples import add, found, key, project, rename, segment_of, task, team


@pytest.fixture
async def small(root: Path) -> Path:
    """A home with a snapshot, two lines behind it, and a key."""
    mirror = await RegistryMirror.open(root)
    await add(mirror, team(), project(), key())
    await mirror.compact()
    await add(mirror, task())
    await rename(mirror, "again")
    mirror.close()
    return root


async def opened(root: Path) -> None:
    (await RegistryMirror.open(root)).close()


def flipped(data: bytes, index: int) -> bytes:
    """Another byte at `index`: each time another bit, so that all kinds of flips are met."""
    return data[:index] + bytes([data[index] ^ (1 << index % 8)]) + data[index + 1 :]


@pytest.mark.parametrize("pattern", ["journal-*", "snapshot-*", "HEAD", "home.json", "api-keys.json"])
async def test_every_flipped_byte_is_refused_with_the_file_and_the_line(small, pattern):
    (path,) = small.glob(pattern)
    data = path.read_bytes()
    for index in range(len(data)):
        path.write_bytes(flipped(data, index))
        with pytest.raises(Corrupt) as raised:
            await opened(small)
        line = data.count(b"\n", 0, index) + 1
        assert re.search(rf"{re.escape(str(path))} line {line}: ", raised.value.message), index
        assert "quaymaster registry verify" in raised.value.next
        assert raised.value.details == {"file": str(path), "line": line}
    path.write_bytes(data)
    await opened(small)


@pytest.mark.parametrize("bits", range(8))
async def test_a_damaged_last_newline_is_no_torn_tail_whatever_the_bit(small, bits):
    path = segment_of(small)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([ord("\n") ^ (1 << bits)]))
    with pytest.raises(Corrupt, match="newline"):
        await opened(small)


async def test_a_damaged_newline_before_a_torn_tail_is_refused_too(small):
    path = segment_of(small)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"X" + data[:40])
    with pytest.raises(Corrupt, match="newline"):
        await opened(small)


async def test_a_line_cut_at_any_byte_is_torn_and_goes_while_all_before_it_stay(small, tmp_path, rounds):
    data = segment_of(small).read_bytes()
    last = data.rstrip(b"\n").rfind(b"\n") + 1
    cuts = [*range(last, len(data), rounds(23, 1)), len(data) - 1]
    for length in cuts:
        copy = tmp_path / "copy"
        shutil.copytree(small, copy)
        segment_of(copy).write_bytes(data[:length])
        mirror = await RegistryMirror.open(copy)
        assert (await found(mirror, "tasks", "k1")).title == "Do it"
        assert segment_of(copy).read_bytes() == data[:last]
        await rename(mirror, "more")
        mirror.close()
        mirror = await RegistryMirror.open(copy)
        assert (await found(mirror, "tasks", "k1")).title == "more"
        mirror.close()
        shutil.rmtree(copy)


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [lines[1]],
        lambda lines: [lines[0], lines[0]],
        lambda lines: [lines[1], lines[0]],
        lambda lines: [*lines, b"\n"],
        lambda lines: [lines[0], b"{}\n", lines[1]],
        lambda lines: [lines[0], b"\x00" * 100 + b"\n"],
    ],
    ids=["missing", "twice", "swapped", "empty", "foreign", "zeros"],
)
async def test_whole_lines_that_do_not_belong_are_refused(small, damage):
    path = segment_of(small)
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(Corrupt):
        await opened(small)


@pytest.mark.parametrize("pattern", ["journal-*", "snapshot-*", "HEAD", "home.json"])
async def test_a_file_that_is_missing_is_not_taken_for_an_empty_home(small, pattern):
    (path,) = small.glob(pattern)
    path.unlink()
    with pytest.raises(Corrupt, match=re.escape(str(path))):
        await opened(small)


@pytest.mark.parametrize("pattern", ["snapshot-*", "HEAD", "home.json", "api-keys.json"])
async def test_an_emptied_file_is_not_taken_for_an_empty_home(small, pattern):
    (path,) = small.glob(pattern)
    path.write_bytes(b"")
    with pytest.raises(Corrupt):
        await opened(small)


async def test_damage_that_comes_while_a_process_runs_stops_its_reads_and_writes(small):
    mirror = await RegistryMirror.open(small)
    with segment_of(small).open("ab") as file:
        file.write(b'{"seq":3}\n')
    with pytest.raises(Corrupt):
        await found(mirror, "tasks", "k1")
    with pytest.raises(Corrupt):
        await add(mirror, task("k2"))
    mirror.close()


async def test_a_flipped_byte_in_the_keys_lets_nobody_in_and_locks_nobody_out_silently(small):
    path = small / "api-keys.json"
    data = path.read_bytes()
    for index in range(0, len(data), 7):
        path.write_bytes(flipped(data, index))
        with pytest.raises(Corrupt, match="line 1"):
            await RegistryKeyRing(small).find(digest("secret-1"))
    path.write_bytes(data)
    assert await RegistryKeyRing(small).find(digest("secret-1")) is not None


async def test_readers_leave_an_unfinished_line_alone_and_take_it_when_it_is_whole(small):
    mirror = await RegistryMirror.open(small)
    path = segment_of(small)
    data = path.read_bytes()
    last = data.rstrip(b"\n").rfind(b"\n") + 1
    path.write_bytes(data[:last])
    reader = await RegistryMirror.open(small)
    with path.open("ab") as file:
        file.write(data[last:-10])
    assert (await found(reader, "tasks", "k1")).title == "Do it"
    with path.open("ab") as file:
        file.write(data[-10:])
    assert (await found(reader, "tasks", "k1")).title == "again"
    mirror.close()
    reader.close()


async def test_a_line_that_its_writer_took_back_is_forgotten_by_readers(small):
    path = segment_of(small)
    data = path.read_bytes()
    last = data.rstrip(b"\n").rfind(b"\n") + 1
    reader, writer = await RegistryMirror.open(small), None
    assert (await found(reader, "tasks", "k1")).title == "again"
    path.write_bytes(data[:last])
    writer = await RegistryMirror.open(small)
    await rename(writer, "an other title, so that the line is longer")
    await add(writer, task("k2"))
    assert (await found(reader, "tasks", "k1")).title == "an other title, so that the line is longer"
    reader.close()
    writer.close()


async def test_a_line_that_was_taken_back_and_replaced_by_one_of_the_same_length_is_noticed(small):
    """Only the line behind it tells: it continues another one."""
    path = segment_of(small)
    data = path.read_bytes()
    last = data.rstrip(b"\n").rfind(b"\n") + 1
    reader = await RegistryMirror.open(small)
    assert (await found(reader, "tasks", "k1")).title == "again"
    path.write_bytes(data[:last])
    writer = await RegistryMirror.open(small)
    await rename(writer, "AGAIN")
    assert path.stat().st_size == len(data)
    await add(writer, task("k2"))
    assert (await found(reader, "tasks", "k1")).title == "AGAIN"
    reader.close()
    writer.close()
