"""Looking at rows page by page: what may be asked, and how a page is named. Pure."""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple

from mcp_server.domain.errors import Invalid
from mcp_server.domain.shapes import Table

Comparison = Literal["=", "<>", "<", "<=", ">", ">=", "contains", "starts", "null", "not null"]
COMPARISONS: tuple[Comparison, ...] = (
    "=",
    "<>",
    "<",
    "<=",
    ">",
    ">=",
    "contains",
    "starts",
    "null",
    "not null",
)
LARGEST_PAGE = 200
SHOWN = 300
"""Characters of a value in a page; the whole value is asked for by itself."""

LARGEST_VALUE = 200_000
COUNTED = 10_000
"""Rows are counted up to here, so that a large table costs no more than a small one."""


class Filter(NamedTuple):
    column: str
    comparison: Comparison
    value: str = ""


class PageWanted(NamedTuple):
    """`order` is what rows are told apart by; `after` are its values, as text, in the last row of the page before."""

    table: Table
    order: tuple[str, ...]
    filters: tuple[Filter, ...]
    after: tuple[str, ...]
    backwards: bool
    limit: int


class Cell(NamedTuple):
    """A value as text. `length` is that of the whole value, in characters, or bytes of a binary one."""

    text: str | None
    length: int


class PageRow(NamedTuple):
    key: tuple[str, ...]
    cells: tuple[Cell, ...]


class PageFound(NamedTuple):
    rows: tuple[PageRow, ...]
    more: bool


class Counted(NamedTuple):
    """`exact` is False for an estimate, or when counting ended at COUNTED."""

    rows: int
    exact: bool


def page_wanted(
    table: Table, filters: str, after: str, *, backwards: bool = False, limit: int = 50
) -> PageWanted:
    """`filters` and `after` as JSON, as the page sends them. Raises Invalid, naming the part."""
    order = table.key or ((table.rowid,) if table.rowid else ())
    return PageWanted(table, order, _filters(table, filters), _after(after, len(order)), backwards,
                      min(max(limit, 1), LARGEST_PAGE))  # fmt: skip


def require_column(table: Table, name: str) -> str:
    if table.column(name) is None:
        raise Invalid.field("column", f"there is none of this name in {table.name}")
    return name


def require_key(table: Table, key: Any) -> tuple[str, ...]:
    """Values of the key, as text. Raises Invalid when rows of this table cannot be told apart."""
    columns = table.key or ((table.rowid,) if table.rowid else ())
    if not columns:
        raise Invalid.field("table", "its rows have nothing that tells them apart")
    if (
        not isinstance(key, list)
        or len(key) != len(columns)
        or not all(isinstance(each, str) for each in key)
    ):
        raise Invalid.field("key", f"a list of {len(columns)} texts")
    return tuple(key)


def _filters(table: Table, text: str) -> tuple[Filter, ...]:
    found = []
    for each in _list("filters", text):
        if not isinstance(each, list) or len(each) != 3 or not all(isinstance(part, str) for part in each):
            raise Invalid.field("filters", "each is a column, a comparison and a value, as texts")
        column, comparison, value = each
        if comparison not in COMPARISONS:
            raise Invalid.field("filters", f"the comparison must be one of {', '.join(COMPARISONS)}")
        found.append(Filter(require_column(table, column), comparison, value))
    return tuple(found)


def _after(text: str, parts: int) -> tuple[str, ...]:
    values = _list("after", text)
    if values and (len(values) != parts or not all(isinstance(each, str) for each in values)):
        raise Invalid.field("after", f"a list of {parts} texts")
    return tuple(values)


def _list(name: str, text: str) -> list[Any]:
    try:
        found = json.loads(text or "[]")
    except ValueError as error:
        raise Invalid.field(name, "not JSON") from error
    if not isinstance(found, list):
        raise Invalid.field(name, "not a list")
    return found
