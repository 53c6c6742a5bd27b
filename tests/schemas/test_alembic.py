"""Alembic projects through the same commands: status, deploy, rehearsal, rollback, reset, with the lock and the backup."""

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mcp_server.adapters.schemas import alembic
from mcp_server.domain.errors import Invalid, Locked
from mcp_server.domain.schemas.failures import Drift, ProgramFailed, Refused, StatementFailed
from tests.schemas.alembic_project import ASYNC_ENV, ENV, AlembicProject
from tests.schemas.conftest import Bench
from tests.schemas.test_migrating import roll_back, runner, wait_stopped

ALL = ("a1_make_users", "b2_give_users_names", "c3_make_posts")


# Each step is a program of Alembic's own, a second and more of it: the sample takes one of the two engines.
MOSTLY_ON_POSTGRESQL = pytest.mark.parametrize(
    "bench", [pytest.param("sqlite", marks=pytest.mark.soak), "postgres"], indirect=True
)


@pytest.fixture
def project(bench: Bench) -> AlembicProject:
    found = AlembicProject(bench.folder)
    found.three_revisions()
    return found


@pytest.mark.parametrize("env", [ENV, ASYNC_ENV], ids=["sync", "async"])
async def test_revisions_are_seen_applied_in_order_once_and_known_to_alembic_itself(bench, env):
    AlembicProject(bench.folder, env).three_revisions()
    before = await bench.databases().status(bench.one())
    assert (before.applied, before.pending, before.sound) == ((), ALL, True)
    assert await bench.deploy() == ALL
    after = await bench.databases().status(bench.one())
    assert (after.applied, after.pending) == (ALL, ())
    assert await bench.deploy() == ()
    assert await bench.rows("SELECT version_num FROM alembic_version") == (("c3",),)
    assert await bench.rows("SELECT name FROM users") == (("ann",),)


@MOSTLY_ON_POSTGRESQL
async def test_a_rollback_downgrades_newest_first_keeps_the_target_and_the_rows_of_the_rest(bench, project):
    await bench.deploy()
    plan = await bench.databases().dangerous.plan(bench.one(), "rollback", "a1")
    assert [each.split()[1] for each in plan.effects] == ["c3_make_posts", "b2_give_users_names"]
    assert await roll_back(bench, "a1") == ("c3_make_posts", "b2_give_users_names")
    assert await bench.rows("SELECT * FROM users") == ((1,),)
    assert len(list((bench.home / "backups").iterdir())) == 1
    with pytest.raises(Invalid, match="nothing that is applied"):
        await roll_back(bench, "c3")
    assert await roll_back(bench, "1") == ("a1_make_users",)
    assert await bench.deploy() == ALL


async def test_the_plan_of_a_downgrade_names_and_counts_what_is_lost(bench, project):
    project.three_revisions()
    project.revision("d4", "empty users", "c3", "pass", 'op.execute("DELETE FROM users")')
    await bench.deploy()
    plan = await bench.databases().dangerous.plan(bench.one(), "rollback", "a1")
    schema = "public." if bench.engine == "postgres" else ""
    assert sorted(plan.losses) == [
        f"column {schema}users.name (1 value)",
        "d4_empty_users: DELETE FROM users: every row is lost",
        f"table {schema}posts and its rows (0 rows)",
    ]
    assert await bench.rows("SELECT count(*) FROM users") == ((1,),)


@MOSTLY_ON_POSTGRESQL
async def test_a_downgrade_that_fails_on_the_backup_never_meets_the_database(bench, project):
    project.revision(
        "a1",
        "make users",
        None,
        'op.create_table("users", sa.Column("id", sa.Integer, primary_key=True))',
        'op.drop_table("nowhere")',
    )
    await bench.deploy()
    with pytest.raises(StatementFailed, match=r"versions/a1_make_users\.py, line \d+: .*nowhere"):
        await roll_back(bench, "base")
    assert (await bench.databases().status(bench.one())).applied == ALL


