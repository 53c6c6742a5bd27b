"""Which type a SQLite column gets, and what is refused because PostgreSQL could not keep it whole."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mcp_server.adapters.project_sql.promotion import SqliteToPostgres
from mcp_server.domain.typemap import Mapping, SqliteColumn, mapping, type_of


def column(declared: str, *held: str, forms: tuple[str, ...] = ()) -> SqliteColumn:
    return SqliteColumn.model_validate({"name": "a", "declared": declared, "held": held, "forms": forms})


async def mapped(tmp_path: Path, *statements: str) -> Mapping:
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return mapping(await SqliteToPostgres().schema(str(path)))


@pytest.mark.parametrize(
    ("it", "expected"),
    [
        (column("INTEGER", "integer"), "bigint"),
        (column("INTEGER"), "bigint"),
        (column("BOOLEAN", "integer", forms=("bit",)), "boolean"),
        (column("BOOLEAN", "integer"), "bigint"),
        (column("INTEGER", "integer", "text"), None),
        (column("REAL", "real", "null"), "double precision"),
        (column("REAL", "real", forms=("infinite",)), None),
        (column("DECIMAL(10,2)", "integer", "real"), "numeric"),
        (column("MONEY", "integer", "real"), None),
        (column("", "integer"), "bigint"),
        (column("", "blob"), "bytea"),
        (column("BLOB", "text"), "text"),
        (column("VARCHAR(5)", "text"), "text"),
        (column("TEXT", "text", forms=("nul",)), None),
        (column("TEXT", "text", forms=("date", "json")), "text"),
        (column("DATE", "text", forms=("date",)), "date"),
        (column("DATETIME", "text", forms=("timestamp",)), "timestamp"),
        (column("DATETIME", "text"), "text"),
        (column("DATETIME", "integer"), "bigint"),
        (column("TIMESTAMP", "text", forms=("timestamptz",)), "timestamptz"),
        (column("JSON", "text", forms=("json",)), "json"),
        (column("JSON", "text"), "text"),
    ],
)
def test_a_column_gets_a_type_that_keeps_every_value(it: SqliteColumn, expected: str | None) -> None:
    assert type_of(it) == expected


@pytest.mark.parametrize(
    ("statements", "reason"),
    [
        (["CREATE TABLE t (a INT CHECK (a > 0))"], "table t: it has a CHECK"),
        (["CREATE TABLE t (a TEXT COLLATE NOCASE)"], "table t: it compares text by another collation"),
        (["CREATE TABLE t (a INT, b INT AS (a + 1))"], "table t: the column b is generated"),
        (["CREATE TABLE t (a INT)", "CREATE INDEX i ON t (a) WHERE a > 0"], "the index i is on an expression"),
        (["CREATE TABLE t (a INT)", "CREATE INDEX i ON t (a + 1)"], "the index i is on an expression"),
        (["CREATE TABLE t (a INT)", "CREATE VIEW v AS SELECT 1"], "view v"),
        (["CREATE TABLE t (a INT)", "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END"], "trigger g"),
        (["CREATE TABLE t (a INT)", "INSERT INTO t VALUES ('x'), (1)"], "the column a (INT) holds values of integer, text"),
        (["CREATE TABLE t (a TEXT)", "INSERT INTO t VALUES ('x' || char(0))"], "no UTF-8 or has NUL"),
        (["CREATE TABLE t (a TEXT)", "INSERT INTO t VALUES (CAST(x'ff' AS TEXT))"], "no UTF-8 or has NUL"),
        (["CREATE TABLE t (a TEXT PRIMARY KEY)", "INSERT INTO t VALUES (NULL)"], "primary key holds NULL"),
        (["CREATE TABLE t (a INT DEFAULT (random()))"], "has a default that only SQLite can read"),
        (["CREATE TABLE t (a INT REFERENCES gone)"], "leads to gone, which is not there"),
        (["CREATE TABLE p (a INT)", "CREATE TABLE t (a INT REFERENCES p (a))"], "columns of p that are not unique"),
        (["CREATE TABLE p (a TEXT PRIMARY KEY)", "CREATE TABLE t (a INT REFERENCES p)"], "columns of different types"),
        (["CREATE VIRTUAL TABLE t USING fts5(a)"], "it is virtual"),
        ([f"CREATE TABLE {'t' * 64} (a INT)"], "longer than 63 bytes"),
        (["CREATE TABLE t (a REAL)", "INSERT INTO t VALUES (9e999)"], "holds values of real"),
    ],
)  # fmt: skip
async def test_what_would_lose_something_is_named_and_nothing_comes(
    tmp_path: Path, statements: list[str], reason: str
) -> None:
    found = await mapped(tmp_path, *statements)
    assert found.tables == ()
    assert any(reason in line for line in found.refused), found.refused


async def test_names_strings_and_comments_are_no_keywords(tmp_path: Path) -> None:
    found = await mapped(
        tmp_path,
        """CREATE TABLE "check" ("collate" TEXT DEFAULT 'ON CONFLICT' /* CHECK (x) */, [conflict] INT)""",
    )
    assert found.refused == ()
    assert found.tables[0].create == (
        """CREATE TABLE "check" ("collate" text DEFAULT 'ON CONFLICT', "conflict" bigint)"""
    )


async def test_keys_indexes_and_numbers_are_written_for_postgresql(tmp_path: Path) -> None:
    found = await mapped(
        tmp_path,
        "CREATE TABLE p (id INTEGER PRIMARY KEY AUTOINCREMENT, n TEXT UNIQUE NOT NULL, at DATETIME DEFAULT CURRENT_TIMESTAMP)",
        "CREATE TABLE c (p INT REFERENCES p ON DELETE CASCADE, k TEXT, PRIMARY KEY (k, p)) WITHOUT ROWID",
        "CREATE INDEX i ON c (p DESC, k)",
    )
    child, parent = found.tables
    assert parent.create == (
        'CREATE TABLE "p" ("id" bigint GENERATED BY DEFAULT AS IDENTITY NOT NULL, "n" text NOT NULL, '
        "\"at\" timestamp DEFAULT (now() AT TIME ZONE 'utc'))"
    )
    assert parent.finish[:2] == ('ALTER TABLE "p" ADD PRIMARY KEY ("id")', 'ALTER TABLE "p" ADD UNIQUE ("n")')
    assert "setval" in parent.finish[2]
    assert child.finish == (
        'ALTER TABLE "c" ADD PRIMARY KEY ("k", "p")', 'CREATE INDEX "i" ON "c" ("p" DESC, "k")',
    )  # fmt: skip
    assert child.link == (
        'ALTER TABLE "c" ADD FOREIGN KEY ("p") REFERENCES "p" ("id") ON UPDATE NO ACTION ON DELETE CASCADE',
    )
