"""A database as a folder: its name, its settings, its migrations, and the variable that holds its address."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from mcp_server.domain.errors import Invalid
from mcp_server.domain.records import Value
from mcp_server.domain.schemas.statements import Engine

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
FOLDER = re.compile(r"(?P<version>[0-9]{1,18})_(?P<name>[^\W_][\w-]{0,99})")
LONGEST_NAME = 200
"""Bytes of a migration's folder that file systems take for sure."""
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
Refusable = Literal["reset", "push"]


class Production(Value):
    """What a production environment allows although it is refused there otherwise."""

    allow: tuple[Refusable, ...] = ()


class FolderSettings(Value):
    """`database.toml`. Times in seconds. Of PostgreSQL only `schemas` are looked at; none named: all of them.

    `project` names the project whose database this is, where no variable holds an address. `alembic` is the
    directory of an alembic.ini that lies elsewhere, `python` the interpreter for it, both from the root.
    """

    engine: Engine | None = None
    variable: str | None = Field(default=None, pattern=VARIABLE.pattern)
    schemas: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    project: str | None = None
    alembic: str | None = None
    python: str | None = None
    lock_timeout: float = Field(default=5.0, gt=0)
    statement_timeout: float = Field(default=60.0, ge=0)
    lock_wait: float = Field(default=30.0, ge=0)
    production: Production = Production()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.project is not None and self.variable is not None:
            raise ValueError("'project' and 'variable' both say where the database is; keep one")
        if self.engine == "sqlite" and (self.schemas or self.extensions):
            raise ValueError("a SQLite database has no schemas and no extensions")
        return self


class Migration(NamedTuple):
    """One folder below `migrations/`. `up` and `down` are text with plain newlines; `down` is None without file.

    The checksum is of the text, so that another platform's line ends change nothing.
    """

    version: str
    name: str
    up: str
    down: str | None
    folder: str

    @property
    def label(self) -> str:
        return f"{self.version}_{self.name}"

    @property
    def order(self) -> int:
        return int(self.version)

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.up.encode()).hexdigest()


class Folder(NamedTuple):
    """A database of the code base. `alembic` is the directory of its alembic.ini, where it has one."""

    name: str
    path: Path
    settings: FolderSettings
    alembic: Path | None = None

    @property
    def variable(self) -> str:
        return self.settings.variable or variable_of(self.name)


def variable_of(name: str) -> str:
    """`userDb`, `user-db` and `user_db` are all read from RDS_USER_DB_URL."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_")
    return f"RDS_{words.upper()}_URL"


def require_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise Invalid.field(
            "database", "a letter, then letters, digits, hyphens or underscores; 63 characters at most"
        )
    return name


def require_distinct(folders: Iterable[Folder]) -> None:
    """Raises Invalid for two databases whose addresses would come from one variable."""
    seen: dict[str, str] = {}
    for folder in folders:
        other = seen.setdefault(folder.variable, folder.name)
        if other != folder.name:
            raise Invalid(
                f"the databases '{other}' and '{folder.name}' would both be read from {folder.variable}",
                next="Rename one of the folders, or set 'variable' in its database.toml.",
            )


def require_versions(migrations: Sequence[Migration], where: str) -> tuple[Migration, ...]:
    """The migrations in their order. Raises Invalid for two with one version."""
    ordered = tuple(sorted(migrations, key=lambda each: each.order))
    for one, two in pairwise(ordered):
        if one.order == two.order:
            raise Invalid(f"{where}: {one.label} and {two.label} have the same version")
    return ordered
