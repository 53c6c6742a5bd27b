"""Names of databases, the variables that hold their URLs, and what a URL says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal
from urllib.parse import unquote, urlsplit

from mcp_server.databases.errors import DatabasesSetupError

Engine = Literal["postgres", "sqlite"]
_VARIABLE = re.compile(r"RDS_([A-Z0-9][A-Z0-9_]*)_URL")


def variable_of(name: str) -> str:
    """`userDb`, `user-db` and `user_db` -> `RDS_USER_DB_URL`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return f"RDS_{re.sub(r'[^A-Z0-9]', '_', words.upper())}_URL"


def urls_from(environ: Mapping[str, str], names: Iterable[str] | None = None) -> dict[str, str]:
    """The URL of each name, from its variable; without names, of every `RDS_*_URL` that is set.

    Raises DatabasesSetupError when a variable is missing, or when two names give the same one.
    """
    if names is None:
        found = ((_VARIABLE.fullmatch(variable), url) for variable, url in sorted(environ.items()))
        return {match[1].lower(): url for match, url in found if match is not None and url}
    return {name: _required(environ, variable) for name, variable in _variables(names).items()}


def engine_of(url: str) -> Engine:
    """Raises DatabasesSetupError for a scheme that no driver here speaks."""
    scheme = url.partition(":")[0].lower()
    if scheme in ("postgres", "postgresql"):
        return "postgres"
    if scheme in ("sqlite", "file"):
        return "sqlite"
    raise DatabasesSetupError("a URL must begin with postgresql:, sqlite: or file:")


def sqlite_path(url: str) -> str:
    """`file:/data/a.db`, `file:a.db`, `sqlite:///a.db` (relative), `sqlite:////data/a.db`, `:memory:`."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return unquote(url.partition("://")[2].partition("?")[0].removeprefix("/")) or ":memory:"
    if parts.netloc not in ("", "localhost"):
        raise DatabasesSetupError("a file: URL must name a file of this machine")
    return unquote(parts.path)


def _variables(names: Iterable[str]) -> dict[str, str]:
    variables: dict[str, str] = {}
    for name in names:
        variable = variable_of(name)
        for other, taken in variables.items():
            if taken == variable and other != name:
                raise DatabasesSetupError(f"{other!r} and {name!r} both read {variable}; rename one")
        variables[name] = variable
    return variables


def _required(environ: Mapping[str, str], variable: str) -> str:
    if not environ.get(variable):
        raise DatabasesSetupError(f"{variable} is not set")
    return environ[variable]
