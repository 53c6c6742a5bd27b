"""Statements that are sent as one: each of them costs a round trip, and most of a transaction's rows are held meanwhile.

Only a write whose outcome is known before may wait for others: what it changes is held, as the caller has read it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

MOST = 8
"""Statements in one. More would fill the server's cache of plans with sizes that seldom come again."""

_PLACE = re.compile(r"\$(\d+)")


class Write(NamedTuple):
    """A statement over the row of one record that returns one row; none says that the record was another."""

    noun: str
    key: str
    sql: str
    arguments: tuple[object, ...]


def together(
    writes: Sequence[Write], extra: Sequence[tuple[str, Sequence[object]]]
) -> tuple[str, list[object]]:
    """The heads `WITH w0 AS (...), ...` for a statement whose own arguments follow, and the arguments of all parts.

    `extra` are statements whose rows do not count. The rows of `writes` are counted by `written(len(writes))`.
    """
    parts: list[str] = []
    arguments: list[object] = []
    for at, (sql, own) in enumerate([*((write.sql, write.arguments) for write in writes), *extra]):
        parts.append(f"w{at} AS ({numbered(sql, len(arguments))})")
        arguments += own
    return (f"WITH {', '.join(parts)} " if parts else ""), arguments


def numbered(sql: str, after: int) -> str:
    """The statement with its arguments counted from `after` + 1."""
    return _PLACE.sub(lambda place: f"${int(place[1]) + after}", sql)


def written(count: int) -> str:
    """An expression: how many of the first `count` statements returned a row."""
    return " + ".join(f"(SELECT count(*) FROM w{at})" for at in range(count)) or "0"  # noqa: S608  # names of ours
