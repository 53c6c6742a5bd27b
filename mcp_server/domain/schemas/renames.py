"""Renames that a schema.sql tells of: `-- rename: users.name -> full_name`, `-- rename: users -> people`.

A catalog cannot tell a renamed column from one that was dropped beside one that was added. A line of this kind says so.
It has an effect while the database has the old name and not the new one, so it may stay in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from mcp_server.domain.errors import Invalid
from mcp_server.domain.schemas.catalogs import Catalog, Column, Table
from mcp_server.domain.schemas.names import quoted, split_last

PART = r"(?:\"(?:[^\"]|\"\")+\"|[\w$]+)"
NAME = rf"{PART}(?:\s*\.\s*{PART}){{0,2}}"
HINT = re.compile(r"^[ \t]*--[ \t]*rename:(?P<said>.*)$", re.IGNORECASE | re.MULTILINE)
SAID = re.compile(rf"\s*(?P<old>{NAME})\s*->\s*(?P<new>{NAME})\s*")
SIMPLE = re.compile(r"[a-z_][a-z0-9_]*")


class Rename(NamedTuple):
    """`old` and `new` are parts of names without quotes; a new name alone stays where the old one is."""

    where: str
    old: tuple[str, ...]
    new: tuple[str, ...]


class Renaming(NamedTuple):
    """Statements for the database, and those that take them back, newest first."""

    forward: tuple[str, ...] = ()
    back: tuple[str, ...] = ()


def renames_in(text: str, *, where: str) -> tuple[Rename, ...]:
    """In the order of the lines. Raises Invalid, with the line, for a hint that does not say old and new."""
    found = []
    for match in HINT.finditer(text):
        place = f"{where}, line {text.count(chr(10), 0, match.start()) + 1}"
        said = SAID.fullmatch(match["said"])
        if said is None:
            raise Invalid(f"{place}: a rename is told as '-- rename: OLD -> NEW', TABLE or TABLE.COLUMN")
        found.append(Rename(place, _parts(said["old"]), _parts(said["new"])))
    return tuple(found)


def renaming(start: Catalog, goal: Catalog, renames: Iterable[Rename]) -> Renaming:
    """What of the hints is still to be done. Raises Invalid for one whose new name is not in the goal."""
    found = _Renames(start, goal)
    for each in renames:
        found.add(each)
    return Renaming(tuple(found.forward), tuple(found.back))


def perhaps_column(column: Column, old: Table, new: Table) -> str:
    """What to add to the loss of a column, where another of its type has come."""
    known = {each.name for each in old.columns}
    likely = [each.name for each in new.columns if each.name not in known and each.type == column.type]
    return _perhaps(f"{new.name}.{column.name}", likely)


def perhaps_table(table: Table, start: Catalog, goal: Catalog) -> str:
    """What to add to the loss of a table, where one with the same columns has come."""
    columns = [(each.name, each.type) for each in table.columns]
    likely = [
        each.name
        for name, each in sorted(goal.tables.items())
        if name not in start.tables and [(one.name, one.type) for one in each.columns] == columns
    ]
    return _perhaps(table.name, likely)


def _perhaps(old: str, likely: list[str]) -> str:
    if not likely:
        return ""
    return f" (if it is now {' or '.join(likely)}, say so in schema.sql: '-- rename: {old} -> {likely[0]}')"


class _Renames:
    """`_now` leads from the old name of a table to the one of the goal, `_before` from that to the start's."""

    def __init__(self, start: Catalog, goal: Catalog) -> None:
        self._start, self._goal = start, goal
        self._now: dict[tuple[str, ...], Table] = {}
        self._before: dict[str, str] = {}
        self.forward: list[str] = []
        self.back: list[str] = []

    def add(self, rename: Rename) -> None:
        new = _find(self._goal, (*rename.old[:-1], *rename.new) if len(rename.new) == 1 else rename.new)
        if new is not None and not self._is_column(rename):
            self._table(rename, new)
        else:
            self._column(rename)

    def _is_column(self, rename: Rename) -> bool:
        return any(_find(each, rename.old[:-1]) is not None for each in (self._start, self._goal))

    def _table(self, rename: Rename, new: Table) -> None:
        start, goal = self._start, self._goal
        self._now[rename.old] = new
        old = _find(start, rename.old)
        if old is None or _find(goal, rename.old) or new.name in start.tables:
            return
        if _plain(start, old.name)[:-1] != _plain(goal, new.name)[:-1]:
            raise Invalid(f"{rename.where}: a rename does not move a table to another schema")
        self._before[new.name] = old.name
        self._say(
            f"ALTER TABLE {_said(start, old.name)} RENAME TO {_said(goal, _last(goal, new.name))}",
            f"ALTER TABLE {_said(goal, new.name)} RENAME TO {_said(start, _last(start, old.name))}",
        )

    def _column(self, rename: Rename) -> None:
        table = rename.old[:-1] if len(rename.new) == 1 else rename.new[:-1]
        after = _find(self._goal, table) or self._now.get(table)
        new = _of(after, rename.new[-1]) if after is not None else None
        if after is None or new is None:
            raise Invalid(f"{rename.where}: there is no {'.'.join(rename.new)} in schema.sql")
        before = self._start.tables.get(self._before.get(after.name, after.name))
        old = _of(before, rename.old[-1]) if before is not None else None
        if before is None or old is None or _of(before, rename.new[-1]) or _of(after, rename.old[-1]):
            return
        head = f"ALTER TABLE {_said(self._goal, after.name)} RENAME COLUMN"
        one, two = _said(self._start, old.name), _said(self._goal, new.name)
        self._say(f"{head} {one} TO {two}", f"{head} {two} TO {one}")

    def _say(self, forward: str, back: str) -> None:
        self.forward.append(forward)
        self.back.insert(0, back)


def _find(catalog: Catalog, parts: tuple[str, ...]) -> Table | None:
    if not parts:
        return None
    if catalog.engine == "postgres" and len(parts) == 1:
        parts = ("public", *parts)
    return next(
        (each for each in catalog.tables.values() if _plain(catalog, each.name) == parts), None
    ) or next(
        (
            each
            for each in catalog.tables.values()
            if [part.lower() for part in _plain(catalog, each.name)] == [part.lower() for part in parts]
        ),
        None,
    )


def _of(table: Table, name: str) -> Column | None:
    exact = next((each for each in table.columns if _bare(each.name) == name), None)
    return exact or next((each for each in table.columns if _bare(each.name).lower() == name.lower()), None)


def _plain(catalog: Catalog, name: str) -> tuple[str, ...]:
    if catalog.engine == "sqlite":
        return (name,)
    schema, _, table = split_last(name)
    return _bare(schema), _bare(table)


def _last(catalog: Catalog, name: str) -> str:
    return name if catalog.engine == "sqlite" else split_last(name)[2]


def _said(catalog: Catalog, name: str) -> str:
    """As a script says it: PostgreSQL's catalog has quotes where they must be, SQLite's has none."""
    if catalog.engine == "postgres" or SIMPLE.fullmatch(name):
        return name
    return quoted(name)


def _parts(text: str) -> tuple[str, ...]:
    return tuple(_bare(part) if part.startswith('"') else part for part in re.findall(PART, text.strip()))


def _bare(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
