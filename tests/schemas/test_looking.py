"""Looking at a database leaves it, and the directory around it, as it was."""

import subprocess
from pathlib import Path

import pytest

from mcp_server.domain.errors import QuaymasterError
from tests.schemas.conftest import Bench
from tests.schemas.test_terminal import db
from tests.tools.desk import opened

LOOKS = [
    ("list",),
    ("debug",),
    ("migrate", "-a", "-t", "status"),
    ("migrate", "-a", "-t", "diff"),
    ("migrate", "-a", "-t", "deploy", "--rehearse"),
    ("validate", "-a"),
    ("execute", "-a", "-q", "SELECT 1"),
    ("rollback", "-a", "--list"),
    ("pull", "-a", "--plan"),
    ("push", "-a", "--plan"),
    ("generate", "-a", "--check"),
]


@pytest.fixture
def fresh(sqlite_bench: Bench) -> Bench:
    """A code base whose SQLite file nobody has made yet, in a directory that is not there either."""
    place = sqlite_bench.root / "not" / "yet" / "app.db"
    sqlite_bench.environ["RDS_APP_URL"] = f"sqlite:///{place}"
    sqlite_bench.schema("CREATE TABLE one (id integer PRIMARY KEY);")
    sqlite_bench.migration("001_one", "CREATE TABLE one (id integer PRIMARY KEY);", "DROP TABLE one;")
    return sqlite_bench


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if ".quaymaster" not in path.parts}


@pytest.mark.parametrize("arguments", LOOKS, ids=" ".join)
def test_a_command_that_only_looks_makes_no_sqlite_file(fresh: Bench, arguments: tuple[str, ...]):
    before = files(fresh.root)
    done: subprocess.CompletedProcess[str] = db(fresh, *arguments)
    assert "Traceback" not in done.stderr
    assert files(fresh.root) == before


def test_what_is_not_there_yet_counts_as_an_empty_database(fresh: Bench):
    found = db(fresh, "migrate", "-a", "-t", "status")
    assert found.returncode == 3
    assert "pending       001_one" in found.stdout
    assert "CREATE TABLE one" in db(fresh, "migrate", "-a", "-t", "diff").stdout
    assert db(fresh, "migrate", "-a", "-t", "deploy", "--no-countdown").returncode == 0
    assert (fresh.root / "not" / "yet" / "app.db").exists()


async def test_a_look_at_an_unmigrated_postgresql_makes_no_ledger(postgres_bench: Bench):
    postgres_bench.schema("CREATE TABLE one (id integer);")
    databases = postgres_bench.databases()
    await databases.status(postgres_bench.one())
    await databases.difference(postgres_bench.one())
    await databases.validate(postgres_bench.one())
    await databases.dangerous.plan(postgres_bench.one(), "push")
    assert await postgres_bench.rows("SELECT count(*) FROM pg_namespace WHERE nspname = 'quaymaster'") == (
        (0,),
    )


@pytest.mark.parametrize(
    ("tool", "more"),
    [
        ("schema_status", {}),
        ("plan_migration", {}),
        ("validate_schema", {}),
        ("execute_sql", {"sql": "SELECT 1"}),
        ("push_schema", {}),
        ("pull_schema", {}),
        ("apply_migration", {}),
    ],
)
async def test_a_tool_that_only_looks_or_plans_makes_no_sqlite_file(tmp_path, fresh: Bench, tool, more):
    (fresh.root / ".env").write_text(f"RDS_APP_URL={fresh.environ['RDS_APP_URL']}\n")
    async with opened(tmp_path / "desk") as desk:
        await desk.done("create_project", {"name": "shop", "path": str(fresh.root)})
        before = files(fresh.root)
        try:
            await desk.call(tool, {"project": "shop", "database": "app", **more})
        except QuaymasterError:
            pytest.fail("an error left the tool")
        assert {each for each in files(fresh.root) if "desk" not in each} == {
            each for each in before if "desk" not in each
        }
