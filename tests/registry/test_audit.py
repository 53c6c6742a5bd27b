"""Audit rows, wherever they lie."""

from datetime import timedelta
from typing import Any

import pytest

from mcp_server.adapters.registry import audit_files
from mcp_server.domain.audit import AuditFilter
from mcp_server.domain.errors import Corrupt, Unavailable
from tests.registry.samples import INTENT, NOON, Clock, add, found, key, row, task

DAY = timedelta(days=1)
NEWLINE = b"\n"


async def ids(mirror: Any, limit: int = 50, after: str | None = None, **wanted: Any) -> list[str]:
    page = await mirror.read(
        lambda r: r.audit.find(AuditFilter(**{"team_id": "t1", **wanted}), limit=limit, after=after)
    )
    return [each.id for each in page.items]


@pytest.fixture
async def rows(mirror, other):
    """Rows of four days in three places: the journal, the files by compaction, the files by record."""
    await add(mirror, task("a"), audit=(row("a", NOON - 3 * DAY), row("b", NOON - DAY, success=False)))
    await mirror.compact()
    await other.record(
        [row("c", NOON - DAY), row("d", NOON - 2 * DAY, action="x"), row("e", NOON)], {}, pending=False
    )
    await add(
        mirror, task("b"), audit=(row("f", NOON - DAY + timedelta(hours=1)), row("g", NOON, team_id="t2"))
    )
    return mirror


async def test_rows_come_newest_first_then_by_id_from_every_place(rows):
    assert await ids(rows) == ["e", "f", "b", "c", "d", "a"]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
async def test_pages_continue_where_the_one_before_ended(rows, size):
    found, after = [], None
    while True:
        page = await rows.read(
            lambda r, a=after: r.audit.find(AuditFilter(team_id="t1"), limit=size, after=a)
        )
        assert len(page.items) <= size
        found += [each.id for each in page.items]
        after = page.cursor
        if after is None:
            break
    assert found == ["e", "f", "b", "c", "d", "a"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"team_id": "t2"}, ["g"]),
        ({"action": "x"}, ["d"]),
        ({"success": False}, ["b"]),
        ({"since": NOON - DAY}, ["e", "f", "b", "c"]),
        ({"until": NOON - DAY}, ["d", "a"]),
        ({"since": NOON - 2 * DAY, "until": NOON}, ["f", "b", "c", "d"]),
    ],
)
async def test_filters_narrow_and_since_is_inclusive_and_until_exclusive(rows, wanted, expected):
    assert await ids(rows, **wanted) == expected


async def test_a_row_written_twice_is_one_row(mirror):
    await add(mirror, task("a"), audit=(row("r"),))
    await mirror.record([row("r")], {}, pending=False)
    await mirror.record([row("r")], {}, pending=False)
    assert await ids(mirror) == ["r"]


async def clean(mirror: Any, before: Any, limit: int = 1000) -> int:
    value, _ = await mirror.run(
        lambda tx: tx.audit.clean(before, limit=limit), INTENT, line_id="c", pending=False
    )
    return int(value)


async def test_cleaning_takes_old_rows_from_every_place_counts_them_and_deletes_whole_days(rows, other, root):
    assert await clean(rows, NOON - DAY) == 2
    for mirror in (rows, other):
        assert await ids(mirror) == ["e", "f", "b", "c"]
    assert sorted(path.name for path in root.glob("audit-*")) == [
        "audit-2026-11-20.ndjson",
        "audit-2026-11-21.ndjson",
    ]
    assert await clean(rows, NOON - DAY) == 0
    await rows.compact()
    assert await ids(rows) == ["e", "f", "b", "c"]


async def test_cleaning_takes_no_more_than_asked_and_the_oldest_first(rows):
    assert await clean(rows, NOON, limit=1) == 1
    assert await ids(rows) == ["e", "f", "b", "c", "d"]
    assert await clean(rows, NOON, limit=2) >= 1
    assert await ids(rows) in (["e", "f", "b", "c"], ["e", "f"])


