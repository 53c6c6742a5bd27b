"""What database.toml says has its effect, or is refused with a sentence."""

import pytest

from mcp_server.domain.errors import Invalid
from tests.schemas.conftest import Bench
from tests.schemas.test_terminal import db

BILLING = "CREATE SCHEMA billing;\nCREATE TABLE billing.invoices (id integer PRIMARY KEY);\n"


def says(bench: Bench, text: str) -> None:
    (bench.folder / "database.toml").write_text(f'engine = "{bench.engine}"\n{text}\n')


async def test_only_the_named_schemas_are_compared_pushed_pulled_and_reset(postgres_bench: Bench) -> None:
    bench = postgres_bench
    says(bench, 'schemas = ["billing"]')
    await bench.write("CREATE TABLE others (id integer)")
    await bench.write('CREATE SCHEMA "Odd one"')
    await bench.write('CREATE TABLE "Odd one".things (id integer)')
    bench.schema(BILLING)
    found = await bench.databases().difference(bench.one())
    assert "billing" in found.up
    assert "others" not in found.up + found.down
    plan = await bench.databases().dangerous.plan(bench.one(), "push")
    await bench.databases().dangerous.push(
        bench.one(), plan, tell=lambda text: None, accept_data_loss=False, backup=False
    )
    assert (await bench.databases().difference(bench.one())).empty
    pulled = await bench.databases().dangerous.pull(
        bench.one(), await bench.databases().dangerous.plan(bench.one(), "pull")
    )
    assert "CREATE TABLE billing.invoices" in pulled.path.read_text()
    assert "others" not in pulled.path.read_text()
    assert (await bench.databases().difference(bench.one())).empty
    plan = await bench.databases().dangerous.plan(bench.one(), "reset")
    assert [loss for loss in plan.losses if "others" in loss] == []
    await bench.databases().dangerous.reset(bench.one(), plan, tell=lambda text: None, backup=False)
    left = await bench.rows("SELECT table_schema FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
                            " AND table_schema IN ('billing', 'public', 'Odd one') ORDER BY 1")  # fmt: skip
    assert left == (("Odd one",), ("public",))


async def test_a_schema_with_a_quoted_name_is_found(postgres_bench: Bench) -> None:
    says(postgres_bench, "schemas = ['Odd one']")
    postgres_bench.schema('CREATE SCHEMA "Odd one";\nCREATE TABLE "Odd one".things (id integer);\n')
    plan = await postgres_bench.databases().dangerous.plan(postgres_bench.one(), "push")
    assert len(plan.effects) == 2
    await postgres_bench.databases().dangerous.push(
        postgres_bench.one(), plan, tell=lambda text: None, accept_data_loss=False, backup=False
    )
    pull = await postgres_bench.databases().dangerous.plan(postgres_bench.one(), "pull")
    pulled = await postgres_bench.databases().dangerous.pull(postgres_bench.one(), pull)
    assert '"Odd one".things' in pulled.path.read_text()


@pytest.mark.parametrize("line", ['schemas = ["main"]', 'extensions = ["pg_trgm"]'])
def test_what_sqlite_does_not_have_is_refused(sqlite_bench: Bench, line: str) -> None:
    says(sqlite_bench, line)
    with pytest.raises(Invalid, match="no schemas and no extensions"):
        sqlite_bench.one()
    (sqlite_bench.folder / "database.toml").write_text(line)
    refused = db(sqlite_bench, "migrate", "-a")
    assert refused.returncode == 2
    assert "no schemas and no extensions" in refused.stderr


def test_project_and_variable_together_are_refused(sqlite_bench: Bench) -> None:
    says(sqlite_bench, 'project = "shop"\nvariable = "DATABASE_URL"')
    with pytest.raises(Invalid, match="keep one"):
        sqlite_bench.one()


def test_the_files_for_production_by_both_names_must_agree(sqlite_bench: Bench) -> None:
    (sqlite_bench.root / ".env.prod").write_text("RDS_APP_URL=sqlite:///one.db\n")
    (sqlite_bench.root / ".env.production").write_text("RDS_APP_URL=sqlite:///two.db\n")
    sqlite_bench.environ.clear()
    refused = db(sqlite_bench, "migrate", "-a", "--env", "production")
    assert refused.returncode == 2
    assert ".env.prod and .env.production" in refused.stderr
    (sqlite_bench.root / ".env.prod").unlink()
    assert "two.db" in db(sqlite_bench, "list", "--env", "production").stdout
