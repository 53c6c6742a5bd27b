"""A full disk under backups, scratch copies, or the databases themselves: what there was stays, what failed is told."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.backups.test_sqlite import count, prepared, write
from tests.services.engine import EngineMissing
from tests.services.missing import do_without
from tests.services.spare_engine import mount, unmount
from tests.tools.desk import Desk, opened

SmallDisk = Callable[[Path, int], None]


@pytest.fixture
def small_disk() -> Iterator[SmallDisk]:
    """`small_disk(folder, megabytes)`: the folder lies on a disk of this size from now on."""
    places: list[Path] = []

    def laid(folder: Path, megabytes: int) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            mount(folder, megabytes)
        except EngineMissing as missing:
            do_without(str(missing))
        places.append(folder)

    yield laid
    for place in places:
        unmount(place)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    for size in (64 * 1024, 1):
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(size))
    return filler


async def backups(desk: Desk) -> list[tuple[str, str]]:
    return [(one["reason"], one["state"]) for one in (await desk.done("list_backups"))["items"]]


@pytest.mark.parametrize("full", ["backups", "scratch"])
async def test_a_backup_that_has_no_room_is_failed_and_the_earlier_one_is_kept(
    tmp_path: Path, small_disk: SmallDisk, full: str
) -> None:
    small_disk(tmp_path / "home" / full, 2)
    async with opened(tmp_path) as desk:
        await prepared(desk)
        first = await desk.done("backup_database", {"project": "shop"})
        assert first["state"] == "verified", first
        await write(desk, "INSERT INTO pets (b) VALUES (randomblob(3000000))")
        second = await desk.done("backup_database", {"project": "shop"})
        assert second["state"] == "failed"
        assert re.search("No space|SQLITE_FULL", second["error"])
        kept = [path.name for path in (tmp_path / "home" / "backups").iterdir()]
        assert kept == [f"{first['id']}.qmbackup"]
        await write(desk, "DELETE FROM pets WHERE length(b) > 100")
        # The file gives room back only when it is packed.
        with closing(
            sqlite3.connect((await desk.done("get_database", {"project": "shop"}))["address"])
        ) as file:
            file.execute("VACUUM")
        assert (await desk.done("backup_database", {"project": "shop"}))["state"] == "verified"
        assert await backups(desk) == [("asked", "verified"), ("asked", "failed"), ("asked", "verified")]


async def test_a_small_backup_without_room_says_that_the_disk_is_full(
    tmp_path: Path, small_disk: SmallDisk
) -> None:
    """All of it waited in a buffer, and found no room once more when it was given up."""
    small_disk(tmp_path / "home" / "backups", 1)
    async with opened(tmp_path) as desk:
        await prepared(desk)
        fill(tmp_path / "home" / "backups")
        failed = await desk.done("backup_database", {"project": "shop"})
        assert failed["state"] == "failed"
        assert "No space" in failed["error"]
        assert [path.name for path in (tmp_path / "home" / "backups").iterdir()] == ["filler"]


async def test_a_backup_whose_end_cannot_be_written_down_ends_when_there_is_room(
    tmp_path: Path, small_disk: SmallDisk
) -> None:
    """Its process lives, so that nobody else would take it for dead."""
    home = tmp_path / "home"
    small_disk(home, 8)
    async with opened(tmp_path) as desk:
        await prepared(desk)
        parts = desk.house.databases.parts
        object.__setattr__(parts, "step", lambda step: step == "backups.noted" and fill(home))
        stuck = await desk.done("backup_database", {"project": "shop"})
        assert stuck["state"] == "writing"
        (home / "filler").unlink()
        with anyio.fail_after(30):
            while await backups(desk) != [("asked", "failed")]:
                await anyio.sleep(0.2)


async def test_a_restore_that_has_no_room_leaves_the_database_as_it_was(
    tmp_path: Path, small_disk: SmallDisk
) -> None:
    small_disk(tmp_path / "home" / "databases", 2)
    async with opened(tmp_path) as desk:
        await prepared(desk)
        made = await desk.done("backup_database", {"project": "shop"})
        await write(desk, "DELETE FROM pets WHERE id > 5")
        filler = fill(tmp_path / "home" / "databases")
        plan = await desk.done("restore_database", {"backup_id": made["id"]})
        sent = {"backup_id": made["id"], "plan_token": plan["plan_token"]}
        refused = (await desk.call("restore_database", sent)).structured_content or {}
        assert refused["code"] == "UNAVAILABLE", refused
        assert not list((tmp_path / "home" / "databases").rglob("*.new"))
        filler.unlink()
        assert await count(desk) == 5
        again: Any = await desk.done("restore_database", {"backup_id": made["id"]})
        sent["plan_token"] = again["plan_token"]
        await desk.done("restore_database", sent)
        assert await count(desk) == 500


async def test_a_file_that_has_no_room_is_not_made_and_one_that_is_full_keeps_its_rows(
    tmp_path: Path, small_disk: SmallDisk
) -> None:
    small_disk(tmp_path / "home" / "databases", 2)
    async with opened(tmp_path) as desk:
        await prepared(desk)
        filler = fill(tmp_path / "home" / "databases")
        refused = await desk.call(
            "query_database",
            {"project": "shop", "sql": "INSERT INTO pets (b) VALUES (randomblob(300000))", "write": True},
        )
        assert refused.is_error
        await desk.done("create_project", {"name": "web"})
        failed = await desk.call("create_database", {"project": "web", "engine": "sqlite"})
        assert failed.is_error
        assert [one["project"] for one in (await desk.done("list_databases"))["items"]] == ["shop"]
        assert len(list((tmp_path / "home" / "databases").rglob("*.db"))) == 1
        filler.unlink()
        assert await count(desk) == 500
        assert (await desk.done("create_database", {"project": "web", "engine": "sqlite"}))[
            "state"
        ] == "running"
