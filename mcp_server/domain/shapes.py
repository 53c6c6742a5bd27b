"""The shape of a database: what a program that reads and writes its rows has to know of it.

(For comparing two databases exactly see `domain/schemas/catalogs.py`.)
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Engine = Literal["postgres", "sqlite"]
Kind = Literal["table", "view"]


class Column(NamedTuple):
    """`type` is the engine's name of it, as a cast takes it. `base` is the plain type behind a domain, without
    length, of an array's elements when `array`. `labels` are those of an enum.

    `default`: the engine fills it in when it is left out. `fixed`: nobody may write it (generated, identity always).
    """

    name: str
    type: str
    base: str
    not_null: bool = False
    default: bool = False
    fixed: bool = False
    array: bool = False
    labels: tuple[str, ...] = ()


class ForeignKey(NamedTuple):
    """`columns` of this table refer to `target_columns` of the table `target`, pair by pair."""

    columns: tuple[str, ...]
    target: str
    target_columns: tuple[str, ...]


class Table(NamedTuple):
    """`name` is unique in its database: `users`, or `schema.users` outside the first schema. `sql` is the name as
    SQL takes it, quoted. `key` is the primary key, else a unique key without nulls, else empty."""

    name: str
    sql: str
    kind: Kind
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    rowid: str = ""
    """What tells rows apart where there is no key, in this engine; empty for a view."""

    def column(self, name: str) -> Column | None:
        return next((each for each in self.columns if each.name == name), None)


class Shape(NamedTuple):
    """Tables and views by name."""

    engine: Engine
    tables: tuple[Table, ...]

    def table(self, name: str) -> Table | None:
        return next((each for each in self.tables if each.name == name), None)


def quoted(name: str) -> str:
    """An identifier as both engines take it."""
    return '"' + name.replace('"', '""') + '"'
