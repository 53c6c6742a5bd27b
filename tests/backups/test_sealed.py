"""A sealed file opens whole and unchanged as the backup that it is, or not at all."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from mcp_server.adapters.backup_files.scratch import HomeScratch
from mcp_server.adapters.backup_files.sealed import PIECE, SealedFiles
from mcp_server.adapters.sealing.aes import AesSealer
from mcp_server.domain.errors import Corrupt, NotFound, Unavailable

CONTEXT = ("backup", "b1")
CONTENT = b"canary" * 500_000


def files(folder: Path, key: bytes = b"k" * 32) -> SealedFiles:
    return SealedFiles(folder, AesSealer(lambda to_seal: [key]))


async def write(
    sealed: SealedFiles, content: bytes, name: str = "b1.qmbackup", context: tuple[str, ...] = CONTEXT
) -> None:
    async with sealed.writing(name, context) as sink:
        for start in range(0, len(content), 70_001):
            await sink(content[start : start + 70_001])


async def read(sealed: SealedFiles, name: str = "b1.qmbackup", context: tuple[str, ...] = CONTEXT) -> bytes:
    return b"".join([piece async for piece in sealed.reading(name, context)])


def frames(content: bytes) -> tuple[bytes, list[bytes]]:
    line, rest = content.split(b"\n", 1)
    found = []
    while rest:
        length = struct.unpack(">I", rest[:4])[0] + 4
        found.append(rest[:length])
        rest = rest[length:]
    return line + b"\n", found


@pytest.mark.parametrize("length", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, len(CONTENT)])
async def test_what_was_written_is_read_and_never_plain_on_disk(tmp_path: Path, length: int) -> None:
    sealed = files(tmp_path)
    await write(sealed, CONTENT[:length])
    assert await read(sealed) == CONTENT[:length]
    path = tmp_path / "b1.qmbackup"
    assert b"canarycanary" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    stored = await sealed.stored("b1.qmbackup")
    assert stored.bytes == path.stat().st_size


@pytest.mark.parametrize(
    "damage", ["cut off", "shorter", "changed", "swapped", "doubled", "empty", "first line"]
)
async def test_no_changed_file_is_read_to_its_end(tmp_path: Path, damage: str) -> None:
    sealed = files(tmp_path)
    await write(sealed, CONTENT)
    path = tmp_path / "b1.qmbackup"
    line, parts = frames(path.read_bytes())
    assert len(parts) == 3
    spoiled = {
        "cut off": line + parts[0] + parts[1],
        "shorter": (line + b"".join(parts))[:-7],
        "changed": line + parts[0] + parts[1][:100] + bytes([parts[1][100] ^ 1]) + parts[1][101:] + parts[2],
        "swapped": line + parts[1] + parts[0] + parts[2],
        "doubled": line + parts[0] + parts[1] + parts[1] + parts[2],
        "empty": b"",
        "first line": line.replace(b"backup 1", b"backup 2") + b"".join(parts),
    }
    path.write_bytes(spoiled[damage])
    with pytest.raises(Corrupt):
        await read(sealed)


async def test_a_file_does_not_open_as_another_backup_or_under_another_key(tmp_path: Path) -> None:
    await write(files(tmp_path), b"x")
    with pytest.raises(Corrupt):
        await read(files(tmp_path), context=("backup", "b2"))
    with pytest.raises(Unavailable):
        await read(files(tmp_path, b"o" * 32))


async def test_a_writing_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    sealed = files(tmp_path)

    async def broken_off() -> None:
        async with sealed.writing("b1.qmbackup", CONTEXT) as sink:
            await sink(b"x" * 3_000_000)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await broken_off()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../b1", "a/b", "", ".hidden", "b\x00"])
async def test_no_name_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFound):
        await files(tmp_path).stored(name)


async def test_scratch_of_the_living_stays_and_what_the_dead_left_goes(tmp_path: Path) -> None:
    mine, another = HomeScratch(tmp_path), HomeScratch(tmp_path)
    left = tmp_path / "s-left"
    left.mkdir()
    (left / ".lock").touch()
    (left / "copy.db").write_bytes(b"rows")
    async with mine.folder() as folder:
        Path(folder, "copy.db").write_bytes(b"rows")
        await mine.clear()
        await another.clear()
        assert Path(folder, "copy.db").read_bytes() == b"rows"
        assert not left.exists()
    assert not Path(folder).exists()
