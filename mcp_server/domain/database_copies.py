# ruff: noqa: S608, ISC004  # names are checked here; lines of a script
"""SQL for copies of a project's database on its own server, for psql as the superuser; and what restores need.

Built here, run elsewhere. A dump is made and restored as the project's role, never as the superuser: what it
contains was written by whoever has that role, and would be run with the superuser's rights.
"""

from __future__ import annotations

from collections.abc import Sequence

from mcp_server.domain.database_setup import IDENTIFIER, Verifiers, extension_lines
from mcp_server.domain.databases import Access

SKIPPED = (" EXTENSION - ", " COMMENT - EXTENSION ", " SCHEMA - public ", " COMMENT - SCHEMA public ")
"""Entries of a dump's contents that belong to the superuser and are there before."""


def scratch_name(id: str) -> str:
    """Where a backup is restored to be proved, and a restore waits to be swapped in."""
    return f"qm_s_{_plain(id)}"


def old_name(id: str) -> str:
    """Where the replaced database stands for the moment of a swap."""
    return f"qm_o_{_plain(id)}"


def scratch(access: Access, name: str, extensions: Sequence[str]) -> str:
    """An empty database of the role's, prepared as its own is."""
    role, reader, new = _quoted(access.role), _quoted(access.reader), _quoted(name)
    return "\n".join(
        [
            r"\set ON_ERROR_STOP on",
            f"DROP DATABASE IF EXISTS {new} WITH (FORCE);",
            f"CREATE DATABASE {new} OWNER {role} TEMPLATE template0;",
            *_rights(role, reader, new),
            *extension_lines([name for name in extensions if name != "plpgsql"]),
            "",
        ]
    )


def dropped_scratch(name: str) -> str:
    return f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE);\n"


def closed(access: Access) -> str:
    """No more sessions on the database, and none left."""
    return (
        f"ALTER DATABASE {_quoted(access.database)} ALLOW_CONNECTIONS false;\n"
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
        f"WHERE datname = '{_plain(access.database)}';\n"
    )


def swapped(access: Access, id: str) -> str:
    """The restored database takes the place of the closed one, in one transaction."""
    name, new, old = _quoted(access.database), _quoted(scratch_name(id)), _quoted(old_name(id))
    return (
        "\\set ON_ERROR_STOP on\n"
        f"SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = '{scratch_name(id)}';\n"
        f"BEGIN; ALTER DATABASE {name} RENAME TO {old}; ALTER DATABASE {new} RENAME TO {name}; COMMIT;\n"
    )


def put_right(access: Access, id: str) -> str:
    """Whatever a swap or a proof that broke off left: the database takes sessions again, the rest goes."""
    return (
        f"ALTER DATABASE {_quoted(access.database)} ALLOW_CONNECTIONS true;\n"
        f"DROP DATABASE IF EXISTS {_quoted(old_name(id))} WITH (FORCE);\n"
        f"DROP DATABASE IF EXISTS {_quoted(scratch_name(id))} WITH (FORCE);\n"
    )


def only_reading(access: Access) -> str:
    """The role's sessions are ended, and new ones begin read-only: a moment to compare in."""
    role = _plain(access.role)
    return (
        f'ALTER ROLE "{role}" SET default_transaction_read_only = on;\n'
        f"SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE usename = '{role}';\n"
    )


def writing_again(access: Access) -> str:
    return f'ALTER ROLE "{_plain(access.role)}" RESET default_transaction_read_only;\n'


def branch_roles(access: Access, verifiers: Verifiers) -> str:
    """The two roles of a branch; they may be there from an attempt that broke off."""
    lines = [r"\set ON_ERROR_STOP on"]
    plain = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    for name, verifier in ((access.role, verifiers.role), (access.reader, verifiers.reader)):
        lines.append(
            f"SELECT 'CREATE ROLE {_quoted(name)}' WHERE NOT EXISTS "
            rf"(SELECT FROM pg_roles WHERE rolname = '{_plain(name)}') \gexec"
        )
        lines.append(f"ALTER ROLE {_quoted(name)} {plain} PASSWORD '{verifier}';")
    lines.append(f"ALTER ROLE {_quoted(access.reader)} SET default_transaction_read_only = on;")
    return "\n".join([*lines, ""])


