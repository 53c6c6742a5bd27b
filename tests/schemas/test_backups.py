"""Backups before dangerous commands, of databases that Quaymaster did not make: sealed, proved, kept for a time."""

import asyncio
import json
import os
import sqlite3
import subprocess
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from mcp_server import app
from mcp_server.domain.errors import Corrupt, NotFound, QuaymasterError
from mcp_server.ports.store import Intent, Transaction
from tests.schemas.conftest import Bench
from tests.schemas.test_migrating import ONE, roll_back
from tests.schemas.test_terminal import db

SECRET = "canary-in-a-row"


def with_rows(bench: Bench) -> None:
    bench.migration("001_one", "CREATE TABLE one (id integer PRIMARY KEY, name text);", "DROP TABLE one;")
    bench.migration("002_two", f"INSERT INTO one VALUES (1, '{SECRET}');", "DELETE FROM one;")  # noqa: S608


def files(bench: Bench) -> list[Path]:
    return sorted((bench.home / "backups").glob("*.qmbackup"))


async def kept(bench: Bench) -> str:
    with_rows(bench)
    await bench.deploy()
    await roll_back(bench, "001_one")
    [backup] = await bench.databases().places.backups(bench.one())
    assert (backup.stage, backup.subject, backup.reason) == ("kept", "outside", "schema")
    assert backup.verified_at is not None
    return backup.id


async def test_a_backup_is_sealed_and_comes_out_as_it_was(bench: Bench, tmp_path: Path) -> None:
    made = await kept(bench)
    [file] = files(bench)
    assert SECRET.encode() not in file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600
    out = tmp_path / "out"
    await bench.databases().places.export(bench.one(), made, out)
    assert out.stat().st_mode & 0o777 == 0o600
    assert await asyncio.to_thread(rows_in, bench, out) == SECRET
    with pytest.raises(QuaymasterError, match="already"):
        await bench.databases().places.export(bench.one(), made, out)


def rows_in(bench: Bench, out: Path) -> str:
    if bench.engine == "sqlite":
        with closing(sqlite3.connect(out)) as connection:
            return str(connection.execute("SELECT name FROM one").fetchone()[0])
    text = subprocess.run(
        ["pg_restore", "--data-only", "--table=one", "--file=-", str(out)],
        capture_output=True, text=True, check=True, timeout=30,
    ).stdout  # fmt: skip
    return SECRET if f"1\t{SECRET}" in text else text


async def test_a_damaged_backup_comes_out_as_nothing(bench: Bench, tmp_path: Path) -> None:
    made = await kept(bench)
    [file] = files(bench)
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    with pytest.raises(Corrupt):
        await bench.databases().places.export(bench.one(), made, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


async def test_of_each_database_only_so_many_backups_stay(sqlite_bench: Bench, monkeypatch) -> None:
    bench = sqlite_bench
    few = bench.settings().model_copy(update={"backup_keep": 2, "backup_days": 1})
    monkeypatch.setattr(Bench, "settings", lambda _: few)
    with_rows(bench)
    for _ in range(3):
        await bench.deploy()
        await roll_back(bench, "001_one")
    assert len(files(bench)) == 3
    await age(bench, timedelta(days=2))
    await bench.deploy()
    await roll_back(bench, "001_one")
    assert len(files(bench)) == 2
    assert len(await bench.databases().places.backups(bench.one())) == 2


async def age(bench: Bench, by: timedelta) -> None:
    """As if all backups had been made that much earlier."""

    async def transaction(tx: Transaction) -> None:
        for each in await tx.backups.of_home(home):
            held = await tx.backups.hold(each.id)
            assert held is not None
            await tx.backups.save(held.change(created_at=held.created_at - by))

    async with app.open_app(bench.settings()) as house:
        home = house.databases.parts.site.home
        await house.store.run(transaction, Intent("age", "the test"))


async def test_without_a_proof_nothing_is_kept_and_nothing_changed(bench: Bench, monkeypatch) -> None:
    """A backup that restores to something else stops the command."""
    from mcp_server.services.backups import outside

    with_rows(bench)
    await bench.deploy()
    monkeypatch.setattr(outside, "differences", lambda expected, found: ("one has other contents",))
    with pytest.raises(Corrupt, match="differs: one has other contents"):
        await roll_back(bench, "001_one")
    assert [row.label for row in await bench.ledger()] == ["001_one", "002_two"]
    assert files(bench) == []
    [failed] = await bench.databases().places.backups(bench.one())
    assert failed.stage == "failed"


async def test_a_backup_is_of_its_own_database_only(sqlite_bench: Bench, tmp_path: Path) -> None:
    made = await kept(sqlite_bench)
    sqlite_bench.environ["RDS_APP_URL"] = f"sqlite:///{tmp_path}/other.db"
    with pytest.raises(NotFound):
        await sqlite_bench.databases().places.export(sqlite_bench.one(), made, tmp_path / "out")


async def test_an_index_that_was_left_invalid_does_not_stop_a_backup(postgres_bench: Bench) -> None:
    bench = postgres_bench
    bench.migration("001_one", f"{ONE}INSERT INTO one VALUES (2);", "DROP TABLE one;")  # noqa: S608
    await bench.deploy()
    bench.migration(
        "002_twice", "-- no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY i ON one ((id > 0));", "SELECT 1;"
    )
    with pytest.raises(QuaymasterError):
        await bench.deploy()
    plan = await bench.databases().dangerous.plan(bench.one(), "reset")
    assert await bench.databases().places.keep(bench.one())
    assert plan.effects


def test_backups_are_listed_and_written_out_by_the_command(sqlite_bench: Bench) -> None:
    home = {"QUAYMASTER_HOME": str(sqlite_bench.home)}
    with_rows(sqlite_bench)
    assert db(sqlite_bench, "migrate", "-a", "-t", "deploy", "--no-countdown").returncode == 0
    token = db(sqlite_bench, "rollback", "-a", "-t", "base", "--plan", **home).stdout.strip()
    assert db(sqlite_bench, "rollback", "-a", "-t", "base", "--token", token, **home).returncode == 0
    [listed] = json.loads(db(sqlite_bench, "backups", "-a", "--json", **home).stdout)["databases"]
    [backup] = listed["result"]["backups"]
    assert backup["verified_at"]
    assert "verified" in db(sqlite_bench, "backups", "-a", **home).stdout
    done = db(sqlite_bench, "backups", "-d", "app", "--export", backup["id"], "out.db", **home)
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(sqlite_bench.root / "out.db")) as connection:
        assert connection.execute("SELECT name FROM one").fetchone() == (SECRET,)
    assert [each for each in os.listdir(sqlite_bench.home / "scratch") if each != ".lock"] == []
