"""One statement on a project's database, so that it can do no more than it was allowed to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from mcp_server.domain.databases import Login
from mcp_server.domain.queries import Bounds, Effects, Rows, Statement, Target, Written


class Statements(Protocol):
    """Every method takes exactly one statement, on a session of its own that ends with the call.

    Raises Invalid for a statement that the engine refuses (`details["sqlstate"]`, and its own words in
    `details["server_message"]`, which may quote data), that ran too long or whose answer is larger than any
    bound could be; Unavailable when the database cannot be reached. No message of these errors quotes data.
    """

    async def read(self, target: Target, statement: Statement, bounds: Bounds) -> Rows:
        """Nothing that the statement does outlives the call, whatever it is. `target` names a role that may only
        read; on SQLite the file is opened for reading."""
        ...

    async def write(
        self, target: Target, statement: Statement, bounds: Bounds, confirmed: Effects | None
    ) -> Written:
        """Keep what it does if its effects need no plan, or are within what was `confirmed`; else nothing is kept.

        Raises OutcomeUnknown when the connection broke while it was being kept.
        """
        ...


class Scripts(Protocol):
    """Raises Unavailable, and Invalid as `Statements` does."""

    async def apply(self, login: Login, statements: Sequence[str], *, seconds: float) -> Sequence[str]:
        """Statements of ours in one transaction; the tables that they made, by name."""
        ...


class Figures(Protocol):
    """How a database is doing. Raises Unavailable."""

    async def of(self, target: Target, *, seconds: float) -> dict[str, Any]:
        """Plain JSON: sizes in bytes, tables by size, connections by state, slow statements where the server
        keeps them."""
        ...
