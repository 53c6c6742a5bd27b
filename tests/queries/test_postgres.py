"""One statement on PostgreSQL: what comes back, what it may cost, and when a write is kept."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mcp_server.adapters.project_sql.statements import ProjectFigures, ProjectStatements
from mcp_server.domain.databases import Login
from mcp_server.domain.errors import Invalid, Unavailable
from mcp_server.domain.queries import Bounds, Rows, Statement
from tests.queries.conftest import Prepared
from tests.registry.samples import until


async def read(target: Login, sql: str, *parameters: Any, **bounds: Any) -> Rows:
    return await ProjectStatements().read(target, Statement(sql=sql, parameters=parameters), Bounds(**bounds))


@pytest.mark.parametrize(
    ("expression", "kind", "expected"),
    [
        ("1", "int4", 1),
        ("9007199254740993::int8", "int8", "9007199254740993"),
        ("1.50::numeric", "numeric", "1.50"),
        ("0.5::float8", "float8", 0.5),
        ("'NaN'::float8", "float8", "NaN"),
        ("true", "bool", True),
        ("NULL::text", "text", None),
        ("'2026-02-03 04:05:06.789+01'::timestamptz", "timestamptz", "2026-02-03 03:05:06.789+00"),
        ("'2026-02-03'::date", "date", "2026-02-03"),
        ("'1 day 2 hours'::interval", "interval", "P1DT2H"),
        ("'\\x00ff'::bytea", "bytea", "\\x00ff"),
        ("'{\"a\": [1, null, 0.1]}'::jsonb", "jsonb", {"a": [1, None, 0.1]}),
        ("'[12345678901234567890.5]'::jsonb", "jsonb", ["12345678901234567890.5"]),
        ("ARRAY[1, NULL, 3]", "int4[]", [1, None, 3]),
        ("ARRAY['2026-02-03'::date]", "date[]", ["2026-02-03"]),
        ("int4range(1, 5)", "int4range", "[1,5)"),
        ("ROW(1, 'x')", "record", [1, "x"]),
        ("'a1b2c3d4-0000-4000-8000-000000000000'::uuid", "uuid", "a1b2c3d4-0000-4000-8000-000000000000"),
        ("'10.0.0.1/8'::inet", "inet", "10.0.0.1/8"),
        ("'x'::\"char\"", "char", "x"),
    ],
)
async def test_values_come_typed_and_without_loss(
    prepared: Prepared, expression: str, kind: str, expected: object
) -> None:
    rows = await read(prepared.reader, f"SELECT {expression} AS it")
    assert [(column.name, column.type) for column in rows.columns] == [("it", kind)]
    assert rows.rows == ((expected,),)


@pytest.mark.parametrize(
    "expression",
    [
        "('1' || repeat('0', 5000))::jsonb",
        "(repeat('[', 5000) || repeat(']', 5000))::json",
        "(repeat('[', 900) || repeat(']', 900))::json",
        '\'{"a": "\\ud800"}\'::json',
    ],
)
async def test_json_that_nobody_could_pass_on_comes_as_its_text(prepared: Prepared, expression: str) -> None:
    rows = await read(prepared.reader, f"SELECT {expression} AS it, ({expression})::text AS plain")
    assert rows.rows[0][0] == rows.rows[0][1]
    assert rows.model_dump_json()


@pytest.mark.parametrize(
    "sql",
    [
        """SELECT CASE n WHEN 1 THEN set_config('statement_timeout', '0', false) WHEN 60 THEN pg_sleep(300)::TEXT END
            FROM generate_series(1, 100) n""",
        "DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(300); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$",
    ],
)
async def test_a_statement_that_evades_its_time_limit_does_not_outlive_its_call(
    prepared: Prepared, sql: str
) -> None:
    with pytest.raises(Invalid, match=r"longer than 0\.3 s"):
        await read(prepared.reader, sql, seconds=0.3)
    left = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{prepared.reader.role}'"  # noqa: S608
    await until(lambda: prepared.asked(left) == 0)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int8", 5),
        ("int8", "9007199254740993"),
        ("text", "it's; DROP TABLE people --"),
        ("numeric", "1.5"),
        ("timestamptz", "2026-02-03 00:00:00+00"),
        ("bool", False),
        ("float8", 0.5),
        ("jsonb", {"a": [1, None]}),
        ("int4[]", [1, 2]),
        ("text[]", ["a", None, 'b"c']),
        ("date", None),
        ("uuid", "a1b2c3d4-0000-4000-8000-000000000000"),
        ("bytea", "\\x00ff"),
    ],
)
async def test_a_parameter_comes_back_as_it_was_sent(prepared: Prepared, kind: str, value: object) -> None:
    assert (await read(prepared.reader, f"SELECT $1::{kind}", value)).rows == ((value,),)


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT $1::int", ["canary-9x"]),
        ("SELECT $1::int", []),
        ("SELECT 1", ["canary-9x"]),
        ("SELECT $1::bool", ["canary-9x"]),
        ("SELECT $1::int", [2**70]),
        ("SELECT $1::date", ["canary-9x"]),
        ("SELECT $1::text", [["canary-9x"]]),
        ("SELECT 'canary-9x'::int", []),
        ('SELECT * FROM "canary-9x"', []),
    ],
)
async def test_a_refusal_quotes_no_value_in_its_message(
    prepared: Prepared, sql: str, parameters: list[Any]
) -> None:
    with pytest.raises(Invalid) as refused:
        await read(prepared.reader, sql, *parameters)
    assert "canary" not in refused.value.message
    assert "canary" not in str(refused.value.__cause__)


async def test_rows_and_bytes_are_bounded_and_the_rest_is_said_to_be_missing(prepared: Prepared) -> None:
    few = await read(prepared.reader, "SELECT n FROM generate_series(1, 1000000) n", rows=120)
    assert (len(few.rows), few.truncated) == (120, True)
    wide = await read(prepared.reader, "SELECT repeat('x', 600) FROM generate_series(1, 100)", bytes=3000)
    assert (len(wide.rows), wide.truncated) == (4, True)
    all_of_it = await read(prepared.reader, "SELECT n FROM generate_series(1, 120) n", rows=120)
    assert (len(all_of_it.rows), all_of_it.truncated) == (120, False)


async def test_an_answer_that_would_fill_the_memory_is_cut_off(prepared: Prepared) -> None:
    with pytest.raises(Invalid, match="larger than 16 MiB"):
        await read(prepared.reader, "SELECT repeat('x', 100000000)")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT pg_sleep(60)",
        "SELECT set_config('statement_timeout', '0', false), pg_sleep(60)",
        "SELECT count(*) FROM generate_series(1, 100000000000)",
    ],
)
async def test_a_slow_statement_is_ended(prepared: Prepared, sql: str) -> None:
    begun = time.monotonic()
    with pytest.raises(Invalid, match=r"longer than 0\.3 s"):
        await read(prepared.reader, sql, seconds=0.3)
    assert time.monotonic() - begun < 5
    assert (
        prepared.asked("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'quaymaster query'")
        == 0
    )


async def test_a_write_is_refused_by_a_read_with_what_to_do(prepared: Prepared) -> None:
    with pytest.raises(Invalid) as refused:
        await read(prepared.reader, "DELETE FROM pets")
    assert "write=true" in refused.value.next


async def test_a_write_returns_its_rows_and_is_kept(prepared: Prepared) -> None:
    statement = Statement(
        sql="UPDATE people SET age = age + $1 WHERE id <= 3 RETURNING id, age", parameters=(1,)
    )
    written = await ProjectStatements().write(prepared.owner, statement, Bounds(), None)
    assert written.kept
    assert written.effects.changed == 3
    assert sorted(written.rows.rows) == [(1, 2), (2, 3), (3, 4)]
    assert prepared.asked("SELECT sum(age) FROM people WHERE id <= 3") == 9


@pytest.mark.parametrize(
    ("sql", "changed", "lost"),
    [
        ("DELETE FROM people", 60, ()),  # 30 people, and 30 pets by the cascade
        ("WITH d AS (DELETE FROM pets RETURNING 1) SELECT 1", 30, ()),
        ("DO $$ BEGIN DELETE FROM pets; END $$", 30, ()),
        ("SELECT sneak()", 30, ()),
        ("DROP TABLE pets", 0, ("table public.pets",)),
        ("DO $$ BEGIN EXECUTE 'DROP TABLE pets'; END $$", 0, ("table public.pets",)),
        ("TRUNCATE pets", 0, ("the rows of table public.pets (emptied or rewritten)",)),
        ("ALTER TABLE people DROP COLUMN age", 0, ("column age of public.people",)),
        ("DROP SCHEMA public CASCADE", 0, ("table public.people", "table public.pets")),
        ("SELECT set_config('search_path', 'evil, public', false), sneak()", 30, ()),
    ],
)
async def test_what_a_write_would_do_is_counted_by_the_server_and_kept_only_when_confirmed(
    prepared: Prepared, sql: str, changed: int, lost: tuple[str, ...]
) -> None:
    statements, before = ProjectStatements(), prepared.fingerprint()
    small = Bounds(changes=10)
    planned = await statements.write(prepared.owner, Statement(sql=sql), small, None)
    assert (planned.kept, planned.effects.changed, planned.effects.lost) == (False, changed, lost)
    assert prepared.fingerprint() == before

    less = planned.effects.change(changed=max(0, changed - 1), lost=lost[:-1])
    assert not (await statements.write(prepared.owner, Statement(sql=sql), small, less)).kept
    assert prepared.fingerprint() == before

    done = await statements.write(prepared.owner, Statement(sql=sql), small, planned.effects)
    assert done.kept
    assert prepared.asked("SELECT to_regclass('pets') IS NULL") or prepared.fingerprint() != before


async def test_a_deferred_trigger_is_counted_too(prepared: Prepared) -> None:
    sql = """
        CREATE FUNCTION later() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN DELETE FROM pets; RETURN NULL; END $$
    """
    statements = ProjectStatements()
    await statements.write(prepared.owner, Statement(sql=sql), Bounds(), None)
    trigger = """
        CREATE CONSTRAINT TRIGGER t AFTER UPDATE ON people DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION later()
    """
    await statements.write(prepared.owner, Statement(sql=trigger), Bounds(), None)
    update = Statement(sql="UPDATE people SET age = 1 WHERE id = 1")
    written = await statements.write(prepared.owner, update, Bounds(changes=10), None)
    assert (written.kept, written.effects.changed) == (False, 31)
    assert prepared.asked("SELECT count(*) FROM pets") == 30


async def test_a_function_in_a_long_select_runs_for_every_row_of_a_write(prepared: Prepared) -> None:
    sql = "SELECT nextval('counter') FROM generate_series(1, 500)"
    written = await ProjectStatements().write(prepared.owner, Statement(sql=sql), Bounds(rows=5), None)
    assert written.rows.truncated
    assert prepared.asked("SELECT last_value FROM counter") == 500


@pytest.mark.parametrize("sql", ["COMMIT", "ROLLBACK"])
async def test_a_write_cannot_end_its_own_transaction(prepared: Prepared, sql: str) -> None:
    with pytest.raises(Invalid, match="ended its transaction"):
        await ProjectStatements().write(prepared.owner, Statement(sql=sql), Bounds(), None)


async def test_a_wrong_password_and_a_closed_port_are_unavailable_and_say_no_secret(
    prepared: Prepared,
) -> None:
    wrong = prepared.reader.change(password=prepared.reader.password.__class__("canary-9x"))
    for target in (wrong, prepared.reader.change(port=1)):
        with pytest.raises(Unavailable) as refused:
            await read(target, "SELECT 1")
        assert "canary" not in str(refused.value.payload()) + str(refused.value.__context__)


async def test_figures_name_sizes_tables_and_connections(prepared: Prepared) -> None:
    found = await ProjectFigures().of(prepared.owner, seconds=5)
    assert found["size_bytes"] > 1_000_000
    assert {table["name"] for table in found["tables"]} == {"public.people", "public.pets"}
    assert set(found) >= {"version", "connections", "slow_statements", "cache_hit_percent", "max_connections"}
