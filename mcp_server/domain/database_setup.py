"""SQL that prepares a project's database, for psql as the superuser over the server's socket.

Built here, run elsewhere. It takes SCRAM verifiers, never passwords, and may be run again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from mcp_server.domain.databases import Access

IDENTIFIER = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
VERIFIER = re.compile(r"SCRAM-SHA-256\$[0-9]+:[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+")


class Verifiers(NamedTuple):
    """What the server keeps of the two passwords."""

    role: str
    reader: str


def set_up(
    access: Access, verifiers: Verifiers, *, extensions: Sequence[str] = (), connections: int = -1
) -> str:
    """Roles, database and rights. On data that were there before, the passwords are set anew and nobody's
    tables change.

    The reader may read what the role makes, in every schema, and begins every transaction read-only. Others
    may not connect. `connections`: most at a time of each role, -1 without a bound.
    """
    role, reader, name = _quoted(access.role), _quoted(access.reader), _quoted(access.database)
    plain = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    return "\n".join(
        [
            r"\set ON_ERROR_STOP on",
            _made_once("pg_roles", "rolname", access.role, f"CREATE ROLE {role}"),
            _made_once("pg_roles", "rolname", access.reader, f"CREATE ROLE {reader}"),
            f"ALTER ROLE {role} {plain} CONNECTION LIMIT {connections} PASSWORD {_literal(verifiers.role)};",
            f"ALTER ROLE {reader} {plain} CONNECTION LIMIT {connections} PASSWORD {_literal(verifiers.reader)};",
            f"ALTER ROLE {reader} SET default_transaction_read_only = on;",
            _made_once("pg_database", "datname", access.database, f"CREATE DATABASE {name} OWNER {role}"),
            f"REVOKE ALL ON DATABASE {name} FROM PUBLIC;",
            f"GRANT CONNECT ON DATABASE {name} TO {reader};",
            rf"\connect {name}",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC;",
            f"GRANT USAGE ON SCHEMA public TO {reader};",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader};",
            f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {reader};",
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {role} GRANT SELECT ON TABLES TO {reader};",
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {role} GRANT SELECT ON SEQUENCES TO {reader};",
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {role} GRANT USAGE ON SCHEMAS TO {reader};",
            *extension_lines(extensions),
            "",
        ]
    )


def extension_lines(extensions: Sequence[str]) -> list[str]:
    """What makes extensions in the database that is connected."""
    return [f"CREATE EXTENSION IF NOT EXISTS {_quoted(name)} CASCADE;" for name in extensions]


def passwords(access: Access, verifiers: Verifiers) -> str:
    """Both passwords anew, together or not at all. Sessions go on."""
    return (
        f"BEGIN; ALTER ROLE {_quoted(access.role)} PASSWORD {_literal(verifiers.role)}; "
        f"ALTER ROLE {_quoted(access.reader)} PASSWORD {_literal(verifiers.reader)}; COMMIT;\n"
    )


def closed_doors() -> str:
    """On a server of many projects: nobody but the superuser reaches the databases that belong to none."""
    return "REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;\n"


def opened(access: Access, open_: bool) -> str:
    """Let a database on a shared server take connections, or end those that it has and take no more."""
    name = _quoted(access.database)
    if open_:
        return f"ALTER DATABASE {name} ALLOW_CONNECTIONS true;\n"
    return (
        f"ALTER DATABASE {name} ALLOW_CONNECTIONS false;\n"
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        f"WHERE datname = {_literal(access.database)};\n"
    )


def dropped(access: Access) -> str:
    """The database and its roles, if they are there."""
    return (
        f"DROP DATABASE IF EXISTS {_quoted(access.database)} WITH (FORCE);\n"
        f"DROP ROLE IF EXISTS {_quoted(access.reader)};\n"
        f"DROP ROLE IF EXISTS {_quoted(access.role)};\n"
    )


def _made_once(catalogue: str, column: str, name: str, statement: str) -> str:
    missing = rf"NOT EXISTS (SELECT FROM {catalogue} WHERE {column} = {_literal(name)}) \gexec"
    return f"SELECT {_literal(statement)} WHERE {missing}"  # every part is quoted here


def _quoted(name: str) -> str:
    if not IDENTIFIER.fullmatch(name):
        raise ValueError("not a name of ours")
    return f'"{name}"'


def _literal(text: str) -> str:
    if "\\" in text or "\x00" in text:
        raise ValueError("not a text of ours")
    return "'" + text.replace("'", "''") + "'"
