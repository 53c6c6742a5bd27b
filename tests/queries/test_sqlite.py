"""The same promises on SQLite: reads change nothing, writes are counted before they are kept."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from mcp_server.adapters.project_sql.statements import ProjectFigures, ProjectStatements
from mcp_server.adapters.project_sql.threads import MOST_LATE, SPARE_SECONDS, Threads
from mcp_server.domain.errors import Invalid, QuaymasterError, Unavailable
from mcp_server.domain.queries import Bounds, Rows, SqliteFile, Statement

ESCAPES = [
    "DELETE FROM pets",
    "INSERT INTO people (name) VALUES ('x') RETURNING id",
    "REPLACE INTO people (id, name) VALUES (1, 'x')",
    "UPDATE people SET age = 0",
    "DROP TABLE pets",
    "CREATE TABLE loot AS SELECT * FROM people",
    "CREATE TEMP TABLE loot (a)",
    "CREATE TRIGGER t AFTER INSERT ON pets BEGIN DELETE FROM people; END",
    "CREATE VIRTUAL TABLE v USING fts5(a)",
    "ALTER TABLE people ADD COLUMN x",
    "COMMIT",
    "ROLLBACK",
    "BEGIN EXCLUSIVE",
    "SAVEPOINT a",
    "SELECT 1; DELETE FROM pets",
    "COMMIT; DELETE FROM pets",
    "ATTACH DATABASE '{other}' AS o",
    "DETACH DATABASE main",
    "VACUUM",
    "VACUUM INTO '{other}'",
    "REINDEX",
    "ANALYZE",
    "PRAGMA query_only = OFF",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA writable_schema = ON",
    "PRAGMA user_version = 7",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA temp_store_directory = '/tmp'",
    "SELECT load_extension('x')",
    "SELECT fts3_tokenizer('simple')",
    "SELECT writefile('{other}', 'x')",
    "WITH x AS (SELECT 1) DELETE FROM pets",
    "EXPLAIN QUERY PLAN DELETE FROM pets",
    "/* SELECT */ DELETE FROM pets",
    "-- x\nDELETE FROM pets",
    "SELECT 'a'';' || \";\"; DELETE FROM pets",
    "",
    ";",
]


def contents(file: SqliteFile) -> list[str]:
    with contextlib.closing(sqlite3.connect(file.path)) as connection:
        return [*connection.iterdump(), *map(str, connection.execute("PRAGMA user_version"))]


async def read(file: SqliteFile, sql: str, *parameters: Any, **bounds: Any) -> Rows:
    return await ProjectStatements().read(file, Statement(sql=sql, parameters=parameters), Bounds(**bounds))


@pytest.mark.parametrize("sql", ESCAPES)
async def test_no_statement_changes_anything_through_a_read(
    file: SqliteFile, tmp_path: Path, sql: str
) -> None:
    other, before = tmp_path / "other.db", contents(file)
    with contextlib.suppress(QuaymasterError):
        await read(file, sql.replace("{other}", str(other)))
    assert contents(file) == before
    assert not other.exists()


@pytest.mark.parametrize(
    "sql",
    ["ATTACH DATABASE '{other}' AS o", "VACUUM INTO '{other}'", "PRAGMA writable_schema = ON", "COMMIT"],
)
async def test_a_write_stays_in_its_file_and_in_its_transaction(
    file: SqliteFile, tmp_path: Path, sql: str
) -> None:
    other = tmp_path / "other.db"
    statement = Statement(sql=sql.replace("{other}", str(other)))
    with pytest.raises(Invalid):
        await ProjectStatements().write(file, statement, Bounds(), None)
    assert not other.exists()


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM pets",
        "INSERT INTO people (name) VALUES ('x')",
        "UPDATE people SET age = 0",
        "CREATE TABLE t (a)",
        "CREATE INDEX i ON people (name)",
        "DROP TABLE pets",
        "ALTER TABLE people ADD COLUMN x",
    ],
)
async def test_a_write_is_refused_by_a_read_with_what_to_do(file: SqliteFile, sql: str) -> None:
    with pytest.raises(Invalid) as refused:
        await read(file, sql)
    assert "write=true" in refused.value.next


async def test_values_come_typed(file: SqliteFile) -> None:
    found = await read(
        file, "SELECT 1 AS i, 9007199254740993 AS b, 0.5 AS r, 'x' AS t, x'00ff' AS o, NULL AS n"
    )
    assert found.rows == ((1, "9007199254740993", 0.5, "x", "\\x00ff", None),)
    assert [one.type for one in found.columns] == ["integer", "integer", "real", "text", "blob", ""]
    assert (await read(file, "SELECT ? + ?, ?", 1, 2, None)).rows == ((3, None),)


async def test_rows_bytes_values_and_time_are_bounded(file: SqliteFile) -> None:
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    found = await read(file, numbers, rows=70)
    assert (len(found.rows), found.truncated) == (70, True)
    with pytest.raises(Invalid):
        await read(file, "SELECT zeroblob(500000000)")
    begun = time.monotonic()
    with pytest.raises(Invalid, match=r"longer than 0\.2 s"):
        await read(file, f"SELECT count(*) FROM ({numbers})", seconds=0.2)  # noqa: S608
    assert time.monotonic() - begun < 3


async def test_a_read_whose_one_step_takes_minutes_is_given_up_after_its_time(file: SqliteFile) -> None:
    endless = "SELECT instr(zeroblob(600000), CAST(zeroblob(300000) || x'01' AS BLOB))"
    with pytest.raises(Invalid, match=r"longer than 0\.1 s"):
        await read(file, endless, seconds=0.1)


async def test_few_reads_that_were_given_up_are_borne_for_a_file_and_others_go_on() -> None:
    threads, let_go = Threads(), threading.Event()

    async def endless() -> None:
        with pytest.raises(Invalid, match="longer than"):
            await threads.read("/one.db", lambda _: let_go.wait(60), seconds=0.1 - SPARE_SECONDS)

    try:
        for _ in range(MOST_LATE):
            await endless()
        with pytest.raises(Unavailable, match="still run"):
            await threads.read("/one.db", lambda _: 1, seconds=5)
        assert await threads.read("/two.db", lambda _: 2, seconds=5) == 2
    finally:
        let_go.set()
    with anyio.fail_after(10):
        while True:
            with contextlib.suppress(Unavailable):
                assert await threads.read("/one.db", lambda _: 3, seconds=5) == 3
                break
            await anyio.lowlevel.checkpoint()


async def test_a_look_at_the_schema_is_a_read(file: SqliteFile) -> None:
    assert len((await read(file, "PRAGMA table_info(people)")).rows) == 3


@pytest.mark.parametrize(
    ("sql", "changed", "lost"),
    [
        ("DELETE FROM people", 60, ()),
        ("DROP TABLE pets", 0, ("table pets",)),
        ("ALTER TABLE people DROP COLUMN age", 0, ("column age of people",)),
    ],
)
async def test_a_large_write_is_kept_only_when_confirmed(
    file: SqliteFile, sql: str, changed: int, lost: tuple[str, ...]
) -> None:
    statements, before, small = ProjectStatements(), contents(file), Bounds(changes=10)
    planned = await statements.write(file, Statement(sql=sql), small, None)
    assert (planned.kept, planned.effects.lost) == (False, lost)
    assert planned.effects.changed >= changed
    assert contents(file) == before
    assert (await statements.write(file, Statement(sql=sql), small, planned.effects)).kept
    assert contents(file) != before


async def test_a_small_write_is_kept_and_returns_its_rows(file: SqliteFile) -> None:
    statement = Statement(
        sql="UPDATE people SET age = age + ? WHERE id < 3 RETURNING id, age", parameters=(1,)
    )
    written = await ProjectStatements().write(file, statement, Bounds(), None)
    assert (written.kept, written.effects.changed) == (True, 2)
    assert sorted(written.rows.rows) == [(1, 2), (2, 3)]


async def test_a_link_on_the_way_to_the_file_is_not_followed(file: SqliteFile, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "data")
    with pytest.raises(Invalid, match="symbolic link"):
        await read(file.change(path=str(tmp_path / "link" / "dev.db")), "SELECT 1")


async def test_figures_name_tables_and_the_size(file: SqliteFile) -> None:
    found = await ProjectFigures().of(file, seconds=5)
    assert found["size_bytes"] > 0
    assert {table["name"]: table["rows"] for table in found["tables"]} == {"people": 30, "pets": 30}