async def test_a_failing_revision_is_named_and_those_before_it_stay(bench, project):
    project.revision("c3", "make posts", "b2", 'op.execute("INSERT INTO nowhere VALUES (1)")')
    with pytest.raises(StatementFailed, match=r"c3_make_posts\.py, line \d+.*nowhere"):
        await bench.deploy()
    assert (await bench.databases().status(bench.one())).applied == ALL[:2]


async def test_a_failing_program_is_named_and_the_password_is_not_said(postgres_bench):
    project = AlembicProject(postgres_bench.folder)
    project.revision("a1", "x", None, "raise RuntimeError(os.environ['DATABASE_URL'])")
    with pytest.raises(ProgramFailed, match=r"a1_x\.py, line \d+: RuntimeError: .*:\*\*\*@") as failed:
        await postgres_bench.deploy()
    password = urlsplit(postgres_bench.url).password
    assert password
    assert password not in str(failed.value.payload())


async def test_a_program_that_hangs_does_not_hold_a_reader_for_long_and_the_place_is_named(
    bench, project, monkeypatch
):
    monkeypatch.setattr(alembic, "LOOK_SECONDS", 8)
    await bench.deploy()
    project.env(f"import time\n\n\ndef wait():\n    time.sleep(600)\n\n\nwait()\n{ENV}")
    with pytest.raises(
        ProgramFailed, match=r"did not answer in 8 s and was ended at migrations/env\.py, line 5"
    ):
        await bench.databases().status(bench.one())


async def test_a_sqlite_revision_is_all_or_nothing_and_breaks_no_reference(sqlite_bench):
    project = AlembicProject(sqlite_bench.folder)
    project.three_revisions()
    project.revision(
        "d4", "half", "c3", 'op.execute("CREATE TABLE half (id integer)")\nop.execute("nonsense")'
    )
    with pytest.raises(StatementFailed, match="nonsense"):
        await sqlite_bench.deploy()
    project.revision("d4", "half", "c3", 'op.execute("CREATE TABLE half (id integer REFERENCES users)")')
    assert await sqlite_bench.deploy() == ("d4_half",)
    project.revision("e5", "break", "d4", 'op.execute("INSERT INTO half VALUES (7)")')
    with pytest.raises(ProgramFailed, match="refer to rows that are not there"):
        await sqlite_bench.deploy()
    assert await sqlite_bench.rows("SELECT count(*) FROM half") == ((0,),)


async def test_a_rehearsal_tells_what_a_clone_went_through_and_leaves_the_database_alone(postgres_bench):
    project = AlembicProject(postgres_bench.folder)
    project.three_revisions()
    await postgres_bench.deploy()
    project.revision(
        "d4",
        "widen",
        "c3",
        'op.alter_column("users", "id", type_=sa.BigInteger)\nop.execute("UPDATE users SET name = \'x\'")',
    )
    [report], _ = await postgres_bench.databases().rehearse(postgres_bench.one())
    assert report.migration == "d4_widen"
    assert report.rewritten == ("users",)
    assert report.touched == {"users": 1}
    assert "users: AccessExclusiveLock" in report.locks
    assert any(each.startswith("rewrite") for each in report.findings)
    assert (await postgres_bench.databases().status(postgres_bench.one())).pending == ("d4_widen",)
    assert await postgres_bench.rows("SELECT name FROM users") == (("ann",),)


async def test_a_rehearsal_of_a_sqlite_file_counts_the_rows(sqlite_bench):
    AlembicProject(sqlite_bench.folder).three_revisions()
    report, _ = await sqlite_bench.databases().rehearse(sqlite_bench.one())
    assert [each.migration for each in report] == list(ALL)
    assert report[1].touched["all tables"] >= 1
    assert (await sqlite_bench.databases().status(sqlite_bench.one())).applied == ()


