"""Migrations on real databases: forward, back, changed files, killed runners, two runners."""

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from mcp_server.domain.errors import Invalid, Locked
from mcp_server.domain.schemas.failures import Drift, HalfApplied, Refused, StatementFailed
from tests.schemas.conftest import Bench
from tests.services.processes import CHECKOUT

ONE = "CREATE TABLE one (id integer PRIMARY KEY);\nINSERT INTO one VALUES (1);\n"
TWO = "ALTER TABLE one ADD COLUMN name text;\nUPDATE one SET name = 'first' WHERE id = 1;\n"


def two_migrations(bench: Bench) -> None:
    bench.migration("001_one", ONE, "DROP TABLE one;")
    bench.migration("002_two", TWO, "ALTER TABLE one DROP COLUMN name;")


async def test_what_is_pending_is_applied_once_and_in_order(bench):
    two_migrations(bench)
    assert await bench.deploy() == ("001_one", "002_two")
    assert await bench.deploy() == ()
    assert await bench.rows("SELECT id, name FROM one") == ((1, "first"),)
    assert [row.label for row in await bench.ledger()] == ["001_one", "002_two"]


async def test_a_failing_migration_leaves_nothing_of_itself_and_those_before_it_stay(bench):
    bench.migration("001_one", ONE)
    bench.migration("002_bad", "CREATE TABLE two (id integer);\nINSERT INTO nowhere VALUES (1);\n")
    with pytest.raises(StatementFailed, match=r"002_bad/up\.sql, line 2"):
        await bench.deploy()
    assert [row.label for row in await bench.ledger()] == ["001_one"]
    with pytest.raises(StatementFailed):
        await bench.rows("SELECT * FROM two")


async def test_what_is_broken_only_at_the_end_of_its_transaction_is_said_with_its_file(bench):
    deferred = "REFERENCES one (id) DEFERRABLE INITIALLY DEFERRED"
    bench.migration("001_one", f"{ONE}CREATE TABLE two (id integer PRIMARY KEY, one integer {deferred});")
    bench.migration("002_broken", "INSERT INTO two VALUES (1, 7);")
    with pytest.raises(StatementFailed, match=r"002_broken/up\.sql"):
        await bench.deploy()
    assert [row.label for row in await bench.ledger()] == ["001_one"]
    assert await bench.rows("SELECT count(*) FROM two") == ((0,),)


async def test_what_a_script_sets_for_itself_neither_stops_the_ledger_nor_the_next_script(postgres_bench):
    role = f"r_{uuid.uuid4().hex}"
    postgres_bench.migration(
        "001_as_another",
        f"CREATE ROLE {role}; GRANT CREATE ON SCHEMA public TO {role}; SET ROLE {role};"
        " CREATE TABLE theirs (id integer); SET standard_conforming_strings = off; SET search_path = pg_catalog;",
    )
    postgres_bench.migration("002_as_before", "CREATE TABLE ours (id integer);")
    try:
        assert await postgres_bench.deploy() == ("001_as_another", "002_as_before")
        assert await postgres_bench.rows(
            "SELECT c.relname, relowner::regrole = session_user::regrole FROM pg_class c"
            " WHERE relname IN ('theirs', 'ours') AND relnamespace = 'public'::regnamespace ORDER BY relname DESC"
        ) == (("theirs", False), ("ours", True))
    finally:
        await postgres_bench.write("DROP TABLE IF EXISTS theirs")
        await postgres_bench.write(f"REVOKE CREATE ON SCHEMA public FROM {role}")
        await postgres_bench.write(f"DROP ROLE {role}")


async def test_an_edited_file_stops_with_its_name(bench):
    two_migrations(bench)
    await bench.deploy()
    bench.migration("001_one", ONE + "-- changed")
    bench.migration("003_three", "CREATE TABLE three (id integer);")
    with pytest.raises(Drift, match="001_one"):
        await bench.deploy()
    assert len(await bench.ledger()) == 2


