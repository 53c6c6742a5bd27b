"""What a change of a schema loses, so that whoever consents to it knows how much that is."""

from __future__ import annotations

from typing import NamedTuple

MOST = 1_000_000
"""Rows are counted so far, which takes a moment; beyond, it is said that there are more."""


class Loss(NamedTuple):
    """A sentence; where rows are gone with a table, or values with a column, these, in the engine's spelling."""

    text: str
    table: str = ""
    column: str = ""

    def told(self, number: int | None) -> str:
        """With the number of rows or values, of which more than MOST are not counted, and None are not known."""
        if number is None:
            return self.text
        much = f"more than {MOST:,}" if number > MOST else f"{number:,}"
        noun = "value" if self.column else "row"
        return f"{self.text} ({much} {noun}{'' if number == 1 else 's'})"


def lost_table(name: str, more: str = "") -> Loss:
    return Loss(f"table {name} and its rows{more}", name)


def lost_column(table: str, column: str, more: str = "") -> Loss:
    return Loss(f"column {table}.{column}{more}", table, column)