async def test_an_env_that_goes_to_another_database_is_refused_and_touches_none(
    bench, project, tmp_path: Path
):
    elsewhere = tmp_path / "elsewhere.db"
    project.env(
        ENV.replace(
            "\nconfig =",
            f'\ncontext.config.set_main_option("sqlalchemy.url", "sqlite:///{elsewhere}")\nconfig =',
        )
    )
    with pytest.raises(Refused, match="another database"):
        await bench.deploy()
    with closing(sqlite3.connect(elsewhere)) as other:
        assert other.execute("SELECT name FROM sqlite_master WHERE name = 'users'").fetchall() == []


async def test_an_env_that_reads_the_environment_gets_the_address_there_and_not_in_its_arguments(
    bench, project
):
    project.env(
        ENV.replace(
            "config = context.config",
            "import os, sys\nconfig = context.config\n"
            'config.set_main_option("sqlalchemy.url", os.environ["RDS_APP_URL"].replace("%", "%%"))\n'
            'assert os.environ["DATABASE_URL"] == os.environ["RDS_APP_URL"]\n'
            'assert "app.db" not in open("/proc/self/cmdline").read()\n'
            'assert "://" not in open("/proc/self/cmdline").read()',
        )
    )
    assert await bench.deploy() == ALL


async def test_an_address_may_name_a_driver_and_the_project_may_lie_elsewhere(sqlite_bench, tmp_path: Path):
    AlembicProject(tmp_path / "backend", ASYNC_ENV).three_revisions()
    with (sqlite_bench.folder / "database.toml").open("a") as settings:
        settings.write('alembic = "backend"\n')
    sqlite_bench.environ["RDS_APP_URL"] = sqlite_bench.url.replace("sqlite:", "sqlite+aiosqlite:")
    assert await sqlite_bench.deploy() == ALL
    assert sqlite_bench.databases().list()[0].alembic


@MOSTLY_ON_POSTGRESQL
async def test_a_branched_history_is_applied_whole_and_taken_back_whole(bench, project):
    project.revision(
        "d4", "left", "c3", 'op.execute("CREATE TABLE left_one (id integer)")', 'op.drop_table("left_one")'
    )
    project.revision(
        "e5", "right", "c3", 'op.execute("CREATE TABLE right_one (id integer)")', 'op.drop_table("right_one")'
    )
    status = await bench.databases().status(bench.one())
    assert "2 heads" in status.lint[0]
    done = await bench.deploy()
    assert set(done[3:]) == {"d4_left", "e5_right"}
    project.revision("f6", "join", ("d4", "e5"), "pass")
    assert await bench.deploy() == ("f6_join",)
    assert (await roll_back(bench, "c3"))[0] == "f6_join"
    assert (await bench.databases().status(bench.one())).applied == ALL
    assert len(await roll_back(bench, "base")) == 3


async def test_a_database_at_a_revision_without_a_file_stops_with_its_name(bench, project):
    await bench.deploy()
    (bench.folder / "migrations" / "versions" / "c3_make_posts.py").unlink()
    found = await bench.databases().status(bench.one())
    assert found.missing == ("c3",)
    assert not found.sound
    project.revision("d4", "more", "b2", "pass")
    with pytest.raises(Drift, match="c3"):
        await bench.deploy()


async def test_a_reset_runs_everything_from_the_start(bench, project):
    await bench.deploy()
    await bench.write("UPDATE users SET name = 'bob'")
    plan = await bench.databases().dangerous.plan(bench.one(), "reset")
    await bench.databases().dangerous.reset(bench.one(), plan, tell=lambda text: None)
    assert await bench.rows("SELECT name FROM users") == (("ann",),)