async def test_other_line_ends_are_no_edit(bench):
    two_migrations(bench)
    await bench.deploy()
    bench.migration("001_one", ONE.replace("\n", "\r\n"))
    assert await bench.deploy() == ()


async def test_missing_and_late_files_are_named_and_go_through_only_when_allowed(bench):
    bench.migration("001_one", ONE)
    bench.migration("003_three", "CREATE TABLE three (id integer);")
    await bench.deploy()
    bench.migration("002_late", "CREATE TABLE late (id integer);")
    with pytest.raises(Drift, match="002_late"):
        await bench.deploy()
    assert await bench.deploy(allow_out_of_order=True) == ("002_late",)
    for path in (bench.folder / "migrations" / "001_one").iterdir():
        path.unlink()
    (bench.folder / "migrations" / "001_one").rmdir()
    with pytest.raises(Drift, match="001_one"):
        await bench.deploy()
    found = await bench.databases().status(bench.one())
    assert found.missing == ("001_one",)


@pytest.mark.parametrize(
    ("label", "up", "said"),
    [
        ("001_latin", "-- caf\u00e9\nCREATE TABLE t (id integer);".encode("latin-1"), "not UTF-8"),
        ("001_wide", "CREATE TABLE t (id integer);".encode("utf-16"), "not UTF-8"),
        ("001_nul", b"CREATE TABLE t (id integer);\x00", "NUL"),
        ("001_empty", b"-- nothing yet\n", "holds no statement"),
        ("001_open", b"CREATE TABLE t (id integer);\nSELECT 'a", "line 2"),
        ("001_commits", b"CREATE TABLE t (id integer);\nCOMMIT;", "line 2: COMMIT"),
        ("nonsense", b"CREATE TABLE t (id integer);", "VERSION_NAME"),
    ],
)
async def test_a_file_that_cannot_run_is_refused_before_anything_is(bench, label, up, said):
    bench.migration("000_first", "CREATE TABLE first (id integer);")
    bench.migration(label, up)
    with pytest.raises(Invalid, match=said):
        await bench.deploy()
    assert await bench.ledger() == ()


async def test_a_migration_may_have_a_name_in_any_script(bench):
    bench.schema("CREATE TABLE one (id integer);")
    path, _ = await bench.databases().write_migration(bench.one(), "주문_추가")
    assert path.name.endswith("_주문_추가")
    assert await bench.deploy() == (path.name,)
    assert (await bench.databases().status(bench.one())).applied == (path.name,)
    for name in ("주" * 100, "두 낱말", "../위", "_밑줄"):
        with pytest.raises(Invalid, match="letters, digits, hyphens and underscores"):
            bench.databases().write_empty(bench.one(), name)


async def test_a_huge_file_is_applied(bench):
    rows = "".join(f"INSERT INTO big VALUES ({number}, 'text; with '' signs');\n" for number in range(5_000))  # noqa: S608
    bench.migration("001_big", f"CREATE TABLE big (id integer, t text);\n{rows}")
    await bench.deploy()
    assert await bench.rows("SELECT count(*) FROM big") == ((5_000,),)


# -- back --------------------------------------------------------------------------------------------


async def roll_back(bench: Bench, target: str, **how: bool) -> tuple[str, ...]:
    databases = bench.databases()
    plan = await databases.dangerous.plan(bench.one(), "rollback", target)
    return await databases.dangerous.rollback(bench.one(), plan, target, tell=lambda text: None, **how)


async def test_a_rollback_runs_the_down_files_newest_first_and_keeps_the_rest(bench):
    two_migrations(bench)
    await bench.deploy()
    assert await roll_back(bench, "001_one") == ("002_two",)
    assert await bench.rows("SELECT * FROM one") == ((1,),)
    assert await bench.deploy() == ("002_two",)
    assert await roll_back(bench, "base") == ("002_two", "001_one")
    assert await bench.ledger() == ()
    saved = list((bench.home / "backups").iterdir())
    assert len(saved) == 2
    assert {path.stat().st_mode & 0o777 for path in saved} == {0o600}
    assert not any(b"CREATE TABLE" in path.read_bytes() or b"PGDMP" in path.read_bytes() for path in saved)


