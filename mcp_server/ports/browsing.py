"""The rows of one live database, for a person who looks at them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from mcp_server.domain.browsing import Cell, Counted, PageFound, PageWanted
from mcp_server.domain.shapes import Shape, Table


class Browser(Protocol):
    """Every call has a session of its own, in a read-only transaction but for the three that change; it ends within
    some seconds. Raises Invalid with the engine's words for a statement or a value that it refuses, Unavailable when
    the database cannot be reached. Keys and values are text in the engine's own form."""

    async def shape(self) -> Shape: ...

    async def counts(self, shape: Shape) -> dict[str, Counted]:
        """Rows of each table, counted up to a bound or estimated."""
        ...

    async def page(self, wanted: PageWanted) -> PageFound:
        """Rows in the order of `wanted.order`, long values cut. Without order, the first rows."""
        ...

    async def value(self, table: Table, key: tuple[str, ...], column: str) -> Cell | None:
        """One value, cut only at a bound far above a page's; None when there is no such row."""
        ...

    async def change(
        self, table: Table, key: tuple[str, ...], column: str, before: str | None, after: str | None
    ) -> None:
        """Set one value. Raises Conflict when it is not `before` any more, or the row is gone."""
        ...

    async def add(self, table: Table, values: Mapping[str, str | None]) -> None: ...

    async def remove(self, table: Table, key: tuple[str, ...]) -> None:
        """Raises Conflict when the row is gone."""
        ...
