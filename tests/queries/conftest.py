"""A project's database as the product prepares it, on a real server: its role, its reader, some tables."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from mcp_server.domain.databases import Login
from mcp_server.domain.queries import SqliteFile
from tests.services.loops import run_apart
from tests.services.postgres import PASSWORD, PostgresServer

TABLES = """
CREATE TABLE people (id SERIAL PRIMARY KEY, name TEXT NOT NULL UNIQUE, age INT, joined TIMESTAMPTZ);
CREATE TABLE pets (id SERIAL PRIMARY KEY, person INT REFERENCES people ON DELETE CASCADE, name TEXT);
INSERT INTO people (name, age) SELECT 'p' || n, n FROM generate_series(1, 30) n;
INSERT INTO pets (person, name) SELECT id, 'pet of ' || name FROM people;
CREATE SEQUENCE counter;
CREATE FUNCTION sneak() RETURNS INT LANGUAGE plpgsql SECURITY DEFINER VOLATILE AS
  $$ BEGIN DELETE FROM pets; RETURN 1; END $$;
CREATE FUNCTION sneak_stable() RETURNS INT LANGUAGE plpgsql SECURITY DEFINER STABLE AS
  $$ BEGIN EXECUTE 'SET LOCAL transaction_read_only TO off'; PERFORM sneak(); RETURN 1; END $$;
CREATE PROCEDURE escape() LANGUAGE plpgsql AS
  $$ BEGIN COMMIT; SET TRANSACTION READ WRITE; DELETE FROM pets; COMMIT; END $$;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA public TO PUBLIC;
"""
SQLITE_TABLES = """
CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, age INT);
CREATE TABLE pets (id INTEGER PRIMARY KEY, person INT REFERENCES people ON DELETE CASCADE, name TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30)
  INSERT INTO people (name, age) SELECT 'p' || i, i FROM n;
INSERT INTO pets (person, name) SELECT id, 'pet of ' || name FROM people;
"""
FINGERPRINT = """
SELECT concat_ws('|',
  (SELECT string_agg(t::TEXT, ',' ORDER BY id) FROM people t),
  (SELECT string_agg(t::TEXT, ',' ORDER BY id) FROM pets t),
  (SELECT last_value::TEXT || is_called FROM counter),
  (SELECT string_agg(relname || relfilenode, ',' ORDER BY oid) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace),
  (SELECT count(*) FROM pg_largeobject_metadata),
  (SELECT string_agg(rolname || coalesce(rolpassword, '') || rolsuper, ',' ORDER BY oid) FROM pg_authid),
  (SELECT string_agg(datname || coalesce(datacl::TEXT, ''), ',' ORDER BY datname) FROM pg_database),
  (SELECT string_agg(setconfig::TEXT, ',' ORDER BY setdatabase, setrole) FROM pg_db_role_setting),
  (SELECT count(*) FROM pg_proc), (SELECT count(*) FROM pg_prepared_xacts))
"""
"""Everything that a statement could have changed, as far as tests can name it, seen by a superuser."""


@dataclass
class Prepared:
    """The two logins of one database, and the superuser's eye on it."""

    server: PostgresServer
    name: str
    owner: Login
    reader: Login

    def asked(self, sql: str) -> object:
        return self.server.run_as_admin(sql, database=self.name)

    def fingerprint(self) -> str:
        return str(self.asked(FINGERPRINT))


def script(server: PostgresServer, database: str, sql: str) -> None:
    """Many statements as the superuser."""

    async def run() -> None:
        connection = await asyncpg.connect(server.url_of(database, role="postgres"), timeout=10)
        try:
            await connection.execute(sql, timeout=30)
        finally:
            await connection.close(timeout=5)

    run_apart(run())


@pytest.fixture
def prepared(postgres: PostgresServer) -> Iterator[Prepared]:
    name = f"q_{uuid.uuid4().hex[:12]}"
    owner, reader = f"{name}_app", f"{name}_reader"
    admin = postgres.run_as_admin
    for role in (owner, reader):
        admin(f"CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '{PASSWORD}'")
    admin(f"ALTER ROLE {reader} SET default_transaction_read_only = on")
    admin(f"CREATE DATABASE {name} OWNER {owner}")
    admin(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
    admin(f"GRANT CONNECT ON DATABASE {name} TO {reader}")
    script(
        postgres,
        name,
        f"GRANT USAGE ON SCHEMA public TO {reader};"
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON TABLES TO {reader};"
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT ON SEQUENCES TO {reader};"
        f"SET ROLE {owner};{TABLES}",
    )
    common = {"host": "127.0.0.1", "port": postgres.port, "database": name, "password": SecretStr(PASSWORD)}
    yield Prepared(postgres, name, Login(role=owner, **common), Login(role=reader, **common))
    admin(f"DROP DATABASE {name} WITH (FORCE)")
    for role in (owner, reader):
        admin(f"DROP ROLE {role}")


@pytest.fixture
def file(tmp_path: Path) -> SqliteFile:
    import sqlite3

    path = tmp_path / "data" / "dev.db"
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(SQLITE_TABLES)
    connection.close()
    return SqliteFile(root=str(tmp_path), path=str(path))
