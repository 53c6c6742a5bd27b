"""What a person can do with a home, sound or damaged."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mcp_server.adapters.registry import maintenance
from mcp_server.adapters.registry.keyring import RegistryKeyRing
from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.domain.audit import AuditFilter
from mcp_server.domain.errors import Corrupt, NotFound
from mcp_server.domain.keys import digest
from tests.registry.samples import add, found, found_key, key, rename, row, segment_of
from tests.services.engine import EngineMissing
from tests.services.missing import do_without
from tests.services.spare_engine import mount, unmount


@pytest.fixture
async def full(with_task, root: Path) -> Path:
    await add(with_task, key())
    await with_task.record([row("a"), row("b"), row("c")], {}, pending=True)
    await with_task.compact()
    for title in "xyz":
        await rename(with_task, title, pending=True)
    return root


def damage(path: Path, line: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line - 1] = lines[line - 1].replace(b"e", b"f", 1)
    path.write_bytes(b"".join(lines))


async def reopened(root: Path) -> RegistryMirror:
    return await RegistryMirror.open(root)


async def test_a_sound_home_is_reported_with_what_it_holds(full):
    report = maintenance.verify(full)
    assert (report.sound, report.damages, report.remarks) == (True, [], [])
    assert (report.pending, report.audit_rows, report.generation) == (3, 3, 2)
    assert report.records["tasks"] == 1
    assert report.seq == 7


async def test_all_damage_and_all_remarks_are_reported_at_once_and_nothing_is_changed(full):
    damage(segment_of(full), 2)
    damage(full / "api-keys.json", 1)
    damage(full / "audit-2026-11-21.ndjson", 3)
    (full / "HEAD.tmp").write_bytes(b"x")
    (full / "HEAD").chmod(0o644)
    before = {path.name: path.read_bytes() for path in full.iterdir()}
    report = maintenance.verify(full)
    assert [(Path(each.file).name, each.line) for each in report.damages] == [
        (segment_of(full).name, 2),
        ("api-keys.json", 1),
        ("audit-2026-11-21.ndjson", 3),
    ]
    assert any("other users" in remark for remark in report.remarks)
    assert {path.name: path.read_bytes() for path in full.iterdir()} == before


async def test_only_what_others_should_not_reach_is_a_remark(full):
    (full / "edge").mkdir(mode=0o755)
    assert maintenance.verify(full).remarks == []
    (full / "edge").chmod(0o777)
    (full / "HEAD").chmod(0o644)
    assert [remark.split(" ")[0] for remark in maintenance.verify(full).remarks] == [
        str(full / "HEAD"),
        str(full / "edge"),
    ]


async def test_a_copy_on_a_file_system_that_takes_no_writes_is_verified_and_exported(full, tmp_path):
    place = tmp_path / "copy"
    place.mkdir(mode=0o700)
    try:
        mount(place, 4)
    except EngineMissing as missing:
        do_without(str(missing))
    try:
        shutil.copytree(full, place / "home")
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        assert maintenance.verify(place / "home").sound
        assert maintenance.export(place / "home") == maintenance.export(full)
    finally:
        unmount(place)


async def test_a_torn_tail_is_a_remark(full):
    with segment_of(full).open("ab") as file:
        file.write(b'{"seq":')
    report = maintenance.verify(full)
    assert report.sound
    assert any("unfinished line" in remark for remark in report.remarks)


def test_a_directory_without_a_home_is_not_found(tmp_path):
    for command in (maintenance.verify, maintenance.export):
        with pytest.raises(NotFound):
            command(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_an_export_holds_every_record_and_the_pending_lines(full):
    document = json.loads(json.dumps(maintenance.export(full)))
    assert [each["title"] for each in document["records"]["tasks"]] == ["z"]
    assert [each["id"] for each in document["records"]["keys"]] == ["key1"]
    assert len(document["pending"]) == 3


async def test_compacting_works_beside_an_open_mirror(full, with_task):
    await maintenance.compact(full)
    assert maintenance.verify(full).generation == 3
    assert len(await with_task.pending(10)) == 3


async def test_a_sound_home_has_nothing_to_set_aside(full):
    before = {path.name: path.read_bytes() for path in full.iterdir()}
    assert list(await maintenance.set_aside(full)) == []
    assert {path.name: path.read_bytes() for path in full.iterdir()} == before | {"write.turn": b""}


async def test_a_damaged_line_is_set_aside_with_those_that_continue_it(full):
    damage(segment_of(full), 2)
    original = segment_of(full).read_bytes()
    with pytest.raises(Corrupt):
        await reopened(full)
    done = await maintenance.set_aside(full)
    assert any("line 2" in each for each in done)
    (aside,) = full.glob("journal-*.damaged-*")
    assert segment_of(full).read_bytes() + aside.read_bytes() == original
    mirror = await reopened(full)
    assert (await found(mirror, "tasks", "k1")).title == "x"
    await rename(mirror, "on")
    mirror.close()
    assert maintenance.verify(full).sound


async def test_damaged_keys_are_projected_anew(full):
    damage(full / "api-keys.json", 1)
    await maintenance.set_aside(full)
    assert len(list(full.glob("api-keys.json.damaged-*"))) == 1
    assert (await found_key(RegistryKeyRing(full), "secret-1")).id == "key1"


async def test_keys_that_went_aside_with_their_line_are_good_no_more(full, with_task):
    await add(with_task, key("late", "late"))
    damage(segment_of(full), 4)
    await maintenance.set_aside(full)
    assert await RegistryKeyRing(full).find(digest("late")) is None
    assert await RegistryKeyRing(full).find(digest("secret-1")) is not None


@pytest.mark.parametrize("name", ["HEAD", "home.json"])
async def test_head_and_home_are_written_anew_from_what_is_left(full, with_task, name):
    home = (await with_task.refresh()).home
    damage(full / name, 1)
    assert len(await maintenance.set_aside(full)) == 1
    mirror = await reopened(full)
    assert (await mirror.refresh()).home == home
    assert (await found(mirror, "tasks", "k1")).title == "z"
    mirror.close()


async def test_a_damaged_audit_row_is_set_aside_and_the_others_stay_pending(full):
    damage(full / "audit-2026-11-21.ndjson", 2)
    await maintenance.set_aside(full)
    mirror = await reopened(full)
    rows = await mirror.read(lambda r: r.audit.find(AuditFilter(team_id="t1")))
    assert [each.id for each in rows.items] == ["a", "c"]
    assert [each.id for each in (await mirror.audit_backlog(10))[0]] == ["a", "c"]
    mirror.close()


async def test_a_damaged_snapshot_leaves_an_empty_registry_above_every_fence(full, with_task):
    before = await with_task.refresh()
    (snapshot,) = full.glob("snapshot-*")
    damage(snapshot, 1)
    await maintenance.set_aside(full)
    assert len(list(full.glob("*.damaged-*"))) == 2
    mirror = await reopened(full)
    after = await mirror.refresh()
    assert after.home == before.home
    assert after.epoch > before.epoch
    assert not after.alone
    assert await found(mirror, "tasks", "k1") is None
    assert await RegistryKeyRing(full).find(digest("secret-1")) is None
    mirror.close()
    assert maintenance.verify(full).sound