async def test_a_rollback_without_a_way_back_changes_nothing(bench):
    bench.migration("001_one", ONE)
    bench.migration("002_two", TWO, "ALTER TABLE one DROP COLUMN name;")
    await bench.deploy()
    with pytest.raises(Refused, match="001_one"):
        await roll_back(bench, "base")
    assert len(await bench.ledger()) == 2


async def test_a_down_file_that_fails_on_the_backup_never_meets_the_database(bench):
    bench.migration("001_one", ONE, "DROP TABLE other;")
    bench.migration("002_two", TWO, "ALTER TABLE one DROP COLUMN name;")
    await bench.deploy()
    with pytest.raises(StatementFailed, match="001_one"):
        await roll_back(bench, "base")
    assert len(await bench.ledger()) == 2


# -- without transaction ------------------------------------------------------------------------------

INDEXES = """-- no-transaction
CREATE INDEX CONCURRENTLY one_name ON one (name);
CREATE TABLE after_it (id integer);
CREATE INDEX CONCURRENTLY after_id ON after_it (id);
"""


async def test_a_migration_without_transaction_goes_on_where_it_stopped(postgres_bench):
    two_migrations(postgres_bench)
    postgres_bench.migration(
        "003_index", INDEXES + "SELECT 1/0;\n", "DROP INDEX one_name; DROP TABLE after_it;"
    )
    with pytest.raises(StatementFailed, match="line 5"):
        await postgres_bench.deploy()
    [row] = [row for row in await postgres_bench.ledger() if row.stage == "running"]
    assert (row.label, row.done, row.begun) == ("003_index", 3, False)
    postgres_bench.migration("003_index", INDEXES)
    with pytest.raises(Drift, match="003_index"):
        await postgres_bench.deploy()
    await postgres_bench.databases().resolve(postgres_bench.one(), "003_index", "applied", 0)
    assert await postgres_bench.deploy() == ()


async def test_a_statement_of_which_nobody_knows_waits_for_a_person(postgres_bench):
    two_migrations(postgres_bench)
    await postgres_bench.deploy()
    up = "-- no-transaction\nCREATE TABLE x (id integer);\nDO $$ BEGIN INSERT INTO x VALUES (1); END $$;\n"
    postgres_bench.migration("003_do", up)
    killed(postgres_bench, "schemas.executed", 1)
    with pytest.raises(HalfApplied, match="line 3"):
        await postgres_bench.deploy()
    await postgres_bench.databases().resolve(postgres_bench.one(), "003", "continue", 2)
    assert await postgres_bench.deploy() == ("003_do",)
    assert await postgres_bench.rows("SELECT count(*) FROM x") == ((1,),)


# -- killed, and two at once --------------------------------------------------------------------------


def runner(bench: Bench, fault: str | None = None) -> subprocess.Popen[bytes]:
    return started(bench, ("migrate", "-t", "deploy", "-a", "--no-countdown"), fault)


