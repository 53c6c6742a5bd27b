"""One statement on a project's database: what may be asked, what came back, and when a person must look first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from mcp_server.domain.databases import Login
from mcp_server.domain.errors import Invalid
from mcp_server.domain.records import Value

MAX_SQL = 100_000
MAX_PARAMETERS = 1000
SAFE_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly; beyond it numbers are given as text."""


class SqliteFile(Value):
    """Where a SQLite database is: `path` lies below `root`."""

    root: str
    path: str


Target = Login | SqliteFile


class Bounds(Value):
    """What one call may cost. `rows` and `bytes` bound what is returned, `changes` what a write may change
    without a plan, `seconds` how long a statement may run."""

    rows: int = Field(default=200, ge=1)
    bytes: int = Field(default=64 * 1024, ge=1)
    seconds: float = Field(default=15.0, gt=0)
    changes: int = Field(default=1000, ge=0)


class Statement(Value):
    sql: str
    parameters: tuple[Any, ...] = ()


class Column(Value):
    """`type` as the engine names it; on SQLite what was declared, empty for an expression."""

    name: str
    type: str


class Rows(Value):
    """Values as JSON knows them; what JSON cannot hold exactly is text in the engine's own form."""

    columns: tuple[Column, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    truncated: bool = False


class Effects(Value):
    """What a statement would leave behind. `lost`: tables and columns that would be gone or emptied as a whole,
    by name."""

    changed: int = 0
    lost: tuple[str, ...] = ()

    def needs_plan(self, bounds: Bounds) -> bool:
        return self.changed > bounds.changes or bool(self.lost)

    def within(self, confirmed: Effects) -> bool:
        """Whether this is no more than what was confirmed."""
        return self.changed <= confirmed.changed and set(self.lost) <= set(confirmed.lost)


class Written(Value):
    """`kept` is false when all was rolled back, because it was more than was allowed."""

    rows: Rows
    effects: Effects
    kept: bool


def require_statement(statement: Statement) -> Statement:
    """Raises Invalid for a text that cannot be sent; what the text means is the engine's to judge."""
    if not statement.sql.strip() or len(statement.sql) > MAX_SQL:
        raise Invalid.field("sql", f"one statement of at most {MAX_SQL} characters")
    if len(statement.parameters) > MAX_PARAMETERS:
        raise Invalid.field("parameters", f"at most {MAX_PARAMETERS}")
    return statement


def shown_effects(effects: Effects) -> tuple[str, ...]:
    """The effects of a plan, for a person."""
    changed = (f"{effects.changed} rows would be changed",) if effects.changed else ()
    return (*changed, *(f"lost: {name}" for name in effects.lost))


class Collected:
    """Gathers rows up to the bounds. The first row too many, or the one that breaks the byte bound, is left out."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._bytes = 0
        self.rows: list[tuple[Any, ...]] = []
        self.truncated = False

    def add(self, values: Sequence[Any]) -> bool:
        """Whether more is wanted."""
        if self.truncated:
            return False
        row = tuple(as_json(value) for value in values)
        size = len(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))
        if len(self.rows) >= self._bounds.rows or self._bytes + size > self._bounds.bytes:
            self.truncated = True
            return False
        self._bytes += size
        self.rows.append(row)
        return True


def as_json(value: Any) -> Any:
    """The value as JSON has it, without loss; text where JSON has nothing that fits."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return value if abs(value) <= SAFE_INTEGER else str(value)
    if isinstance(value, float):
        return (
            value if value - value == 0 else {"inf": "Infinity", "-inf": "-Infinity"}.get(str(value), "NaN")
        )
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "\\x" + bytes(value).hex()
    if isinstance(value, dict):
        return {str(name): as_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return str(value)
