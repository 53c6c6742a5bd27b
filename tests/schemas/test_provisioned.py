"""A code base whose database Quaymaster has made: found without an address in any file, and looked after as others are."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mcp_server import app
from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.config import Settings, load
from mcp_server.domain.errors import Invalid, NotFound
from mcp_server.domain.workloads import Owner
from mcp_server.services.schemas.databases import Databases
from tests.databases.conftest import free_range
from tests.schemas.conftest import Bench, bench_at
from tests.services.engine import DockerEngine
from tests.tools.desk import OWNER, Desk, opened

ONE = ("001_one", "CREATE TABLE pets (id integer PRIMARY KEY, name text);", "DROP TABLE pets;")
TWO = ("002_two", "ALTER TABLE pets ADD COLUMN age integer;", "ALTER TABLE pets DROP COLUMN age;")


@dataclass
class Yard:
    """A home and a code base that know of each other by the project's path only."""

    folder: Path
    settings: dict[str, str]
    engine: str | None
    project: str

    @property
    def root(self) -> Path:
        return self.folder / "code"

    def bench(self, name: str = "app", engine: str = "postgres", says: str = "") -> Bench:
        found = bench_at(self.root, engine, "unused") if not (self.root / "db").exists() else None
        folder = self.root / "db" / name
        folder.mkdir(exist_ok=True)
        (folder / "database.toml").write_text(f'engine = "{engine}"\n{says}\n')
        return found or Bench(self.root, {}, engine, "")

    @asynccontextmanager
    async def server(self) -> AsyncIterator[Desk]:
        async with opened(self.folder, self.engine, **self.settings) as desk:
            yield desk

    async def prepare(self, desk: Desk, engine: str, **more: Any) -> None:
        await desk.done("create_project", {"name": self.project, "path": str(self.root)})
        await desk.done(
            "create_database", {"project": self.project, "engine": engine, "wait_seconds": 60, **more}
        )
        for file in self.root.glob(".env*"):  # the address is to be looked up, not read
            file.unlink()

    def terminal(self, environment: str = "development", **environ: str) -> Databases:
        """As `quaymaster db` sees it, in another process than the server's."""
        return app.code_databases(self.root, environ, environment, self.loaded, owner="the test")

    def loaded(self) -> Settings:
        docker = self.engine or f"unix://{self.folder}/no-engine.sock"
        environ = {"QUAYMASTER_HOME": str(self.folder / "home"), "DOCKER_HOST": docker}
        return load(environ | {f"QUAYMASTER_{k.upper()}": v for k, v in self.settings.items()}, self.folder)


@contextmanager
def a_yard(folder: Path, engine: str | None, **settings: str) -> Iterator[Yard]:
    (folder / "code").mkdir()
    yield Yard(folder, settings, engine, f"t{secrets.token_hex(5)}")


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Yard]:
    with a_yard(tmp_path, None) as made:
        yield made


@pytest.fixture
async def yard(
    tmp_path: Path, engine: DockerEngine, owner: Owner, image: Callable[[str], str]
) -> AsyncIterator[Yard]:
    mirror = await RegistryMirror.open(tmp_path / "home", home=owner.installation)
    mirror.close()
    ports = free_range(4)
    settings = {
        "postgres_image": image("postgres"),
        "database_ports": f"{ports[0]}-{ports[-1]}",
        "warm_pool": "0",
    }
    with a_yard(tmp_path, engine.address, **settings) as made:
        yield made


async def planned(desk: Desk, tool: str, arguments: dict[str, Any]) -> Any:
    plan = await desk.done(tool, arguments)
    assert plan["status"] == "planned", plan
    return await desk.done(tool, {**arguments, "plan_token": plan["plan_token"]})


async def look_after(yard: Yard, engine: str) -> None:
    bench = yard.bench(engine=engine)
    bench.migration(*ONE)
    bench.migration(*TWO)
    bench.schema("CREATE TABLE pets (id integer PRIMARY KEY, name text, age integer);")
    async with yard.server() as desk:
        await yard.prepare(desk, engine)
        app = {"project": yard.project, "database": "app"}
        [status] = (await desk.done("schema_status", {"project": yard.project}))["databases"]
        assert status["pending"] == ["001_one", "002_two"]
        assert (await desk.done("validate_schema", app))["valid"] is True
        rehearsed = await desk.done("plan_migration", {**app, "rehearse": True})
        assert [each["migration"] for each in rehearsed["rehearsed"]] == ["001_one", "002_two"]
        await planned(desk, "apply_migration", app)
        written = {"sql": "INSERT INTO pets VALUES (1, 'Rex', 3)", "write": True}
        assert (await desk.done("execute_sql", app | written))["changed"] == 1
        asked = await desk.done("query_database", {"project": yard.project, "sql": "SELECT name FROM pets"})
        assert asked["rows"] == [["Rex"]]
        done = await planned(desk, "rollback_migration", app | {"target": "1"})
        assert "002_two" in done["message"]
        [backup] = (await desk.done("list_backups", {"project": yard.project}))["items"]
        assert (backup["reason"], backup["state"]) == ("schema", "verified")
        await planned(desk, "restore_database", {"backup_id": backup["id"], "wait_seconds": 60})
        read = await desk.done("execute_sql", app | {"sql": "SELECT name, age FROM pets"})
        assert read["rows"] == [["Rex", 3]]
        await planned(desk, "pull_schema", app)
        assert "CREATE TABLE" in (bench.folder / "schema.sql").read_text()
        assert (await desk.done("plan_migration", app))["up"] == ""
    databases = yard.terminal()
    await databases.places.look_up()
    [folder] = databases.chosen(["app"])
    found = await databases.status(folder)
    assert found.applied == ("001_one", "002_two")
    [listed] = databases.list()
    assert listed.source == f"project {yard.project}"
    plan = await databases.dangerous.plan(folder, "rollback", "base")
    said: list[str] = []
    assert await databases.dangerous.rollback(folder, plan, "base", tell=said.append) == (
        "002_two",
        "001_one",
    )
    assert "restored and compared" in said[0]