def started(bench: Bench, arguments: tuple[str, ...], fault: str | None = None) -> subprocess.Popen[bytes]:
    environ = {**os.environ, **bench.environ, "PYTHONPATH": str(CHECKOUT)}
    if fault is not None:
        environ["QUAYMASTER_FAULT"] = fault
    return subprocess.Popen(
        [sys.executable, "-m", "mcp_server", "db", *arguments],
        cwd=bench.root,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def killed(bench: Bench, point: str, number: int) -> bool:
    """Run until the point was passed for the N-th time; whether it came so far."""
    process = runner(bench, f"{point}:KILL:{number}")
    _, said = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGKILL), said.decode()
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("point", ["schemas.statement", "schemas.before_commit", "schemas.committed"])
async def test_a_runner_killed_anywhere_leaves_a_database_that_the_next_run_completes(bench, point, rounds):
    two_migrations(bench)
    concurrently = "CONCURRENTLY " if bench.engine == "postgres" else ""
    bench.migration("003_three", f"-- no-transaction\nCREATE INDEX {concurrently}i ON one (name);\n"
                    "CREATE TABLE three (id integer);\nINSERT INTO three VALUES (3);\n")  # fmt: skip
    deaths = [number for number in (range(1, 8) if rounds(0, 1) else (1, 3)) if killed(bench, point, number)]
    assert deaths
    await bench.deploy()
    assert [row.stage for row in await bench.ledger()] == ["applied"] * 3
    assert await bench.rows("SELECT id, name FROM one") == ((1, "first"),)
    assert await bench.rows("SELECT count(*) FROM three") == ((1,),)


@pytest.mark.parametrize(
    "number", [1, pytest.param(2, marks=pytest.mark.soak), 3, pytest.param(4, marks=pytest.mark.soak)]
)
async def test_a_rollback_killed_at_any_statement_is_completed_by_the_next_one(bench, number):
    bench.migration("001_one", ONE, "DELETE FROM one;\nDROP TABLE one;")
    bench.migration(
        "002_two", "CREATE TABLE two (id integer);", "-- no-transaction\nDELETE FROM two;\nDROP TABLE two;"
    )
    await bench.deploy()
    plan = await bench.databases().dangerous.plan(bench.one(), "rollback", "base")
    token = bench.databases().dangerous.issue(plan)
    arguments = ("rollback", "-d", "app", "-t", "base", "--no-backup", "--token", token)
    dying = started(bench, arguments, f"schemas.statement:KILL:{number}")
    await asyncio.to_thread(dying.communicate, timeout=60)
    assert dying.returncode == -signal.SIGKILL
    assert len(await bench.ledger()) == (2 if number < 3 else 1)
    await roll_back(bench, "base")
    assert await bench.ledger() == ()
    for table in ("one", "two"):
        with pytest.raises(StatementFailed):
            await bench.rows(f"SELECT * FROM {table}")  # noqa: S608


async def test_what_is_half_applied_is_not_rolled_back_over(postgres_bench):
    two_migrations(postgres_bench)
    postgres_bench.migration(
        "003_half", "-- no-transaction\nCREATE TABLE x (id integer);\nSELECT 1/0;", "DROP TABLE x;"
    )
    with pytest.raises(StatementFailed):
        await postgres_bench.deploy()
    with pytest.raises(HalfApplied, match="003_half"):
        await roll_back(postgres_bench, "001_one")


@pytest.mark.parametrize("number", [1, 2])
async def test_an_index_that_was_being_built_is_looked_at_not_built_twice(postgres_bench, number):
    two_migrations(postgres_bench)
    postgres_bench.migration("003_index", INDEXES)
    assert killed(postgres_bench, "schemas.executed", number)
    assert await postgres_bench.deploy() == ("003_index",)
    assert await postgres_bench.rows(
        "SELECT count(*) FROM pg_indexes WHERE indexname IN ('one_name', 'after_id')"
    ) == ((2,),)


async def test_two_runners_at_once_apply_everything_once(bench):
    bench.migration("001_count", "CREATE TABLE runs (id integer);")
    for number in range(2, 8):
        bench.migration(f"00{number}_more", f"INSERT INTO runs VALUES ({number});")  # noqa: S608
    processes = [runner(bench) for _ in range(3)]
    said = await asyncio.gather(*(asyncio.to_thread(each.communicate, timeout=90) for each in processes))
    assert [each.returncode for each in processes] == [0, 0, 0], said
    assert await bench.rows("SELECT count(*) FROM runs") == ((6,),)