def branched(source: Access, branch: Access, *, seconds: float) -> str:
    """A copy of the files, and everything in it the branch's own.

    The source is locked against new sessions while it is copied, at most `seconds`; PostgreSQL refuses when
    there are sessions. REASSIGN OWNED takes the role's other databases along: they are given back in the same
    transaction, so that nobody sees it.
    """
    role, reader, name = _quoted(branch.role), _quoted(branch.reader), _quoted(branch.database)
    owner = _quoted(source.role)
    return "\n".join(
        [
            r"\set ON_ERROR_STOP on",
            f"SET statement_timeout = {max(1, round(seconds * 1000))};",
            f"SET lock_timeout = {max(1, round(seconds * 1000))};",
            f"CREATE DATABASE {name} TEMPLATE {_quoted(source.database)} OWNER {owner};",
            "RESET statement_timeout;",
            f"REVOKE ALL ON DATABASE {name} FROM PUBLIC;",
            rf"\connect {branch.database}",
            "BEGIN;",
            "CREATE TEMP TABLE mine AS SELECT datname FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba "
            f"WHERE r.rolname = '{_plain(source.role)}' AND datname <> current_database();",
            f"REASSIGN OWNED BY {owner} TO {role};",
            rf"SELECT format('ALTER DATABASE %I OWNER TO %I', datname, '{_plain(source.role)}') FROM mine \gexec",
            f"ALTER DATABASE {name} OWNER TO {role};",
            "COMMIT;",
            f"GRANT CONNECT ON DATABASE {name} TO {reader};",
            *_inner_rights(role, reader),
            *_readable(reader),
            "",
        ]
    )


def copied(source: Access, branch: Access) -> str:
    """A shell's script inside the server's container that fills the branch's empty database from a dump."""
    dump = f"/tmp/{_plain(branch.database)}.dump"  # noqa: S108  # inside the container
    skipped = "|".join(mark.rstrip() for mark in SKIPPED)
    return (
        f"set -e; umask 077; trap 'rm -f {dump} {dump}.list' EXIT; "
        f"pg_dump -Fc -Z1 -w -U {_plain(source.role)} -d {_plain(source.database)} -f {dump}; "
        f"pg_restore -l {dump} | grep -v -E '{skipped}' > {dump}.list; "
        f"pg_restore -1 -e -w --no-owner --no-privileges -U {_plain(branch.role)} -d {_plain(branch.database)} "
        f"-L {dump}.list {dump}"
    )


def branch_dropped(access: Access) -> str:
    return (
        f"DROP DATABASE IF EXISTS {_quoted(access.database)} WITH (FORCE);\n"
        f"DROP ROLE IF EXISTS {_quoted(access.reader)};\n"
        f"DROP ROLE IF EXISTS {_quoted(access.role)};\n"
    )


def restorable(contents: str) -> str:
    """Of a dump's table of contents the entries that the role itself may restore."""
    kept = [
        line
        for line in contents.splitlines()
        if line and not line.startswith(";") and not any(mark in f"{line} " for mark in SKIPPED)
    ]
    return "\n".join([*kept, ""])


def _rights(role: str, reader: str, name: str) -> list[str]:
    return [
        f"REVOKE ALL ON DATABASE {name} FROM PUBLIC;",
        f"GRANT CONNECT ON DATABASE {name} TO {reader};",
        rf"\connect {name}",
        *_inner_rights(role, reader),
    ]


def _inner_rights(role: str, reader: str) -> list[str]:
    return [
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC;",
        f"GRANT CREATE, USAGE ON SCHEMA public TO {role};",
        f"GRANT USAGE ON SCHEMA public TO {reader};",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {role} GRANT SELECT ON TABLES TO {reader};",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {role} GRANT SELECT ON SEQUENCES TO {reader};",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {role} GRANT USAGE ON SCHEMAS TO {reader};",
    ]


def _readable(reader: str) -> list[str]:
    """For what is there already, in every schema of the project's."""
    schemas = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
    return [
        rf"SELECT format('GRANT USAGE ON SCHEMA %I TO {reader}', nspname) FROM ({schemas}) s \gexec",
        rf"SELECT format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO {reader}', nspname) FROM ({schemas}) s \gexec",
        rf"SELECT format('GRANT SELECT ON ALL SEQUENCES IN SCHEMA %I TO {reader}', nspname) FROM ({schemas}) s \gexec",
    ]


def _plain(name: str) -> str:
    if not IDENTIFIER.fullmatch(name):
        raise ValueError("not a name of ours")
    return name


def _quoted(name: str) -> str:
    return f'"{_plain(name)}"'