async def test_cleaning_that_is_rolled_back_deletes_nothing(rows, root):
    async def fn(tx: Any) -> None:
        assert await tx.audit.clean(NOON, limit=10) == 5
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        await rows.run(fn, INTENT, line_id="c", pending=False)
    assert len(await ids(rows)) == 6
    assert len(list(root.glob("audit-*"))) == 4


async def test_pending_rows_are_handed_out_until_they_are_acknowledged(
    mirror, other, open_mirror, clock: Clock
):
    await mirror.record([row("before")], {}, pending=False)
    await mirror.record([row("p1"), row("p2", NOON - DAY)], {}, pending=True)
    await mirror.record([row("between")], {}, pending=False)
    await other.record([row("p3")], {}, pending=True)
    await mirror.compact()
    assert (await other.refresh()).audit_pending
    handed, mark = await other.audit_backlog(2)
    again, _ = await other.audit_backlog(2)
    assert [each.id for each in handed] == [each.id for each in again] == ["p2", "p1"]
    await other.audit_settled(mark)
    rest, mark = await mirror.audit_backlog(10)
    assert [each.id for each in rest] == ["p3"]
    await mirror.audit_settled(mark)
    for each in (mirror, other, await open_mirror()):
        assert not (await each.refresh()).audit_pending
        assert list((await each.audit_backlog(10))[0]) == []
    assert set(await ids(mirror)) == {"before", "p1", "p2", "between", "p3"}


async def test_rows_that_arrive_between_the_handing_out_and_the_acknowledgement_stay_pending(mirror):
    await mirror.record([row("p1")], {}, pending=True)
    _, mark = await mirror.audit_backlog(10)
    await mirror.record([row("p2")], {}, pending=True)
    await mirror.audit_settled(mark)
    assert [each.id for each in (await mirror.audit_backlog(10))[0]] == ["p2"]


async def test_a_torn_last_row_is_cut_by_the_next_writer_and_not_read(mirror, root):
    await mirror.record([row("a")], {}, pending=False)
    (path,) = root.glob("audit-*")
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:50])
    assert await ids(mirror) == ["a"]
    await mirror.record([row("b")], {}, pending=True)
    assert await ids(mirror) == ["a", "b"]
    assert [each.id for each in (await mirror.audit_backlog(10))[0]] == ["b"]


async def test_every_flipped_byte_of_an_audit_file_is_refused(mirror, root):
    await mirror.record([row("a"), row("b")], {}, pending=False)
    (path,) = root.glob("audit-*")
    data = path.read_bytes()
    for index in range(len(data)):
        path.write_bytes(data[:index] + bytes([data[index] ^ 4]) + data[index + 1 :])
        with pytest.raises(Corrupt, match=f"{path.name} line {1 + data[:index].count(NEWLINE)}: "):
            await ids(mirror)


async def test_the_last_use_of_a_key_is_kept_once_a_minute_and_is_no_change_of_the_key(mirror, other, root):
    await add(mirror, key())
    projected = (root / "api-keys.json").read_bytes()
    for second in (0, 1, 59, 61):
        await mirror.record([], {"key1": NOON + timedelta(seconds=second), "nobody": NOON}, pending=False)
    stored = await found(other, "keys", "key1")
    assert (stored.rev, stored.last_used_at) == (1, NOON + timedelta(seconds=61))
    assert (root / "api-keys.json").read_bytes() == projected
    await mirror.compact()
    assert (await found(other, "keys", "key1")).last_used_at == NOON + timedelta(seconds=61)


async def test_a_backlog_whose_rows_were_never_written_ends_when_it_is_asked_for(mirror, monkeypatch):
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(audit_files, "append", fails)
        with pytest.raises(Unavailable):
            await mirror.record([row("lost")], {}, pending=True)
    assert (await mirror.refresh()).audit_pending
    assert list((await mirror.audit_backlog(10))[0]) == []
    assert not (await mirror.refresh()).audit_pending
