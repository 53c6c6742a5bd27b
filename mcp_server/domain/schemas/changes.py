"""The statements that turn one database into another, from their catalogs.

What cannot be said in statements is not left out in silence: the caller runs the script on a scratch database and
compares catalogs afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

from mcp_server.domain.schemas.catalogs import Catalog
from mcp_server.domain.schemas.losses import Loss
from mcp_server.domain.schemas.postgres_changes import postgres_changes
from mcp_server.domain.schemas.sqlite_changes import sqlite_changes


class Changes(NamedTuple):
    """`losses` are data that would be gone or might be refused."""

    statements: tuple[str, ...]
    losses: tuple[Loss, ...]

    @property
    def script(self) -> str:
        return "".join(f"{each};\n" for each in self.statements)


def changes(start: Catalog, goal: Catalog) -> Changes:
    write = sqlite_changes if goal.engine == "sqlite" else postgres_changes
    statements, losses = write(start, goal)
    return Changes(tuple(statements), tuple(losses))