async def test_a_sqlite_database_of_a_project_is_looked_after(files: Yard) -> None:
    await look_after(files, "sqlite")


@pytest.mark.timeout(300)
async def test_a_postgresql_of_a_project_is_looked_after_by_its_own_server(yard: Yard) -> None:
    """Its role may make no database and this host needs no pg_dump: shadows, clones and dumps are the server's."""
    await look_after(yard, "postgres")


async def test_no_statement_changes_anything_through_execute_sql(yard: Yard) -> None:
    from tests.queries.test_escapes_postgres import ESCAPES

    yard.bench()
    app = {"project": yard.project, "database": "app"}
    async with yard.server() as desk:
        await yard.prepare(desk, "postgres")
        for sql in ("CREATE TABLE pets (id SERIAL PRIMARY KEY, name TEXT)", "CREATE TABLE people (id INT, age INT)",
                    "CREATE SEQUENCE counter", "INSERT INTO pets (name) SELECT 'p' FROM generate_series(1, 30)"):  # fmt: skip
            await desk.done("execute_sql", app | {"sql": sql, "write": True})
        everything = {"project": yard.project, "sql": "SELECT (SELECT count(*) FROM pets), (SELECT last_value FROM counter),"
                      " (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace)"}  # fmt: skip
        before = (await desk.done("query_database", everything))["rows"]
        for sql in ESCAPES:
            if sql:
                await desk.call("execute_sql", app | {"sql": sql})
        assert (await desk.done("query_database", everything))["rows"] == before
        large = await desk.done("execute_sql", app | {"sql": "DROP TABLE pets", "write": True})
        assert (large["status"], large["effects"]) == ("planned", ["lost: table public.pets"])


# -- which one is meant -------------------------------------------------------------------------------------


async def test_a_variable_goes_before_what_was_made(files: Yard) -> None:
    files.bench(engine="sqlite", says=f'project = "{files.project}"')
    async with files.server() as desk:
        await files.prepare(desk, "sqlite")
    databases = files.terminal(RDS_APP_URL="sqlite:///mine.db")
    await databases.places.look_up()
    assert databases.ground.place(databases.chosen(["app"])[0]).endswith("/mine.db")
    databases = files.terminal()
    await databases.places.look_up()
    assert databases.ground.place(databases.chosen(["app"])[0]).endswith("/data/dev.db")


async def test_two_folders_of_one_database_are_an_error_for_both(files: Yard) -> None:
    for name in ("app", "other"):
        files.bench(name, engine="sqlite", says=f'project = "{files.project}"')
    async with files.server() as desk:
        await files.prepare(desk, "sqlite")
        answer = await desk.call(
            "execute_sql", {"project": files.project, "database": "app", "sql": "SELECT 1"}
        )
        assert "'app' and 'other'" in json.dumps(answer.structured_content)
    databases = files.terminal()
    await databases.places.look_up()
    for folder in databases.chosen(["app", "other"]):
        with pytest.raises(Invalid, match="'app' and 'other' would both"):
            databases.places.url(folder)


async def test_of_several_databases_only_one_that_names_the_project_is_its(files: Yard) -> None:
    files.bench("app", engine="sqlite")
    files.bench("other", engine="sqlite", says=f'project = "{files.project}"')
    async with files.server() as desk:
        await files.prepare(desk, "sqlite")
    databases = files.terminal()
    await databases.places.look_up()
    app_, other = databases.chosen(["app", "other"])
    with pytest.raises(Invalid, match="RDS_APP_URL is not set"):
        databases.places.url(app_)
    assert databases.ground.place(other).endswith("/data/dev.db")


async def test_the_database_of_another_environment_is_never_taken(files: Yard) -> None:
    files.bench(engine="sqlite", says=f'project = "{files.project}"')
    async with files.server() as desk:
        await files.prepare(desk, "sqlite", environment="production")
    databases = files.terminal()
    await databases.places.look_up()
    with pytest.raises(NotFound, match="no database for development; there is one for production"):
        databases.places.url(databases.chosen(["app"])[0])
    databases = files.terminal("production")
    await databases.places.look_up()
    assert databases.places.url(databases.chosen(["app"])[0]).startswith("file:")


async def test_the_database_of_another_team_is_not_found(files: Yard) -> None:
    bench = files.bench(engine="sqlite", says='project = "theirs"')
    async with files.server() as desk:
        other = await desk.other_team()
        await desk.done("create_project", {"name": "theirs"}, caller=other)
        await desk.done("create_database", {"project": "theirs", "engine": "sqlite"}, caller=other)
        await desk.done("create_project", {"name": files.project, "path": str(bench.root)})
        answer = await desk.call(
            "execute_sql", {"project": files.project, "database": "app", "sql": "SELECT 1"}, caller=OWNER
        )
        assert (answer.structured_content or {})["code"] == "NOT_FOUND"


async def test_a_look_without_a_home_makes_none(files: Yard) -> None:
    files.bench(engine="sqlite")
    databases = files.terminal()
    await databases.places.look_up()
    with pytest.raises(Invalid, match="RDS_APP_URL is not set"):
        databases.places.url(databases.chosen(["app"])[0])
    assert not (files.folder / "home").exists()
