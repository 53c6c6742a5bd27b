"""The same operations as tools: rights, plans, walls between teams and directories."""

import pytest

from tests.schemas.alembic_project import AlembicProject
from tests.schemas.conftest import bench_at
from tests.tools.desk import opened

APP = {"project": "shop", "database": "app"}


@pytest.fixture
def shop(tmp_path):
    found = bench_at(tmp_path / "shop", "sqlite", "unused")
    (found.root / ".env").write_text(f"RDS_APP_URL=sqlite:///{found.root}/app.db\n")
    found.schema("CREATE TABLE t (id integer PRIMARY KEY, a text);")
    found.migration("001_one", "CREATE TABLE t (id integer PRIMARY KEY);", "DROP TABLE t;")
    (found.folder / "seed.sql").write_text("INSERT INTO t (id) VALUES (1);")
    return found


async def test_a_schema_is_migrated_seeded_pushed_pulled_and_rolled_back_by_tools(tmp_path, shop):
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop", "path": str(shop.root)})
        [status] = (await desk.done("schema_status", {"project": "shop"}))["databases"]
        assert status["pending"] == ["001_one"]

        planned = await desk.done("apply_migration", APP)
        assert planned["message"].startswith("Nothing has been changed yet")
        assert planned["effects"][0] == "apply 001_one"
        token = {"plan_token": planned["plan_token"]}
        assert (await desk.done("apply_migration", APP | token))["message"] == "Applied 001_one."
        used = await desk.call("apply_migration", APP | token)
        assert used.structured_content["code"] == "PLAN_STALE"

        await desk.done("seed_database", APP)
        read = await desk.done("execute_sql", APP | {"sql": "SELECT id FROM t"})
        assert read["rows"] == [[1]]
        refused = await desk.call("execute_sql", APP | {"sql": "DELETE FROM t"})
        assert refused.structured_content["code"] == "INVALID"
        assert "ADD COLUMN" in (await desk.done("plan_migration", APP))["up"]
        assert (await desk.done("validate_schema", APP))["valid"] is False

        for tool, more in (
            ("rollback_migration", {"target": "base"}),
            ("push_schema", {}),
            ("pull_schema", {}),
        ):
            planned = await desk.done(tool, APP | more)
            done = await desk.done(tool, APP | more | {"plan_token": planned["plan_token"]})
            assert done["status"] == "done"
        assert "CREATE TABLE t" in (shop.folder / "schema.sql").read_text()


async def test_a_plan_is_stale_when_a_file_has_changed(tmp_path, shop):
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop", "path": str(shop.root)})
        planned = await desk.done("apply_migration", APP)
        shop.migration("002_two", "CREATE TABLE two (id integer);")
        stale = await desk.call("apply_migration", APP | {"plan_token": planned["plan_token"]})
        assert stale.structured_content["code"] == "PLAN_STALE"


async def test_another_team_finds_no_schema_and_a_viewer_changes_none(tmp_path, shop):
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop", "path": str(shop.root)})
        other = await desk.other_team()
        foreign = await desk.call("schema_status", {"project": "shop"}, caller=other)
        assert foreign.structured_content["code"] == "NOT_FOUND"


async def test_over_http_a_sqlite_file_outside_the_project_is_not_opened(tmp_path, shop):
    (shop.root / ".env").write_text(f"RDS_APP_URL=sqlite:///{tmp_path}/elsewhere.db\n")
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop", "path": str(shop.root)})
        from tests.tools.desk import OWNER

        caller = OWNER.change(transport="http")
        refused = await desk.call("execute_sql", APP | {"sql": "SELECT 1"}, caller=caller)
        assert refused.structured_content["code"] == "FORBIDDEN"
        assert not (tmp_path / "elsewhere.db").exists()


async def test_an_alembic_project_is_migrated_and_rolled_back_by_tools_but_not_over_http(tmp_path):
    bench = bench_at(tmp_path / "shop", "sqlite", "unused")
    (bench.root / ".env").write_text(f"RDS_APP_URL=sqlite:///{bench.root}/app.db\n")
    AlembicProject(bench.folder).three_revisions()
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop", "path": str(bench.root)})
        rehearsed = (await desk.done("plan_migration", APP | {"rehearse": True}))["rehearsed"]
        assert [each["migration"] for each in rehearsed][0::2] == ["a1_make_users", "c3_make_posts"]
        for tool, more, effect in (
            ("apply_migration", {}, "apply a1_make_users"),
            ("rollback_migration", {"target": "a1"}, "downgrade c3_make_posts (c3_make_posts.py)"),
        ):
            planned = await desk.done(tool, APP | more)
            assert planned["effects"][0] == effect
            token = {"plan_token": planned["plan_token"]}
            assert (await desk.done(tool, APP | more | token))["status"] == "done"
        [status] = (await desk.done("schema_status", {"project": "shop"}))["databases"]
        assert status["applied"] == ["a1_make_users"]

        from tests.tools.desk import OWNER

        caller = OWNER.change(transport="http")
        for name, rest in (
            ("schema_status", {}),
            ("plan_migration", {"rehearse": True}),
            ("apply_migration", {}),
            ("rollback_migration", {"target": "base"}),
            ("validate_schema", {}),
        ):
            arguments: dict[str, object] = {"project": "shop"} if name == "schema_status" else dict(APP)
            arguments |= rest
            bench.schema("")
            refused = await desk.call(name, arguments, caller=caller)
            assert refused.structured_content["code"] == "FORBIDDEN", name


