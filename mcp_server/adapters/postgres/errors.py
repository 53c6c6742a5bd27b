"""The driver's errors, told once in our words.

    Outage        nobody answered, or PostgreSQL said that it is going away: the breaker's business
    Unavailable   it answered, and asks for patience: out of resources
    Busy          the same, for one statement that waited too long: locked, cancelled, undone
    Invalid       a setting is wrong (password, database, rights), or a value cannot be stored
    Conflict      something that must be unique is taken, or a parent is gone

A command that timed out is none of these yet: whoever holds the pool asks on a fresh connection first.
"""

from __future__ import annotations

import ssl

import asyncpg

from mcp_server.domain.errors import Busy, Conflict, Invalid, Unavailable
from mcp_server.ports.mirror import Outage

DRIVER = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""All that the driver raises. Its internal error is what a statement meets on a connection that the server has
just ended, between the farewell and the end of the stream."""

_RETRIED = frozenset({"40001", "40P01"})

_AWAY = frozenset({"25006", "57P01", "57P02", "57P03"})
_SCHEMA_GONE = frozenset({"3F000", "42P01"})
_PATIENCE = frozenset({"55P03", "57014"}) | _RETRIED
_SETTINGS_NEXT = "Check QUAYMASTER_DATABASE_URL or QUAYMASTER_DB_*, and the rights of its role."


def may_succeed_again(error: asyncpg.PostgresError) -> bool:
    """A serialisation failure, a deadlock, a statement prepared before a migration: nothing has happened."""
    return error.sqlstate in _RETRIED or isinstance(error, asyncpg.InvalidCachedStatementError)


def translated(error: BaseException) -> Exception | None:
    """What the caller should hear instead of `error`; None for what is not the driver's, or a defect of
    ours."""
    if isinstance(error, asyncpg.InvalidCachedStatementError):
        return Unavailable("PostgreSQL's schema was changed meanwhile")
    if isinstance(error, asyncpg.PostgresError):
        return _from_state(error, error.sqlstate or "")
    if isinstance(error, ssl.SSLCertVerificationError):
        return setting("PostgreSQL's certificate was not accepted")
    if isinstance(error, asyncpg.ClientConfigurationError):
        return setting("PostgreSQL's address is not one")
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        return Outage(f"PostgreSQL cannot be reached ({type(error).__name__})")
    if isinstance(error, asyncpg.InternalClientError) or _is_closed(error):
        return Outage("the connection to PostgreSQL broke")
    if isinstance(error, asyncpg.exceptions.DataError | asyncpg.exceptions._base.DataError):
        return Invalid(
            "a value cannot be stored", next="Remove control characters and lone surrogates, or shorten it."
        )
    return None


def _from_state(error: asyncpg.PostgresError, state: str) -> Exception | None:
    kind = state[:2]
    if kind == "08" or state in _AWAY:
        return Outage(f"PostgreSQL is away (SQLSTATE {state})")
    if state in _SCHEMA_GONE:
        return Outage("PostgreSQL has no schema of Quaymaster any more")
    if state in _PATIENCE:
        return Busy(f"PostgreSQL is busy (SQLSTATE {state})")
    if kind == "53":
        return Unavailable(f"PostgreSQL is busy (SQLSTATE {state})")
    if kind == "28":
        return setting("PostgreSQL refused the user name or password")
    if state == "3D000":
        return setting("PostgreSQL has no database of that name")
    if state == "42501":
        return setting("PostgreSQL's role may not do what the server needs")
    if state == "23505":
        return Conflict(
            f"what must be unique is taken ({error.constraint_name})", constraint=error.constraint_name
        )
    if state == "23503":
        return Conflict(f"a parent is gone ({error.constraint_name})", constraint=error.constraint_name)
    if kind == "22" or state in {"23514", "23502", "54000"}:
        return Invalid("a value cannot be stored", next="Remove control characters, or shorten it.")
    return None


def setting(message: str) -> Invalid:
    """A setting that the operator has to correct."""
    return Invalid(message, next=_SETTINGS_NEXT)


def _is_closed(error: BaseException) -> bool:
    """The driver reports the use of a dead connection, and of a pool of dead ones, as misuse of its
    interface."""
    return isinstance(error, asyncpg.InterfaceError) and "clos" in str(error)
