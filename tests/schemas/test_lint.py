"""Dangerous statements are named with their line; harmless ones are not."""

import pytest

from mcp_server.domain.schemas.lint import lint


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("DROP TABLE users", "drop-table"),
        ("ALTER TABLE users DROP COLUMN name", "drop-column"),
        ("ALTER TABLE users ALTER COLUMN id TYPE bigint", "rewrite"),
        ("ALTER TABLE users ADD COLUMN age int NOT NULL", "not-null-without-default"),
        ("ALTER TABLE users ALTER COLUMN age SET NOT NULL", "set-not-null"),
        ("CREATE INDEX i ON users (name)", "missing-concurrently"),
        ("DROP INDEX i", "missing-concurrently"),
        ("ALTER TABLE users ADD CONSTRAINT c CHECK (age > 0)", "constraint-not-valid"),
        ("DELETE FROM users", "delete-all"),
    ],
)
def test_a_dangerous_statement_is_named(sql, rule):
    assert [(each.line, each.rule) for each in lint(f"SELECT 1;\n{sql};", "postgres")] == [(2, rule)]


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE t (id int NOT NULL); CREATE INDEX i ON t (id); ALTER TABLE t ADD COLUMN a int NOT NULL;",
        "CREATE INDEX CONCURRENTLY i ON users (name);",
        "ALTER TABLE users ADD COLUMN age int NOT NULL DEFAULT 0;",
        "ALTER TABLE users ADD CONSTRAINT c CHECK (age > 0) NOT VALID;",
        "DELETE FROM users WHERE id = 1;",
        "-- lint: allow, nobody reads it\nDROP TABLE users;",
        "SELECT 'DROP TABLE users';",
    ],
)
def test_a_harmless_statement_is_not(sql):
    assert lint(sql, "postgres") == ()