async def test_over_http_an_alembic_project_runs_only_where_the_operator_lets_programs_run(tmp_path):
    bench = bench_at(tmp_path / "shop", "sqlite", "unused")
    (bench.root / ".env").write_text(f"RDS_APP_URL=sqlite:///{bench.root}/app.db\n")
    AlembicProject(bench.folder).three_revisions()
    from tests.tools.desk import OWNER

    caller = OWNER.change(transport="http")
    for allowed in (tmp_path / "elsewhere", tmp_path / "shop" / "db"):
        async with opened(tmp_path, program_roots=str(allowed), project_roots=str(tmp_path)) as desk:
            await desk.call("create_project", {"name": "shop", "path": str(bench.root)}, caller=caller)
            found = await desk.call("apply_migration", APP, caller=caller)
            assert found.structured_content is not None
            if not bench.folder.is_relative_to(allowed):
                assert found.structured_content["code"] == "FORBIDDEN"
                assert "QUAYMASTER_PROGRAM_ROOTS" in found.structured_content["next"]
                continue
            token = {"plan_token": found.structured_content["plan_token"]}
            assert (await desk.done("apply_migration", APP | token, caller=caller))["status"] == "done"
            [status] = (await desk.done("schema_status", {"project": "shop"}, caller=caller))["databases"]
            assert len(status["applied"]) == 3
            assert (await desk.done("validate_schema", APP, caller=caller))["warnings"] == []


async def test_a_superuser_reads_by_tool_only_through_the_address_of_a_reader(
    tmp_path, postgres_bench, postgres
):
    bench = postgres_bench
    await bench.write("CREATE TABLE t (id integer)")
    dotenv = f"RDS_APP_URL={bench.url}\n"
    (bench.root / ".env").write_text(dotenv)
    async with opened(tmp_path / "desk") as desk:
        await desk.done("create_project", {"name": "shop", "path": str(bench.root)})
        refused = await desk.call("execute_sql", APP | {"sql": "SELECT count(*) FROM t"})
        assert refused.structured_content["code"] == "FORBIDDEN"
        assert "RDS_APP_READER_URL" in refused.structured_content["next"]
        name = bench.url.rpartition("/")[2]
        (bench.root / ".env").write_text(f"{dotenv}RDS_APP_READER_URL={postgres.url_of(name)}\n")
        await bench.write("GRANT SELECT ON t TO PUBLIC")
        read = await desk.done("execute_sql", APP | {"sql": "SELECT count(*), current_user FROM t"})
        assert read["rows"] == [[0, "quaymaster"]]
        assert read["data_begins"] == read["data_ends"]
        written = {"sql": "INSERT INTO t VALUES (1)", "write": True, "idempotency_key": "once"}
        assert (await desk.done("execute_sql", APP | written))["changed"] == 1
        assert "earlier call" in (await desk.done("execute_sql", APP | written))["message"]
        assert (await desk.done("execute_sql", APP | {"sql": "SELECT count(*) FROM t"}))["rows"] == [[1]]


async def test_one_database_that_cannot_be_looked_at_does_not_hide_the_others(tmp_path, shop):
    (shop.root / "db" / "down" / "migrations").mkdir(parents=True)
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop", "path": str(shop.root)})
        found = await desk.done("schema_status", {"project": "shop"})
        assert [each["name"] for each in found["databases"]] == ["app"]
        [down] = found["unreached"]
        assert (down["name"], down["code"]) == ("down", "INVALID")
        assert "RDS_DOWN_URL is not set" in down["message"]
        assert f"Set it below {shop.root}, in .env" in down["next"]
        assert "environment" not in down["next"]
        alone = await desk.call("schema_status", {"project": "shop", "database": "down"})
        assert alone.structured_content["code"] == "INVALID"


async def test_a_rehearsal_by_tool_tells_how_the_database_would_differ_from_its_schema(tmp_path, shop):
    async with opened(tmp_path) as desk:
        await desk.done("create_project", {"name": "shop", "path": str(shop.root)})
        planned = await desk.done("plan_migration", APP | {"rehearse": True})
        assert [each["migration"] for each in planned["rehearsed"]] == ["001_one"]
        assert any("t.a: only in the second" in each for each in planned["drift"])
