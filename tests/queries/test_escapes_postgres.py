"""Statements that try to leave a read-only call change nothing, without any filter on their text."""

from __future__ import annotations

import contextlib

import pytest

from mcp_server.adapters.project_sql.statements import ProjectStatements
from mcp_server.domain.errors import QuaymasterError
from mcp_server.domain.queries import Bounds, Statement
from tests.queries.conftest import Prepared

ESCAPES = [
    "DELETE FROM pets",
    "INSERT INTO people (name) VALUES ('x') RETURNING id",
    "UPDATE people SET age = 0",
    "TRUNCATE pets",
    "DROP TABLE pets",
    "CREATE TABLE loot (a INT)",
    "CREATE TEMP TABLE loot (a INT)",
    "SELECT * INTO loot FROM people",
    "ALTER TABLE people ADD COLUMN x INT",
    "CREATE OR REPLACE FUNCTION sneak() RETURNS INT LANGUAGE sql AS 'SELECT 2'",
    "COMMIT",
    "COMMIT; DELETE FROM pets",
    "ROLLBACK; BEGIN READ WRITE; DELETE FROM pets; COMMIT",
    "SELECT 1; DELETE FROM pets",
    "COMMIT AND CHAIN",
    "BEGIN READ WRITE",
    "SET TRANSACTION READ WRITE",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "SET default_transaction_read_only = off",
    "RESET ALL",
    "DISCARD ALL",
    "DO $$ BEGIN DELETE FROM pets; END $$",
    "DO $$ BEGIN SET TRANSACTION READ WRITE; DELETE FROM pets; END $$",
    "DO $$ BEGIN COMMIT; DELETE FROM pets; COMMIT; END $$",
    "CALL escape()",
    "SELECT sneak()",
    "SELECT sneak_stable()",
    "SELECT set_config('transaction_read_only', 'off', true), sneak()",
    "SELECT set_config('default_transaction_read_only', 'off', false)",
    "SELECT set_config('role', 'postgres', false)",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "WITH gone AS (DELETE FROM pets RETURNING *) SELECT count(*) FROM gone",
    "WITH a AS (INSERT INTO people (name) VALUES ('x') RETURNING id) SELECT * FROM a",
    "EXPLAIN ANALYZE DELETE FROM pets",
    "EXPLAIN (ANALYZE, FORMAT JSON) UPDATE people SET age = 0",
    "SELECT nextval('counter')",
    "SELECT setval('counter', 99)",
    "SELECT nextval('people_id_seq')",
    "COPY people TO PROGRAM 'touch /tmp/quaymaster-escape'",
    "COPY people TO '/tmp/quaymaster-escape'",
    "COPY people FROM PROGRAM 'echo 1'",
    "COPY people (name) FROM STDIN",
    "COPY people TO STDOUT",
    "SELECT lo_create(4711)",
    "SELECT lo_from_bytea(4711, 'x')",
    "SELECT lo_import('/etc/hostname')",
    "SELECT lo_export(1, '/tmp/quaymaster-escape')",
    "SELECT lo_unlink(loid) FROM pg_largeobject",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
    "SELECT pg_reload_conf()",
    "SELECT pg_notify('x', 'y')",
    "SELECT dblink_exec('dbname=postgres', 'DELETE FROM pets')",
    "CREATE EXTENSION dblink",
    "CREATE EXTENSION file_fdw",
    "LOAD 'auto_explain'",
    "PREPARE p AS DELETE FROM pets",
    "EXECUTE p",
    "DEALLOCATE ALL",
    "PREPARE TRANSACTION 'x'",
    "DECLARE c CURSOR WITH HOLD FOR DELETE FROM pets RETURNING 1",
    "-- a comment\nDELETE FROM pets",
    "/* SELECT */ DELETE FROM pets -- SELECT",
    "SELECT $$ ; DELETE FROM pets; $$; DELETE FROM pets",
    "SELECT $a$;$a$ UNION ALL SELECT 'x' FROM (DELETE FROM pets RETURNING 1) q",
    "SELECT E'\\'; DELETE FROM pets; --'",
    "SELECT 1 FOR UPDATE",
    "SELECT * FROM people FOR UPDATE",
    "LOCK TABLE people",
    "VACUUM people",
    "ANALYZE people",
    "REINDEX TABLE people",
    "CLUSTER people",
    "ALTER ROLE CURRENT_USER PASSWORD 'taken'",
    "ALTER ROLE CURRENT_USER SET default_transaction_read_only = off",
    "ALTER SYSTEM SET work_mem = '1MB'",
    "ALTER DATABASE postgres SET work_mem = '1MB'",
    "GRANT ALL ON people TO PUBLIC",
    "REASSIGN OWNED BY CURRENT_USER TO postgres",
    "SECURITY LABEL ON TABLE people IS 'x'",
    "COMMENT ON TABLE people IS 'x'",
    "IMPORT FOREIGN SCHEMA public FROM SERVER s INTO public",
    "NOTIFY x",
    "LISTEN x",
    "",
    ";",
    ";;DELETE FROM pets",
]


async def test_no_statement_changes_anything_through_a_read(prepared: Prepared) -> None:
    before, pets = prepared.fingerprint(), prepared.asked("SELECT count(*) FROM pets")
    statements = ProjectStatements()
    for sql in ESCAPES:
        with contextlib.suppress(QuaymasterError):
            await statements.read(prepared.reader, Statement(sql=sql), Bounds(seconds=5))
        assert prepared.asked("SELECT count(*) FROM pets") == pets, sql
        assert prepared.fingerprint() == before, sql


async def test_the_read_only_transaction_holds_even_for_the_owner(prepared: Prepared) -> None:
    """The role and the transaction are two walls: either is enough for whatever writes tables."""
    before = prepared.fingerprint()
    statements = ProjectStatements()
    for sql in ESCAPES:
        if "PASSWORD" in sql or "ALTER ROLE" in sql:
            continue
        with contextlib.suppress(QuaymasterError):
            await statements.read(prepared.owner, Statement(sql=sql), Bounds(seconds=5))
        assert prepared.fingerprint() == before, sql


@pytest.mark.parametrize("sql", ["DELETE FROM pets", "SELECT sneak()"])
async def test_the_same_statements_do_change_the_database_when_they_are_written(
    prepared: Prepared, sql: str
) -> None:
    """Liveness: what the suite holds back would have had an effect."""
    written = await ProjectStatements().write(prepared.owner, Statement(sql=sql), Bounds(), None)
    assert written.kept
    assert written.effects.changed == 30
    assert prepared.asked("SELECT count(*) FROM pets") == 0
