"""Renames: guessed at in words, done only where schema.sql tells of them, both ways, with the rows."""

import pytest

from mcp_server.domain.errors import Invalid
from mcp_server.domain.schemas.renames import renames_in
from tests.schemas.conftest import Bench
from tests.schemas.test_changes import push

BEFORE = """CREATE TABLE users (id integer PRIMARY KEY, name text NOT NULL, age integer CHECK (age > 0));
CREATE INDEX users_name ON users (name);
CREATE VIEW names AS SELECT name FROM users;
"""
AFTER = """-- rename: users -> people
-- rename: users.name -> full_name
CREATE TABLE people (id integer PRIMARY KEY, full_name text NOT NULL, age integer CHECK (age > 0));
CREATE INDEX people_name ON people (full_name);
CREATE VIEW names AS SELECT full_name FROM people;
"""


async def started(bench: Bench) -> None:
    bench.schema(BEFORE)
    await push(bench)
    await bench.write("INSERT INTO users (id, name, age) VALUES (1, 'ann', 30)")


async def test_a_column_that_seems_renamed_is_lost_unless_the_schema_says_so(bench):
    await started(bench)
    bench.schema(
        BEFORE.replace("name text", "full_name text")
        .replace("(name)", "(full_name)")
        .replace("SELECT name", "SELECT full_name")
    )
    plan = await bench.databases().dangerous.plan(bench.one(), "push")
    [loss] = [each for each in plan.losses if "rename" in each]
    hint = loss.partition("'")[2].partition("'")[0]
    assert hint.endswith("users.name -> full_name")
    bench.schema(f"{hint}\n{(bench.folder / 'schema.sql').read_text()}")
    plan = await bench.databases().dangerous.plan(bench.one(), "push")
    assert [each for each in plan.losses if each.startswith("column")] == []
    assert await push(bench) == ()
    assert await bench.rows("SELECT full_name FROM users") == (("ann",),)


async def test_a_table_that_seems_renamed_is_lost_unless_the_schema_says_so(bench):
    bench.schema("CREATE TABLE one (id integer PRIMARY KEY, a text);")
    await push(bench)
    bench.schema("CREATE TABLE two (id integer PRIMARY KEY, a text);")
    [loss] = (await bench.databases().dangerous.plan(bench.one(), "push")).losses
    assert "its rows" in loss
    assert "one -> " in loss


async def test_renames_that_are_told_keep_every_row_and_are_done_once(bench):
    await started(bench)
    bench.schema(AFTER)
    assert await push(bench) == ()
    assert await bench.rows("SELECT id, full_name, age FROM people") == ((1, "ann", 30),)
    assert (await bench.databases().difference(bench.one())).empty


async def test_a_written_migration_renames_and_its_way_back_gives_the_old_names(bench):
    bench.schema(BEFORE)
    await bench.databases().write_migration(bench.one(), "first")
    await bench.deploy()
    await bench.write("INSERT INTO users (id, name, age) VALUES (1, 'ann', 30)")
    bench.schema(AFTER)
    path, found = await bench.databases().write_migration(bench.one(), "renamed")
    assert found.unexpressed == ()
    assert "RENAME" in (path / "up.sql").read_text()
    await bench.deploy()
    assert await bench.rows("SELECT full_name FROM names") == (("ann",),)
    plan = await bench.databases().dangerous.plan(bench.one(), "rollback", "1")
    await bench.databases().dangerous.rollback(bench.one(), plan, "1", tell=lambda text: None)
    assert await bench.rows("SELECT name FROM names") == (("ann",),)
    assert await bench.rows("SELECT id, name, age FROM users") == ((1, "ann", 30),)


async def test_names_that_need_quotes_are_renamed(bench):
    bench.schema('CREATE TABLE "Odd One" (id integer PRIMARY KEY, "When" text);')
    await push(bench)
    await bench.write("INSERT INTO \"Odd One\" VALUES (1, 'x')")
    bench.schema(
        '-- rename: "Odd One" -> "Even.One"\n-- rename: "Even.One"."When" -> "Then It"\n'
        'CREATE TABLE "Even.One" (id integer PRIMARY KEY, "Then It" text);'
    )
    assert await push(bench) == ()
    assert await bench.rows('SELECT "Then It" FROM "Even.One"') == (("x",),)


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ("-- rename: users name", "line 2"),
        ("-- rename: users.name -> nowhere", "no nowhere in schema.sql"),
        ("-- rename: gone -> away", "no away in schema.sql"),
    ],
)
async def test_a_hint_that_says_nothing_that_could_be_is_refused(bench, hint, said):
    await started(bench)
    bench.schema(f"-- first\n{hint}\n{BEFORE}")
    with pytest.raises(Invalid, match=said):
        await bench.databases().dangerous.plan(bench.one(), "push")


def test_hints_are_read_line_by_line_with_their_quotes():
    found = renames_in('-- rename: a.b -> c\nCREATE TABLE t;\n  --RENAME: "A ""b" -> x.y\n', where="here")
    assert [(each.where, each.old, each.new) for each in found] == [
        ("here, line 1", ("a", "b"), ("c",)),
        ("here, line 3", ('A "b',), ("x", "y")),
    ]
