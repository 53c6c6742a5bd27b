"""Where a database is: as whom an address logs in, and which of a project's databases serves an environment. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import cast, get_args
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr

from mcp_server.domain.databases import ALL, Database, Login, SslMode
from mcp_server.domain.errors import Invalid, NotFound
from mcp_server.domain.teams import EnvironmentName

OWN: tuple[str, ...] = get_args(EnvironmentName)
"""Environments that a project may have a database of its own for; the others share the one for all."""


def serving(databases: Sequence[Database], environment: str, project: str) -> Database:
    """The project's database for this environment, else the one for all: never that of another environment.

    Raises NotFound.
    """
    by_scope = {each.scope: each for each in databases}
    for scope in (environment if environment in OWN else ALL, ALL):
        if scope in by_scope:
            return by_scope[scope]
    there = f"; there is one for {', '.join(sorted(by_scope))}" if by_scope else ""
    raise NotFound(
        f"the project '{project}' has no database for {environment}{there}", next="create_database makes one."
    )


def login_of(url: str) -> Login:
    """Raises Invalid for a text that is no address of PostgreSQL. What the query says goes before the rest."""
    try:
        parts = urlsplit(url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        return Login(
            host=query.get("host") or parts.hostname or "localhost",
            port=int(query.get("port") or parts.port or 5432),
            role=query.get("user") or unquote(parts.username or ""),
            password=SecretStr(query.get("password") or unquote(parts.password or "")),
            database=query.get("dbname") or unquote(parts.path.lstrip("/")),
            ssl=cast(SslMode, query.get("sslmode", "prefer")),
            ours=False,
        )
    except ValueError:
        pass
    # Outside the handler: its error holds the address.
    raise Invalid(
        "the address is not one of PostgreSQL", next="postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    )


def identity_of(engine: str, place: str) -> str:
    """What tells a database that Quaymaster did not make from others."""
    return f"x{hashlib.sha256(f'{engine} {place}'.encode()).hexdigest()[:30]}"