async def test_who_holds_the_lock_is_named_and_a_killed_holder_holds_nothing(bench, tmp_path: Path):
    two_migrations(bench)
    stopped = runner(bench, "schemas.before_commit:STOP")
    try:
        await asyncio.to_thread(wait_stopped, stopped.pid)
        with pytest.raises(Locked, match=rf"process {stopped.pid}, since|process {stopped.pid}"):
            await bench.deploy()
    finally:
        stopped.kill()
        stopped.communicate(timeout=30)
    assert await bench.deploy() == ("001_one", "002_two")


def wait_stopped(pid: int) -> None:
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)


async def test_a_rehearsal_tells_what_a_clone_went_through_and_leaves_the_database_alone(postgres_bench):
    two_migrations(postgres_bench)
    await postgres_bench.deploy()
    postgres_bench.migration(
        "003_wide", "ALTER TABLE one ALTER COLUMN id TYPE bigint; UPDATE one SET name = 'x';"
    )
    postgres_bench.schema("CREATE TABLE one (id integer PRIMARY KEY, name text);")
    [report], drift = await postgres_bench.databases().rehearse(postgres_bench.one())
    assert report.rewritten == ("one",)
    assert report.touched["one"] == 1
    assert "one: AccessExclusiveLock" in report.locks
    assert any("rewrite" in each for each in report.findings)
    assert any("column public.one.id" in each for each in drift)
    assert len(await postgres_bench.ledger()) == 2


async def test_the_plan_of_a_rollback_names_and_counts_what_is_lost(bench):
    bench.migration(
        "001_one", "CREATE TABLE one (id integer); INSERT INTO one VALUES (1), (2);", "DROP TABLE one;"
    )
    bench.migration(
        "002_two",
        "ALTER TABLE one ADD COLUMN a text; CREATE TABLE kept (id integer);",
        "-- back\nALTER TABLE one DROP COLUMN a; DELETE FROM kept; DROP TABLE kept;",
    )
    await bench.deploy()
    await bench.write("UPDATE one SET a = 'x' WHERE id = 1")
    name = "public.one" if bench.engine == "postgres" else "one"
    kept = name.replace("one", "kept")
    emptied = "db/app/migrations/002_two/down.sql, line 2: every row is lost"
    dangerous = bench.databases().dangerous
    assert (await dangerous.plan(bench.one(), "rollback", "001_one")).losses == (
        *sorted(
            [f"column {name}.a (1 value)", f"table {kept} and its rows (0 rows)"],
            reverse=bench.engine == "sqlite",
        ),
        emptied,
    )
    assert (await dangerous.plan(bench.one(), "rollback", "base")).losses == (
        f"table {kept} and its rows (0 rows)",
        f"table {name} and its rows (2 rows)",
        emptied,
    )
    assert len(await bench.ledger()) == 2


async def test_a_way_back_that_reaches_other_databases_is_read_and_not_tried(postgres_bench):
    role = f"r_{uuid.uuid4().hex}"
    await postgres_bench.write(f"CREATE ROLE {role}")
    postgres_bench.migration(
        "001_one", "CREATE TABLE one (id integer);", f"DROP TABLE one; DROP ROLE {role};"
    )
    await postgres_bench.deploy()
    plan = await postgres_bench.databases().dangerous.plan(postgres_bench.one(), "rollback", "base")
    assert plan.losses[0] == "db/app/migrations/001_one/down.sql, line 1: the table's rows are lost"
    assert "it changes what all databases share" in plan.losses[1]
    await postgres_bench.write(f"DROP ROLE {role}")


async def test_a_way_back_that_fails_on_the_shadow_is_read_and_that_is_said(bench):
    bench.migration("001_one", "CREATE TABLE one (id integer);", "DROP TABLE one; SELECT * FROM nowhere;")
    await bench.deploy()
    plan = await bench.databases().dangerous.plan(bench.one(), "rollback", "base")
    assert plan.losses[0] == "db/app/migrations/001_one/down.sql, line 1: the table's rows are lost"
    assert "nowhere" in plan.losses[1]
