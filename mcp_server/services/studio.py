"""Browsing one database; changing it only where that was asked for at the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp_server.domain.browsing import Cell, Counted, PageFound, page_wanted, require_column, require_key
from mcp_server.domain.errors import Forbidden, Invalid, NotFound
from mcp_server.domain.queries import Bounds, Rows, Statement, Target, require_statement
from mcp_server.domain.shapes import Shape, Table
from mcp_server.ports.browsing import Browser
from mcp_server.ports.queries import Statements

QUERY_BOUNDS = Bounds(rows=500, bytes=1024 * 1024, seconds=15.0)


class Studio:
    """`name` is the database's, for the page's title; `reader` is where typed statements go. Everything raises what ports/browsing.py says."""

    def __init__(
        self, name: str, browser: Browser, statements: Statements, reader: Target, *, writable: bool = False
    ) -> None:
        self.name = name
        self.writable = writable
        self._browser = browser
        self._statements = statements
        self._reader = reader

    async def overview(self) -> tuple[Shape, dict[str, Counted]]:
        shape = await self._browser.shape()
        return shape, await self._browser.counts(shape)

    async def page(
        self, table: str, *, filters: str = "", after: str = "", backwards: bool = False, limit: int = 50
    ) -> PageFound:
        found = await self._table(table)
        return await self._browser.page(page_wanted(found, filters, after, backwards=backwards, limit=limit))

    async def value(self, table: str, key: Any, column: str) -> Cell:
        """Raises NotFound when the row is gone."""
        found = await self._table(table)
        cell = await self._browser.value(found, require_key(found, key), require_column(found, column))
        if cell is None:
            raise NotFound("this row is gone")
        return cell

    async def query(self, sql: str) -> Rows:
        """One statement that reads, through the gate of `Statements`. Raises Invalid in the database's words."""
        statement = require_statement(Statement(sql=sql))
        try:
            return await self._statements.read(self._reader, statement, QUERY_BOUNDS)
        except Invalid as error:
            words = error.details.get("server_message")
            if error.details.get("fault") == "too_slow":
                raise Invalid(
                    error.message, next="Narrow it down, or look at its plan with EXPLAIN."
                ) from error
            if not isinstance(words, str):
                raise
            hint = error.details.get("hint")
            raise Invalid(
                words, next=hint if isinstance(hint, str) else "Correct the statement; this box only reads."
            ) from error

    async def change(self, table: str, key: Any, column: str, before: str | None, after: str | None) -> None:
        found = await self._writable_table(table)
        where = require_key(found, key)
        await self._browser.change(found, where, require_column(found, column), before, after)

    async def add(self, table: str, values: Mapping[str, str | None]) -> None:
        found = await self._writable_table(table)
        for column in values:
            require_column(found, column)
        await self._browser.add(found, values)

    async def remove(self, table: str, key: Any) -> None:
        found = await self._writable_table(table)
        await self._browser.remove(found, require_key(found, key))

    async def _writable_table(self, name: str) -> Table:
        if not self.writable:
            raise Forbidden("this studio only reads", next="Start it with --write to change rows.")
        table = await self._table(name)
        if table.kind != "table":
            raise Invalid.field("table", "rows of a view cannot be changed here")
        return table

    async def _table(self, name: str) -> Table:
        found = (await self._browser.shape()).table(name)
        if found is None:
            raise NotFound(f"there is no table {name!r}")
        return found
