"""What a change of PostgreSQL's tables and types touches, and what must therefore be dropped and made again."""

from __future__ import annotations

from collections.abc import Iterator

from mcp_server.domain.schemas.catalogs import Catalog, Column


class Touched:
    """`retyped` are enums to rebuild, `tables` those that are gone or whose columns are dropped or change their type.
    The rest are keys of `start`. What rests on columns that stay as they are is not made again where another column
    is dropped, because that would check and index every row."""

    def __init__(self, start: Catalog, goal: Catalog) -> None:
        self._start, self._goal = start, goal
        self.retyped = self._enums_to_rebuild()
        self._remade = self._remade_tables()
        self.tables = self._remade | self._narrowed_tables()
        self.constraints = self._remade_constraints()
        self.indexes = self._remade_indexes()
        self.views = self._views_to_drop()

    def _enums_to_rebuild(self) -> set[str]:
        """Enums that lose or move labels, or whose new labels are used by this very script: a label that was
        added in a transaction may not be used in it."""
        found = set()
        for name, labels in self._goal.enums.items():
            old = self._start.enums.get(name)
            if old is None or old == labels:
                continue
            kept = tuple(label for label in labels if label in old)
            new = {f"'{label.replace(chr(39), chr(39) * 2)}'" for label in labels if label not in old}
            if kept != old or any(label in text for text in _texts(self._goal) for label in new):
                found.add(name)
        return found

    def _remade_tables(self) -> set[str]:
        """Tables that are gone, or whose columns change their type."""
        found = set(self._start.tables.keys() - self._goal.tables.keys())
        for name, table in self._goal.tables.items():
            old = self._start.tables.get(name)
            if old is None:
                continue
            new = {each.name: each for each in table.columns}
            for column in old.columns:
                other = new.get(column.name)
                if self.enum_of(column) is not None or (
                    other is not None
                    and (
                        rebuilt(column, other)
                        or column.type != other.type
                        or column.collation != other.collation
                    )
                ):
                    found.add(name)
        return found

    def _narrowed_tables(self) -> set[str]:
        """Tables that lose a column."""
        return {
            name
            for name, table in self._goal.tables.items()
            if name in self._start.tables
            and {each.name for each in self._start.tables[name].columns}
            - {each.name for each in table.columns}
        }

    def enum_of(self, column: Column) -> str | None:
        plain = column.type.removesuffix("[]")
        return plain if plain in self.retyped else None

    def _remade_constraints(self) -> set[str]:
        """Those that are new or changed; and on tables whose columns change their type, the ones that say
        something about an expression."""
        found = {
            key
            for key, each in self._start.constraints.items()
            if self._goal.constraints.get(key, each._replace(definition="")).definition != each.definition
            or (each.kind in ("check", "exclude") and each.table in self._remade)
        }
        gone_keys = {
            (each.table)
            for key, each in self._start.constraints.items()
            if key in found and each.kind in ("primary", "unique")
        }
        return found | {
            key
            for key, each in self._start.constraints.items()
            if each.kind == "foreign"
            and (each.refers in gone_keys or each.refers in self._remade or each.table in self._remade)
        }

    def _remade_indexes(self) -> set[str]:
        return {
            key
            for key, each in self._start.indexes.items()
            if key not in self._goal.indexes or self._goal.indexes[key] != each or each.table in self._remade
        }

    def _views_to_drop(self) -> set[str]:
        """Views that are gone, changed, or that read something touched; and the views that read those."""
        start, goal = self._start, self._goal
        changed_functions = any(goal.functions.get(key) != each for key, each in start.functions.items())
        found = {
            name
            for name, view in start.views.items()
            if goal.views.get(name, view._replace(definition="")).definition != view.definition
            or changed_functions
            or set(view.uses) & self.tables
        }
        while more := {
            name for name, view in start.views.items() if name not in found and set(view.uses) & found
        }:
            found |= more
        return found


def rebuilt(was: Column, now: Column) -> bool:
    """A computed column whose expression changed can only be dropped and made again."""
    return was.generated != now.generated or bool(now.generated and was.type != now.type)


def _texts(catalog: Catalog) -> Iterator[str]:
    for table in catalog.tables.values():
        for column in table.columns:
            yield from (column.default, column.generated)
    for group in (catalog.constraints, catalog.indexes, catalog.views, catalog.triggers):
        for each in group.values():
            yield each.definition
