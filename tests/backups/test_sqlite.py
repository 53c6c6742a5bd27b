"""Backups of SQLite databases through a real client; retention, schedules, and what dead processes left."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mcp_server.domain.backups import Backup, Retention, TableSum, differences, due, expired
from mcp_server.ports.store import Transaction
from mcp_server.services.backups.settling import TEND
from tests.tools.desk import Desk, opened

NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)"
NOW = datetime(2026, 6, 1, tzinfo=UTC)


async def prepared(desk: Desk) -> None:
    await desk.done("create_project", {"name": "shop"})
    await desk.done("create_database", {"project": "shop", "engine": "sqlite"})
    for sql in (
        "CREATE TABLE pets (id INTEGER PRIMARY KEY, name TEXT, b BLOB)",
        f"{NUMBERS} INSERT INTO pets (name, b) SELECT 'canary-pet-' || i, x'00ff' FROM n",  # noqa: S608
        "CREATE VIEW v AS SELECT count(*) AS c FROM pets",
    ):
        await write(desk, sql)


async def write(desk: Desk, sql: str) -> None:
    await desk.done("query_database", {"project": "shop", "sql": sql, "write": True})


async def count(desk: Desk) -> Any:
    found = await desk.done("query_database", {"project": "shop", "sql": "SELECT count(*) FROM pets"})
    return found["rows"][0][0]


async def planned(desk: Desk, tool: str, arguments: dict[str, Any]) -> Any:
    plan = await desk.done(tool, arguments)
    assert plan["message"].startswith("Nothing has been changed yet")
    return await desk.done(tool, {**arguments, "plan_token": plan["plan_token"]})


async def test_a_repeated_call_restores_once_and_keeps_what_was_written_since(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await prepared(desk)
        made = await desk.done("backup_database", {"project": "shop"})
        plan = await desk.done("restore_database", {"backup_id": made["id"]})
        sent = {"backup_id": made["id"], "plan_token": plan["plan_token"], "idempotency_key": "k"}
        assert (await desk.done("restore_database", sent))["status"] == "done"
        await write(desk, "DELETE FROM pets WHERE id > 5")
        again = await desk.done("restore_database", sent)
        assert "earlier call" in again["message"]
        assert await count(desk) == 5


async def test_a_backup_is_proved_and_comes_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await prepared(desk)
        made = await desk.done("backup_database", {"project": "shop"})
        assert (made["state"], made["rows"] >= 500, made["error"]) == ("verified", True, None)
        assert made["verified_at"]
        files = list((desk.house.settings.home / "backups").iterdir())
        assert [file.name for file in files] == [f"{made['id']}.qmbackup"]
        assert b"canary-pet" not in files[0].read_bytes()
        await write(desk, "DELETE FROM pets WHERE id > 5")
        done = await planned(desk, "restore_database", {"backup_id": made["id"]})
        assert done["status"] == "done"
        assert await count(desk) == 500
        listed = (await desk.done("list_backups", {"project": "shop"}))["items"]
        assert [(one["reason"], one["state"]) for one in listed] == [
            ("restore", "verified"),
            ("asked", "verified"),
        ]
        await planned(desk, "restore_database", {"backup_id": listed[0]["id"]})
        assert await count(desk) == 5
        assert list((desk.house.settings.home / "scratch").glob("s-*")) == []


async def test_a_database_that_others_have_open_is_not_replaced(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await prepared(desk)
        made = await desk.done("backup_database", {"project": "shop"})
        path = (await desk.done("get_database", {"project": "shop"}))["address"]
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM pets").fetchone()
            await write(desk, "DELETE FROM pets WHERE id > 5")
            plan = await desk.done("restore_database", {"backup_id": made["id"]})
            sent = {"backup_id": made["id"], "plan_token": plan["plan_token"]}
            refused = await desk.call("restore_database", sent)
            assert (refused.structured_content or {})["code"] == "CONFLICT"
        assert await count(desk) == 5


async def test_a_deletion_keeps_a_verified_final_backup_that_can_come_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await prepared(desk)
        await planned(desk, "delete_database", {"project": "shop"})
        [final] = (await desk.done("list_backups"))["items"]
        assert (final["reason"], final["state"]) == ("deletion", "verified")
        await desk.done("create_database", {"project": "shop", "engine": "sqlite"})
        await planned(desk, "restore_database", {"backup_id": final["id"]})
        assert await count(desk) == 500


async def test_backups_of_another_team_are_not_found(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await prepared(desk)
        made = await desk.done("backup_database", {"project": "shop"})
        stranger = await desk.other_team()
        assert (await desk.done("list_backups", caller=stranger))["items"] == []
        for name, arguments in (
            ("backup_database", {"project": "shop"}),
            ("restore_database", {"backup_id": made["id"]}),
        ):
            result = await desk.call(name, arguments, caller=stranger)
            assert (result.structured_content or {})["code"] == "NOT_FOUND"


async def test_a_repeated_call_makes_one_backup(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await prepared(desk)
        ids = {
            (await desk.done("backup_database", {"project": "shop", "idempotency_key": "k"}))["id"]
            for _ in range(2)
        }
        assert len(ids) == 1
        assert len((await desk.done("list_backups"))["items"]) == 1


async def test_what_a_dead_process_began_is_failed_and_its_files_go(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await prepared(desk)
        made = await desk.done("backup_database", {"project": "shop"})
        folder = desk.house.settings.home / "backups"
        store = desk.house.store
        kept = await store.read(lambda tx: tx.backups.get(made["id"]))
        assert kept is not None
        dead = kept.change(
            id="b-dead",
            stage="writing",
            verified_at=None,
            worker=f"w{'0' * 24}",
            file="b-dead.qmbackup",
            rev=0,
        )

        async def add(tx: Transaction) -> None:
            await tx.backups.add(dead)

        await store.run(add, TEND)
        for name in ("b-dead.qmbackup.writing", "b-nobodys.qmbackup.writing", "b-nobodys.qmbackup"):
            (folder / name).write_bytes(b"x")
        await desk.house.backups.tending.tend()
        found = await store.read(lambda tx: tx.backups.get("b-dead"))
        assert found is not None
        assert (found.stage, found.worker, found.error) == ("failed", None, "its server process ended")
        # A whole file of which nobody knows may be newer than a store that was restored.
        assert {file.name for file in folder.iterdir()} == {kept.file, "b-nobodys.qmbackup"}


async def test_a_plan_made_right_after_a_restore_broke_off_is_good_for_its_call(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await prepared(desk)
        made = await desk.done("backup_database", {"project": "shop"})
        await broken_off(desk, made["id"], f"w{'0' * 24}")
        plan = await desk.done("restore_database", {"backup_id": made["id"]})
        await desk.house.backups.tending.tend()  # the leader's look, which used to come between
        done = await desk.done(
            "restore_database", {"backup_id": made["id"], "plan_token": plan["plan_token"]}
        )
        assert done["status"] == "done"


async def test_a_backup_that_somebody_restores_is_not_restored_by_another(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await prepared(desk)
        made = await desk.done("backup_database", {"project": "shop"})
        await broken_off(desk, made["id"], desk.house.workers.me)
        refused = (await desk.call("restore_database", {"backup_id": made["id"]})).structured_content
        assert (refused["code"], refused["next"]) == ("CONFLICT", "Try again in a few seconds.")


async def broken_off(desk: Desk, backup_id: str, worker: str) -> None:
    """The marks of a restore in the middle."""

    async def marked(tx: Transaction) -> None:
        backup = await tx.backups.hold(backup_id)
        assert backup is not None
        await tx.backups.save(backup.change(worker=worker))

    await desk.house.store.run(marked, TEND)


async def test_the_schedule_makes_what_is_due_and_no_more(tmp_path: Path) -> None:
    async with opened(tmp_path) as desk:
        await prepared(desk)
        assert await desk.house.backups.tending.run_schedule(24) == 1
        assert await desk.house.backups.tending.run_schedule(24) == 0
        assert await desk.house.backups.tending.run_schedule(0) == 1


def backup(id: str, days: int, **fields: Any) -> Backup:
    known: dict[str, Any] = {
        "home": "h",
        "host": "m",
        "host_name": "box",
        "engine": "sqlite",
        "file": f"{id}.x",
    }
    known |= {"database_uid": "d", "stage": "kept", "created_at": NOW - timedelta(days=days)}
    return Backup(id=id, **{**known, **fields})


@pytest.mark.parametrize(
    ("backups", "gone"),
    [
        ([backup("a", 400)], []),
        ([backup("a", 400), backup("b", 300), backup("c", 200)], ["a"]),
        ([backup("a", 20), backup("b", 10), backup("c", 5)], []),
        ([backup("a", 400), backup("b", 300, database_uid="e"), backup("c", 200)], []),
        ([backup("a", 400, stage="failed"), backup("b", 0, stage="failed")], ["a"]),
        ([backup("a", 400, stage="writing")], []),
    ],
)
def test_retention_never_lets_the_newest_verified_backups_go(backups: list[Backup], gone: list[str]) -> None:
    assert [one.id for one in expired(backups, Retention(most=2, days=30), NOW)] == gone


@pytest.mark.parametrize(
    ("backups", "again"),
    [
        ([], True),
        ([backup("a", 1)], True),
        ([backup("a", 0)], False),
        ([backup("a", 2), backup("b", 0, stage="failed")], False),
        ([backup("a", 2), backup("b", 1, stage="failed")], True),
        ([backup("a", 0, stage="writing")], True),
    ],
)
def test_the_schedule_asks_again_in_time_and_lets_a_failure_be_for_a_while(
    backups: list[Backup], again: bool
) -> None:
    assert due(backups, 24, NOW) is again
    assert due(backups, 0, NOW)


def test_differences_name_every_table_that_is_not_the_same() -> None:
    one, two = TableSum(name="a", rows=1, hash="x"), TableSum(name="b", rows=2, hash="y")
    assert differences([one, two], [two, one]) == ()
    assert differences([one, two], [one.change(rows=2)]) == ("a has 2 rows instead of 1", "b is missing")
    assert differences([one], [one.change(hash="z"), two]) == ("a has other contents", "b is too much")