@MOSTLY_ON_POSTGRESQL
async def test_alembics_table_is_no_part_of_the_schema(bench, project):
    await bench.deploy()
    plan = await bench.databases().dangerous.plan(bench.one(), "pull")
    pulled = await bench.databases().dangerous.pull(bench.one(), plan)
    assert "alembic_version" not in pulled.path.read_text()
    assert "users" in pulled.path.read_text()
    assert (await bench.databases().difference(bench.one())).empty
    assert await bench.databases().validate(bench.one()) == ()
    bench.schema(pulled.path.read_text() + "\nCREATE TABLE more (id integer);\n")
    plan = await bench.databases().dangerous.plan(bench.one(), "push")
    assert [each for each in plan.effects if "alembic" in each] == []
    await bench.databases().dangerous.push(bench.one(), plan, tell=lambda text: None, accept_data_loss=False)
    assert await bench.rows("SELECT version_num FROM alembic_version") == (("c3",),)


@pytest.mark.parametrize(
    ("bench", "schema"), [("sqlite", ""), ("postgres", ""), ("postgres", "meta")], indirect=["bench"]
)
async def test_alembics_table_may_have_another_name_and_place(bench, project, schema):
    told = f'target_metadata=None, version_table="Our Versions", version_table_schema={schema or None!r}'
    project.env(ENV.replace("target_metadata=None", told))
    if schema:
        await bench.write("CREATE SCHEMA meta")
    await bench.deploy()
    databases = bench.databases()
    pulled = await databases.dangerous.pull(bench.one(), await databases.dangerous.plan(bench.one(), "pull"))
    assert "Our Versions" not in pulled.path.read_text()
    assert (await databases.difference(bench.one())).empty
    bench.schema(pulled.path.read_text() + "\nCREATE TABLE more (id integer);\n")
    plan = await databases.dangerous.plan(bench.one(), "push")
    assert [each for each in (*plan.effects, *plan.losses) if "Versions" in each] == []
    await databases.dangerous.push(bench.one(), plan, tell=lambda text: None, accept_data_loss=False)
    look = f'SELECT version_num FROM {schema}{"." if schema else ""}"Our Versions"'  # noqa: S608 - names of this test
    assert await bench.rows(look) == (("c3",),)
    await roll_back(bench, "b2")
    assert await bench.rows(look) == (("b2",),)


async def test_writing_and_marking_revisions_is_left_to_alembic(bench, project):
    with pytest.raises(Refused, match="Alembic"):
        await bench.databases().write_migration(bench.one(), "more")
    with pytest.raises(Refused, match="Alembic"):
        await bench.databases().resolve(bench.one(), "a1", "applied", 0)


FREEZE = 'op.execute("CREATE TABLE frozen (id integer)")\nif "QM_FREEZE" in os.environ:\n    os.kill(os.getppid(), {signal})\n    signal.pause()'


async def test_while_a_revision_runs_nobody_else_does(bench, project):
    project.revision("d4", "freeze", "c3", FREEZE.format(signal="signal.SIGSTOP"))
    stopped = frozen(bench)
    try:
        wait_stopped(stopped.pid)
        with pytest.raises(Locked, match=f"process {stopped.pid}"):
            await bench.deploy()
    finally:
        stopped.kill()
        stopped.communicate(timeout=30)
    assert await applied_to_the_end(bench) == (*ALL, "d4_freeze")


async def test_a_runner_that_is_killed_leaves_no_process_that_goes_on(bench, project):
    project.revision("d4", "freeze", "c3", FREEZE.format(signal="signal.SIGKILL"))
    killed = frozen(bench)
    killed.communicate(timeout=60)
    assert killed.returncode == -9
    assert await applied_to_the_end(bench) == (*ALL, "d4_freeze")


def frozen(bench: Bench) -> subprocess.Popen[bytes]:
    return runner(bench._replace(environ={**bench.environ, "QM_FREEZE": "1"}))


async def applied_to_the_end(bench: Bench) -> tuple[str, ...]:
    """After the rest is applied, which is possible as soon as the other process is gone."""
    await bench.deploy()
    return (await bench.databases().status(bench.one())).applied
