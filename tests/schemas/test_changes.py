"""From any schema to any other, and back: compared by the engines' own catalogs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcp_server.adapters.schemas.engines import LiveEngines
from mcp_server.domain.schemas.catalogs import Catalog, Table, differences
from mcp_server.domain.schemas.changes import changes
from mcp_server.domain.schemas.failures import StatementFailed
from mcp_server.domain.schemas.statements import Statement, split
from mcp_server.ports.schemas import Limits, Session
from tests.schemas.conftest import Bench
from tests.schemas.corpus import schemas

LIMITS = Limits(5, 20)


@asynccontextmanager
async def fresh(url: str) -> AsyncIterator[Session]:
    """An empty database, locked."""
    engines = LiveEngines(Path("/"))
    async with (
        engines.scratch(url, None) as scratch,
        engines.open(scratch, LIMITS) as session,
        session.lock("the test", 1),
    ):
        yield session


async def made(url: str, text: str) -> Catalog:
    async with fresh(url) as session:
        await session.transaction(split(text, session.engine), None)
        return await session.catalog()


async def turn(session: Session, start: Catalog, goal: Catalog) -> list[str]:
    """Change the database by a script as a file has it, and say what is not as it should be; the order of columns
    is not asked for."""
    await session.transaction(split(changes(start, goal).script, session.engine), None)
    found = differences(await session.catalog(), goal)
    return [each for each in found if not each.startswith("order of the columns")]


async def there_and_back(url: str, one: str, two: str) -> None:
    goal = await made(url, two)
    async with fresh(url) as session:
        await session.transaction(split(one, session.engine), None)
        start = await session.catalog()
        assert await turn(session, start, goal) == []
        assert await turn(session, await session.catalog(), start) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(one=schemas("sqlite"), two=schemas("sqlite"))
def test_any_sqlite_schema_becomes_any_other_and_comes_back(sqlite_bench: Bench, one, two):
    asyncio.run(there_and_back(sqlite_bench.url, one, two))


@settings(
    max_examples=settings.default.max_examples // 3 if settings.default else 10,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(one=schemas("postgres"), two=schemas("postgres"))
def test_any_postgres_schema_becomes_any_other_and_comes_back(postgres_bench: Bench, one, two):
    asyncio.run(there_and_back(postgres_bench.url, one, two))


PAIRS = {
    "an enum loses a label": (
        """CREATE TYPE mood AS ENUM ('a', 'b', 'c'); CREATE TABLE t (id int, m mood DEFAULT 'a', ms mood[]);
        CREATE INDEX i ON t (m) WHERE m = 'b'; CREATE VIEW v AS SELECT m FROM t;""",
        """CREATE TYPE mood AS ENUM ('a', 'c'); CREATE TABLE t (id int, m mood DEFAULT 'a', ms mood[]);
        CREATE VIEW v AS SELECT m FROM t;""",
    ),
    "an enum gains a label that a default uses": (
        "CREATE TYPE mood AS ENUM ('a'); CREATE TABLE t (m mood);",
        "CREATE TYPE mood AS ENUM ('z', 'a', 'b'); CREATE TABLE t (m mood DEFAULT 'b');",
    ),
    "a computed column changes": (
        "CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a * 2) STORED);",
        "CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a * 3) STORED);",
    ),
    "a key is referred to": (
        "CREATE TABLE p (a int, b int, PRIMARY KEY (a)); CREATE TABLE c (a int REFERENCES p);",
        "CREATE TABLE p (a int, b int, PRIMARY KEY (b)); CREATE TABLE c (a int REFERENCES p (b));",
    ),
    "a function is used by a default and takes a table": (
        "",
        """CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TABLE t (a int DEFAULT f());
        CREATE FUNCTION g(t) RETURNS int LANGUAGE sql AS 'SELECT $1.a'; CREATE VIEW v AS SELECT g(t) FROM t;
        CREATE MATERIALIZED VIEW m AS SELECT a FROM generate_series(1,2) AS x(a); CREATE UNIQUE INDEX m_a ON m (a);""",
    ),
    "types are made of each other": (
        "CREATE TYPE addr AS (street text); CREATE TABLE t (id int);",
        """CREATE TYPE kind AS ENUM ('home', 'work'); CREATE DOMAIN zip AS text CHECK (VALUE <> '');
        CREATE TYPE addr AS (street text); CREATE TYPE "Place" AS (kind kind, zip zip, "where" addr, tags text[]);
        CREATE TYPE span AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = float8mi);
        CREATE DOMAIN here AS "Place" CHECK ((VALUE).kind IS NOT NULL);
        CREATE TABLE t (id int, a addr, b here, c span, d "Place"[]);
        CREATE FUNCTION street(addr) RETURNS text LANGUAGE sql AS 'SELECT $1.street';
        COMMENT ON TYPE span IS 'from, to';""",
    ),
    "a schema of its own": (
        "CREATE SCHEMA one; CREATE TABLE one.t (a int);",
        """CREATE SCHEMA "Two"; CREATE TABLE "Two"."T" ("A" int CONSTRAINT "Odd" CHECK ("A" > 0));""",
    ),
}


@pytest.mark.parametrize("name", PAIRS)
async def test_a_pair_that_needs_care_goes_both_ways(postgres_bench, name):
    await there_and_back(postgres_bench.url, *PAIRS[name])


async def test_rows_are_kept_where_the_change_allows_it(bench):
    bench.schema("CREATE TABLE t (id integer PRIMARY KEY, a text, b integer);")
    await push(bench)
    await bench.write("INSERT INTO t (id, a, b) VALUES (1, 'one', 11)")
    bench.schema(
        "CREATE TABLE t (id integer PRIMARY KEY, a text CHECK (a <> ''), b integer, c text DEFAULT 'c');"
    )
    assert await push(bench) == ()
    assert await bench.rows("SELECT id, a, b, c FROM t") == ((1, "one", 11, "c"),)


async def test_a_lost_column_is_named_and_needs_a_word(bench):
    bench.schema("CREATE TABLE t (id integer PRIMARY KEY, a text);")
    await push(bench)
    await bench.write("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, NULL)")
    bench.schema("CREATE TABLE t (id integer PRIMARY KEY);")
    plan = await bench.databases().dangerous.plan(bench.one(), "push")
    assert any(loss.endswith("t.a (2 values)") for loss in plan.losses)
    with pytest.raises(Exception, match="data would be lost"):
        await bench.databases().dangerous.push(
            bench.one(), plan, tell=lambda text: None, accept_data_loss=False
        )
    assert await push(bench) == ()


async def test_a_dropped_column_leaves_what_rests_on_the_others_as_it_is(postgres_bench):
    head = "CREATE TABLE one (id int PRIMARY KEY, a int CHECK (a > 0), b int{c}); "
    tail = "CREATE TABLE two (one int REFERENCES one, x int); CREATE INDEX by_a ON one (a); CREATE INDEX by_b ON one (b);"
    postgres_bench.schema(head.format(c=", c int CHECK (c < b)") + tail + "CREATE INDEX by_c ON one (c, a);")
    await push(postgres_bench)
    await postgres_bench.write("INSERT INTO one VALUES (1, 1, 2, 1)")
    postgres_bench.schema(head.format(c="") + tail)
    found = await postgres_bench.databases().difference(postgres_bench.one())
    assert "ADD CONSTRAINT" not in found.up
    assert "CREATE INDEX" not in found.up
    assert found.unexpressed == ()
    assert await push(postgres_bench) == ()
    assert (await postgres_bench.databases().difference(postgres_bench.one())).empty


async def test_what_cannot_be_expressed_is_said(postgres_bench):
    postgres_bench.schema(
        "CREATE TABLE t (a int); ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON t USING (a > 0);"
    )
    found = await postgres_bench.databases().difference(postgres_bench.one())
    assert any("policy own" in each for each in found.unexpressed)
    plan = await postgres_bench.databases().dangerous.plan(postgres_bench.one(), "push")
    assert any("CREATE TABLE" in each for each in plan.effects)
    left = await push(postgres_bench)
    assert any("policy own" in each for each in left)
    assert plan.left == left


async def test_what_a_push_would_leave_is_known_before_also_where_only_the_database_has_it(postgres_bench):
    await postgres_bench.write("CREATE TABLE t (a int)")
    await postgres_bench.write("CREATE POLICY own ON t USING (a > 0)")
    postgres_bench.schema("CREATE TABLE t (a int, b int);")
    plan = await postgres_bench.databases().dangerous.plan(postgres_bench.one(), "push")
    assert any("policy own on public.t: only in the first" in each for each in plan.left)
    assert await push(postgres_bench) == plan.left


async def test_a_pulled_schema_makes_the_same_database_again(bench):
    bench.schema("CREATE TABLE t (id integer PRIMARY KEY, a text DEFAULT 'x;y');\nCREATE INDEX i ON t (a);")
    await push(bench)
    before = (bench.folder / "schema.sql").read_text()
    plan = await bench.databases().dangerous.plan(bench.one(), "pull")
    assert "keep the file that is there below .quaymaster/backups/app" in plan.effects
    done = await bench.databases().dangerous.pull(bench.one(), plan)
    assert (await bench.databases().difference(bench.one())).empty
    assert done.kept is not None
    assert done.kept.read_text() == before
    assert done.told(bench.root).endswith(f"is kept as .quaymaster/backups/app/{done.kept.name}")


async def test_a_first_pull_overwrites_nothing_and_says_so(bench):
    bench.migration("001_one", "CREATE TABLE t (id integer PRIMARY KEY);")
    await bench.deploy()
    plan = await bench.databases().dangerous.plan(bench.one(), "pull")
    assert plan.effects == ("write db/app/schema.sql from the schema of the database",)
    done = await bench.databases().dangerous.pull(bench.one(), plan)
    assert done.kept is None
    assert done.told(bench.root) == "wrote schema.sql"


async def test_a_pull_that_cannot_keep_the_file_leaves_it(bench, monkeypatch):
    bench.schema("-- mine\nCREATE TABLE t (id integer PRIMARY KEY);")
    databases = bench.databases()
    plan = await databases.dangerous.plan(bench.one(), "pull")
    (bench.root / ".quaymaster").write_text("in the way")
    with pytest.raises(FileExistsError):
        await databases.dangerous.pull(bench.one(), plan)
    assert (bench.folder / "schema.sql").read_text().startswith("-- mine")


async def test_a_written_migration_leads_to_the_schema_and_back(bench):
    bench.schema("CREATE TABLE t (id integer PRIMARY KEY);")
    await bench.databases().write_migration(bench.one(), "first")
    bench.schema("CREATE TABLE t (id integer PRIMARY KEY, a text);\nCREATE VIEW v AS SELECT a FROM t;")
    _, found = await bench.databases().write_migration(bench.one(), "second")
    assert found.unexpressed == ()
    assert len(await bench.deploy()) == 2
    assert (await bench.databases().difference(bench.one())).empty
    assert await bench.databases().validate(bench.one()) == ()


async def push(bench: Bench) -> tuple[str, ...]:
    plan = await bench.databases().dangerous.plan(bench.one(), "push")
    return await bench.databases().dangerous.push(
        bench.one(), plan, tell=lambda text: None, accept_data_loss=True
    )


@given(st.text(alphabet="';$-*/\"\\e \nabBEGINatomicCASEend`[]", max_size=60))
def test_cutting_text_never_loses_any(text):
    try:
        found = split(text, "postgres")
    except Exception as error:
        assert "does not end" in str(error) or "no END" in str(error)  # noqa: PT017
        return
    for each in found:
        assert each.text in text


# -- rows ---------------------------------------------------------------------------------------------


async def rows_survive(url: str, one: str, two: str) -> None:
    """A change that names no loss is not refused and keeps every value of what remains; there and back."""
    goal = await made(url, two)
    async with fresh(url) as session:
        await session.transaction(split(one, session.engine), None)
        start = await session.catalog()
        for table in start.tables.values():
            await fill(session, table)
        for before, after in ((start, goal), (goal, start)):
            script = changes(before, after)
            kept = await values(session, before, after)
            try:
                await session.transaction(
                    [Statement(each, number, ()) for number, each in enumerate(script.statements)], None
                )
            except StatementFailed:
                assert script.losses
                return
            assert await values(session, before, after) == kept


VALUES = {
    "integer": "41",
    "bigint": "42",
    "text": "'kept'",
    "character varying(40)": "'kept'",
    "numeric(10,2)": "4.20",
    "boolean": "false",
    "timestamp with time zone": "'2020-01-02'",
    "jsonb": """'{"kept": 1}'""",
    "integer[]": "'{4}'",
    "numeric": "4.5",
    "blob": "x'41'",
}
"""By type, and never what the corpus has as a default."""


async def fill(session: Session, table: Table) -> None:
    """A row of values of its own, and one of defaults, where constraints allow them."""
    own = [
        each for each in table.columns if each.type.lower() in VALUES and each.name not in ("id", "parent")
    ]
    key = " OVERRIDING SYSTEM VALUE" if session.engine == "postgres" else ""
    for number, columns in ((1, own), (2, [])):
        names = ", ".join(["id", *(said(session, each.name) for each in columns)])
        chosen = ", ".join([str(number), *(VALUES[each.type.lower()] for each in columns)])
        row = f"INSERT INTO {said(session, table.name)} ({names}){key} VALUES ({chosen})"  # noqa: S608 - the corpus's names
        with suppress(StatementFailed):
            await session.transaction([Statement(row, 1, ())], None)


def said(session: Session, name: str) -> str:
    return name if session.engine == "postgres" else f'"{name}"'


async def values(session: Session, before: Catalog, after: Catalog) -> dict[str, object]:
    """Of the tables that both have, the columns that are the same in both, row by row."""
    found: dict[str, object] = {}
    for name in sorted(before.tables.keys() & after.tables.keys()):
        columns = [
            each.name
            for each in before.tables[name].columns
            if each in after.tables[name].columns and not each.generated
        ]
        names = ", ".join(said(session, each) for each in columns)
        question = f"SELECT {names} FROM {said(session, name)} ORDER BY id"  # noqa: S608 - the corpus's names
        found[name] = (await session.query(Statement(question, 1, ()), write=False, limit=10)).rows
    return found


async def test_a_column_that_must_not_be_null_any_more_is_told_also_where_another_one_may_be(sqlite_bench):
    one = await made(sqlite_bench.url, "CREATE TABLE one (id integer PRIMARY KEY, a text, b text NOT NULL);")
    two = await made(sqlite_bench.url, "CREATE TABLE one (id integer PRIMARY KEY, a text NOT NULL, b text);")
    [told] = changes(one, two).losses
    assert told.text == "column one.a becomes NOT NULL: refused while a row has none"
    await rows_survive(sqlite_bench.url, *(each.tables["one"].text + ";" for each in (one, two)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(one=schemas("sqlite", 2), two=schemas("sqlite", 2))
def test_any_change_of_a_sqlite_schema_keeps_the_rows_that_it_does_not_call_lost(
    sqlite_bench: Bench, one, two
):
    asyncio.run(rows_survive(sqlite_bench.url, one, two))


@settings(
    max_examples=settings.default.max_examples // 3 if settings.default else 10,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(one=schemas("postgres", 2), two=schemas("postgres", 2))
def test_any_change_of_a_postgres_schema_keeps_the_rows_that_it_does_not_call_lost(
    postgres_bench: Bench, one, two
):
    asyncio.run(rows_survive(postgres_bench.url, one, two))


async def test_the_comment_of_a_column_is_written_once_and_taken_away(postgres_bench):
    table = 'CREATE TABLE "Ünï" (id integer, a text);\n'
    postgres_bench.schema(f"{table}COMMENT ON COLUMN \"Ünï\".a IS 'it''s';")
    assert await push(postgres_bench) == ()
    assert (await postgres_bench.databases().difference(postgres_bench.one())).empty
    postgres_bench.schema(table)
    assert await push(postgres_bench) == ()
    assert (await postgres_bench.databases().difference(postgres_bench.one())).empty


CHANGED = """
CREATE TYPE addr AS (street text{more});
CREATE TYPE span AS RANGE (subtype = int{bytes});
CREATE DOMAIN positive AS int CHECK (VALUE > {least});
CREATE FUNCTION step(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT a + b';
CREATE AGGREGATE adding (int) (SFUNC = step, STYPE = int, INITCOND = '{least}');
CREATE FUNCTION times(a int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT a * {least}';
CREATE PROCEDURE nothing() LANGUAGE sql AS 'SELECT {least}';
"""


async def test_a_definition_that_changed_is_carried_out_or_told_and_never_passed_over(postgres_bench):
    before, after = (
        CHANGED.format(more="", bytes=4, least=0),
        CHANGED.format(more=", zip text", bytes=8, least=5),
    )
    postgres_bench.migration("001_one", before)
    await postgres_bench.deploy()
    postgres_bench.schema(after)
    databases = postgres_bench.databases()
    found = await databases.difference(postgres_bench.one())
    assert "SELECT a * 5" in found.up
    assert "SELECT 5" in found.up
    told = [each for each in found.unexpressed if not each.startswith("on the way back")]
    assert told == [
        "aggregate public.adding(integer): differs",
        "domain public.positive: differs",
        "type public.addr: differs",
        "type public.span: differs",
    ]
