"""The statements that turn one database into another, from their catalogs.

The order is fixed: what stands in the way is dropped, types and tables are changed, and what rests on them is made
again. What cannot be said in statements is named in `unexpressed`; nothing is left out in silence, because the caller
runs the script on a scratch database and compares catalogs afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from mcp_server.domain.schemas.catalogs import (
    Catalog,
    Column,
    Constraint,
    Function,
    Index,
    Table,
    Trigger,
    View,
)

Resting = Mapping[str, View] | Mapping[str, Trigger]


class Changes(NamedTuple):
    """`losses` are sentences about data that would be gone or might be refused."""

    statements: tuple[str, ...]
    losses: tuple[str, ...]

    @property
    def script(self) -> str:
        return "".join(f"{each};\n" for each in self.statements)


def changes(start: Catalog, goal: Catalog) -> Changes:
    if goal.engine == "sqlite":
        return _sqlite(start, goal)
    return _Postgres(start, goal).changes()


class _Postgres:
    def __init__(self, start: Catalog, goal: Catalog) -> None:
        self.start, self.goal = start, goal
        self.statements: list[str] = []
        self.losses: list[str] = []
        self.retyped = self._enums_to_rebuild()
        self.touched = self._touched_tables()
        self.remade_constraints: set[str] = set()
        self.remade_indexes: set[str] = set()

    def changes(self) -> Changes:
        self._find_remade()
        self._drop_triggers()
        self._drop_views()
        self._drop_functions()
        self._drop_constraints()
        self._drop_indexes()
        self._make_schemas()
        self._change_enums()
        self._make_domains()
        self._drop_identities()
        self._make_sequences()
        self._make_functions(late=False)
        self._change_tables()
        self._drop_tables()
        self._own_sequences()
        self._make_functions(late=True)
        self._make_constraints()
        self._make_indexes()
        self._make_views()
        self._make_triggers()
        self._comment()
        self._drop_rest()
        return Changes(tuple(self.statements), tuple(self.losses))

    def say(self, statement: str) -> None:
        self.statements.append(statement)

    # -- what is touched --------------------------------------------------------------------------

    def _enums_to_rebuild(self) -> set[str]:
        """Enums that lose or move labels, or whose new labels are used by this very script: a label that was
        added in a transaction may not be used in it."""
        found = set()
        for name, labels in self.goal.enums.items():
            old = self.start.enums.get(name)
            if old is None or old == labels:
                continue
            kept = tuple(label for label in labels if label in old)
            new = {f"'{label.replace(chr(39), chr(39) * 2)}'" for label in labels if label not in old}
            if kept != old or any(label in text for text in _texts(self.goal) for label in new):
                found.add(name)
        return found

    def _touched_tables(self) -> set[str]:
        """Tables that are gone, or whose columns are dropped or change their type."""
        found = set(self.start.tables.keys() - self.goal.tables.keys())
        for name, table in self.goal.tables.items():
            old = self.start.tables.get(name)
            if old is None:
                continue
            new = {each.name: each for each in table.columns}
            for column in old.columns:
                other = new.get(column.name)
                if (
                    other is None
                    or _rebuilt(column, other)
                    or column.type != other.type
                    or self._enum_of(column) is not None
                    or column.collation != other.collation
                ):
                    found.add(name)
        return found

    def _enum_of(self, column: Column) -> str | None:
        plain = column.type.removesuffix("[]")
        return plain if plain in self.retyped else None

    def _find_remade(self) -> None:
        """Constraints and indexes that are new or changed; and on tables whose columns change their type, the
        ones that say something about an expression."""
        self.remade_constraints = {
            key
            for key, each in self.start.constraints.items()
            if self.goal.constraints.get(key, each._replace(definition="")).definition != each.definition
            or (each.kind in ("check", "exclude") and each.table in self.touched)
        }
        gone_keys = {
            (each.table)
            for key, each in self.start.constraints.items()
            if key in self.remade_constraints and each.kind in ("primary", "unique")
        }
        self.remade_constraints |= {
            key
            for key, each in self.start.constraints.items()
            if each.kind == "foreign"
            and (each.refers in gone_keys or each.refers in self.touched or each.table in self.touched)
        }
        self.remade_indexes = {
            key
            for key, each in self.start.indexes.items()
            if key not in self.goal.indexes or self.goal.indexes[key] != each or each.table in self.touched
        }

    def _views_to_drop(self) -> set[str]:
        """Views that are gone, changed, or that read something touched; and the views that read those."""
        start, goal = self.start, self.goal
        changed_functions = any(goal.functions.get(key) != each for key, each in start.functions.items())
        found = {
            name
            for name, view in start.views.items()
            if goal.views.get(name, view._replace(definition="")).definition != view.definition
            or changed_functions
            or set(view.uses) & self.touched
        }
        while more := {
            name for name, view in start.views.items() if name not in found and set(view.uses) & found
        }:
            found |= more
        return found

    # -- drops ------------------------------------------------------------------------------------

    def _drop_triggers(self) -> None:
        for key, each in sorted(self.start.triggers.items()):
            if self.goal.triggers.get(key) != each and each.table in self.start.tables:
                self.say(f"DROP TRIGGER {each.name} ON {each.table}")
        for key, each in sorted(self.start.triggers.items()):
            if each.table in self.start.views and self.goal.triggers.get(key) != each:
                self.say(f"DROP TRIGGER {each.name} ON {each.table}")

    def _drop_views(self) -> None:
        for view in reversed(_by_use(self.start.views, self._views_to_drop())):
            self.say(f"DROP {view.kind} {view.name}")

    def _drop_functions(self) -> None:
        """Those that are typed by a table, or that come back with another result; the others go last."""
        for signature, each in sorted(self.start.functions.items()):
            new = self.goal.functions.get(signature)
            if (new is None and each.uses) or (new is not None and _head(new) != _head(each)):
                self.say(f"DROP {signature}")

    def _drop_identities(self) -> None:
        for name, table in sorted(self.start.tables.items()):
            kept = (
                {each.name: each for each in self.goal.tables[name].columns}
                if name in self.goal.tables
                else {}
            )
            for column in table.columns:
                if column.identity and column.name in kept and not kept[column.name].identity:
                    self.say(f"ALTER TABLE {name} ALTER COLUMN {column.name} DROP IDENTITY")

    def _drop_constraints(self) -> None:
        dropped = [self.start.constraints[key] for key in sorted(self.remade_constraints)]
        for each in sorted(dropped, key=lambda each: each.kind != "foreign"):
            if each.table in self.goal.tables or each.kind == "foreign":
                self.say(f"ALTER TABLE {each.table} DROP CONSTRAINT {each.name}")

    def _drop_indexes(self) -> None:
        dropped_views = self._views_to_drop()
        for key in sorted(self.remade_indexes):
            table = self.start.indexes[key].table
            if (table in self.goal.tables or table in self.goal.views) and table not in dropped_views:
                self.say(f"DROP INDEX {key}")

    def _drop_tables(self) -> None:
        for name in sorted(self.start.tables.keys() - self.goal.tables.keys()):
            self.losses.append(f"table {name} and its rows")
            self.say(f"DROP TABLE {name}")

    def _drop_rest(self) -> None:
        start, goal = self.start, self.goal
        for signature in sorted(start.functions.keys() - goal.functions.keys()):
            if not start.functions[signature].uses:
                self.say(f"DROP {signature}")
        owned = {
            key for key, each in start.sequences.items() if each.owner and not _has_column(goal, each.owner)
        }
        for name in sorted(start.sequences.keys() - goal.sequences.keys() - owned):
            self.say(f"DROP SEQUENCE {name}")
        for name in sorted(start.domains.keys() - goal.domains.keys()):
            self.say(f"DROP DOMAIN {name}")
        for name in sorted(start.enums.keys() - goal.enums.keys()):
            self.say(f"DROP TYPE {name}")
        for name in sorted(start.extensions - goal.extensions):
            self.say(f"DROP EXTENSION {name}")
        for name in sorted(start.schemas - goal.schemas):
            self.say(f"DROP SCHEMA {name}")

    # -- types ------------------------------------------------------------------------------------

    def _make_schemas(self) -> None:
        for name in sorted(self.goal.schemas - self.start.schemas):
            self.say(f"CREATE SCHEMA {name}")
        for name in sorted(self.goal.extensions - self.start.extensions):
            self.say(f"CREATE EXTENSION {name}")

    def _change_enums(self) -> None:
        for name, labels in sorted(self.goal.enums.items()):
            old = self.start.enums.get(name)
            if old is None:
                self.say(f"CREATE TYPE {name} AS ENUM ({', '.join(_literal(each) for each in labels)})")
            elif name in self.retyped:
                self._rebuild_enum(name, labels, old)
            elif old != labels:
                for place, label in enumerate(labels):
                    if label not in old:
                        where = (
                            f"AFTER {_literal(labels[place - 1])}" if place else f"BEFORE {_literal(old[0])}"
                        )
                        self.say(f"ALTER TYPE {name} ADD VALUE {_literal(label)} {where}")

    def _rebuild_enum(self, name: str, labels: tuple[str, ...], old: tuple[str, ...]) -> None:
        if gone := [label for label in old if label not in labels]:
            self.losses.append(f"{', '.join(gone)} of {name}: refused while a row has it")
        aside = f"{_unqualified(name).strip(chr(34))}_before"
        self.say(f'ALTER TYPE {name} RENAME TO "{aside}"')
        self.say(f"CREATE TYPE {name} AS ENUM ({', '.join(_literal(each) for each in labels)})")
        for table in sorted(self.start.tables.values()):
            for column in table.columns:
                if self._enum_of(column) == name and _has_column(self.goal, f"{table.name}.{column.name}"):
                    if column.default:
                        self.say(f"ALTER TABLE {table.name} ALTER COLUMN {column.name} DROP DEFAULT")
                    text = f"text{'[]' if column.type.endswith('[]') else ''}"
                    self.say(
                        f"ALTER TABLE {table.name} ALTER COLUMN {column.name} TYPE {column.type}"
                        f" USING {column.name}::{text}::{column.type}"
                    )
                elif self._enum_of(column) == name and table.name in self.goal.tables:
                    self.losses.append(f"column {table.name}.{column.name}")
                    self.say(f"ALTER TABLE {table.name} DROP COLUMN {column.name}")
                elif self._enum_of(column) == name:
                    self.losses.append(f"table {table.name} and its rows")
                    self.say(f"ALTER TABLE {table.name} DROP COLUMN {column.name}")
        schema = name.rpartition(".")[0]
        self.say(f'DROP TYPE {schema}."{aside}"')

    def _make_domains(self) -> None:
        for name, each in sorted(self.goal.domains.items()):
            if name not in self.start.domains:
                self.say(f"CREATE DOMAIN {name} AS {each.definition}")

    def _make_sequences(self) -> None:
        for name, each in sorted(self.goal.sequences.items()):
            old = self.start.sequences.get(name)
            if old is None:
                self.say(f"CREATE SEQUENCE {name} {each.definition}")
            elif old.definition != each.definition:
                self.say(f"ALTER SEQUENCE {name} {each.definition}")
            if old is not None and old.owner and old.owner != each.owner:
                self.say(f"ALTER SEQUENCE {name} OWNED BY NONE")

    def _own_sequences(self) -> None:
        for name, each in sorted(self.goal.sequences.items()):
            old = self.start.sequences.get(name)
            if each.owner and (old is None or old.owner != each.owner):
                self.say(f"ALTER SEQUENCE {name} OWNED BY {each.owner}")

    # -- functions, views, triggers ---------------------------------------------------------------

    def _make_functions(self, *, late: bool) -> None:
        for signature, each in sorted(self.goal.functions.items()):
            if bool(each.uses) != late or self.start.functions.get(signature) == each:
                continue
            self.say(each.definition.rstrip().rstrip(";"))

    def _make_views(self) -> None:
        dropped = self._views_to_drop()
        made = {name for name in self.goal.views if name in dropped or name not in self.start.views}
        for view in _by_use(self.goal.views, made):
            self.say(f"CREATE {view.kind} {view.name}{view.definition}")
            for index in sorted(self.goal.indexes.values()):
                if index.table == view.name:
                    self.say(index.definition)

    def _make_triggers(self) -> None:
        dropped = self._views_to_drop()
        for key, each in sorted(self.goal.triggers.items()):
            if self.start.triggers.get(key) != each or each.table in dropped:
                self.say(each.definition)

    def _comment(self) -> None:
        for name in sorted(self.start.comments.keys() | self.goal.comments.keys()):
            text = self.goal.comments.get(name)
            remade = self._is_remade(name)
            if text is not None and (text != self.start.comments.get(name) or remade):
                self.say(f"COMMENT ON {name} IS {_literal(text)}")
            elif text is None and not remade and self._remains(name):
                self.say(f"COMMENT ON {name} IS NULL")

    def _is_remade(self, name: str) -> bool:
        kind, _, thing = name.partition(" ")
        view = thing.removeprefix("VIEW ") if kind == "MATERIALIZED" else thing
        return (
            view in self._views_to_drop()
            or (kind == "INDEX" and thing in self.remade_indexes)
            or (kind == "TYPE" and thing in self.retyped)
            or kind == "COLUMN"
        )

    def _remains(self, name: str) -> bool:
        kind, _, thing = name.partition(" ")
        goal = self.goal
        return {
            "TABLE": thing in goal.tables,
            "SEQUENCE": thing in goal.sequences,
            "VIEW": thing in goal.views,
            "INDEX": thing in goal.indexes,
            "TYPE": thing in goal.enums,
            "FUNCTION": name in goal.functions,
        }.get(kind, thing.removeprefix("VIEW ") in goal.views)

    # -- tables -----------------------------------------------------------------------------------

    def _change_tables(self) -> None:
        for name, table in sorted(self.goal.tables.items()):
            old = self.start.tables.get(name)
            if old is None:
                self.say(_create(table))
            else:
                self._change_table(old, table)

    def _change_table(self, old: Table, new: Table) -> None:
        before = {each.name: each for each in old.columns}
        after = {each.name: each for each in new.columns}
        for column in old.columns:
            other = after.get(column.name)
            dropped_with_enum = other is None and self._enum_of(column) is not None
            if (other is None or _rebuilt(column, other)) and not dropped_with_enum:
                if not column.generated:
                    self.losses.append(f"column {new.name}.{column.name}")
                self.say(f"ALTER TABLE {new.name} DROP COLUMN {column.name}")
        for column in new.columns:
            was = before.get(column.name)
            if was is None or _rebuilt(was, column):
                if column.not_null and not (column.default or column.identity or column.generated):
                    self.losses.append(
                        f"column {new.name}.{column.name} is NOT NULL without default: refused on rows"
                    )
                self.say(f"ALTER TABLE {new.name} ADD COLUMN {_column(column)}")
            else:
                self._change_column(new.name, was, column)

    def _change_column(self, table: str, was: Column, column: Column) -> None:
        alter = f"ALTER TABLE {table} ALTER COLUMN {column.name}"
        retyped = (was.type, was.collation) != (column.type, column.collation)
        rebuilt_enum = self._enum_of(was) is not None
        if retyped:
            self.losses.append(
                f"column {table}.{column.name} from {was.type} to {column.type}: values must fit"
            )
            if was.default and not rebuilt_enum:
                self.say(f"{alter} DROP DEFAULT")
            collate = f" COLLATE {column.collation}" if column.collation else ""
            self.say(f"{alter} TYPE {column.type}{collate} USING {column.name}::text::{column.type}")
        default_gone = was.default and (retyped or rebuilt_enum)
        if column.default and (default_gone or was.default != column.default):
            self.say(f"{alter} SET DEFAULT {column.default}")
        elif was.default and not column.default and not default_gone:
            self.say(f"{alter} DROP DEFAULT")
        if column.not_null and not was.not_null:
            self.losses.append(f"column {table}.{column.name} becomes NOT NULL: refused while a row has none")
            self.say(f"{alter} SET NOT NULL")
        if column.identity and not was.identity:
            self.say(f"{alter} ADD GENERATED {column.identity} AS IDENTITY")
        elif column.identity != was.identity and column.identity:
            self.say(f"{alter} SET GENERATED {column.identity}")
        if was.not_null and not column.not_null:
            self.say(f"{alter} DROP NOT NULL")

    # -- constraints and indexes ------------------------------------------------------------------

    def _make_constraints(self) -> None:
        order = ("primary", "unique", "exclude", "check", "foreign")
        made = [
            each
            for key, each in self.goal.constraints.items()
            if key in self.remade_constraints or key not in self.start.constraints
        ]
        for each in sorted(made, key=lambda each: (order.index(each.kind), each.table, each.name)):
            if each.table in self.start.tables:
                self.losses.append(
                    f"{each.kind} constraint {each.name} on {each.table}: refused while rows break it"
                )
            self.say(_constraint(each))

    def _make_indexes(self) -> None:
        for key, each in sorted(self.goal.indexes.items()):
            known = key in self.start.indexes and key not in self.remade_indexes
            if (not known and each.table not in self.goal.views) or (
                not known and each.table in self.start.views and each.table not in self._views_to_drop()
            ):
                self.say(each.definition)


# -- SQLite ------------------------------------------------------------------------------------------


def _sqlite(start: Catalog, goal: Catalog) -> Changes:
    """A changed table is made anew and its rows are copied, as SQLite's documentation advises."""
    statements: list[str] = []
    losses: list[str] = []
    rebuilt = [
        name
        for name, table in goal.tables.items()
        if name in start.tables and start.tables[name].special != table.special
    ]
    added = {name: _added(start.tables[name], goal.tables[name]) for name in rebuilt}
    rebuilt = [name for name in rebuilt if added[name] is None]
    gone = sorted(start.tables.keys() - goal.tables.keys())
    all_anew = bool(rebuilt or gone)
    resting: tuple[tuple[str, Resting, Resting], ...] = (
        ("TRIGGER", start.triggers, goal.triggers),
        ("VIEW", start.views, goal.views),
    )
    for kind, old, new in resting:
        for name in sorted(old):
            if all_anew or not _same(new.get(name), old[name]):
                statements.append(f"DROP {kind} {_quoted(name)}")
    for name in sorted(start.indexes):
        index = start.indexes[name]
        if (
            not _same(goal.indexes.get(name), index)
            and index.table not in rebuilt
            and index.table not in gone
        ):
            statements.append(f"DROP INDEX {_quoted(name)}")
    for name in gone:
        losses.append(f"table {name} and its rows")
        statements.append(f"DROP TABLE {_quoted(name)}")
    for name, table in goal.tables.items():
        if name not in start.tables:
            statements.append(table.text)
        elif (columns := added.get(name)) is not None:
            statements += [f"ALTER TABLE {_quoted(name)} ADD COLUMN {each}" for each in columns]
        elif name in rebuilt:
            statements += _rebuild(start.tables[name], table, losses)
    for name, index in goal.indexes.items():
        if not _same(start.indexes.get(name), index) or index.table in rebuilt:
            statements.append(index.text)
    for _, old, new in reversed(resting):
        for name, each in new.items():
            if all_anew or not _same(old.get(name), each):
                statements.append(each.text)
    return Changes(tuple(statements), tuple(losses))


def _same(one: Index | View | Trigger | None, two: Index | View | Trigger) -> bool:
    return one is not None and one.definition == two.definition


def _added(old: Table, new: Table) -> tuple[str, ...] | None:
    """The definitions of columns that only have to be appended, where that gives exactly the new table."""
    head = old.special.rstrip()
    if not head.endswith(")") or not new.special.startswith(f"{head[:-1].rstrip()} , "):
        return None
    rest = new.special[len(head[:-1].rstrip()) + 3 :].rstrip()
    if not rest.endswith(")") or "primary" in rest.lower() or "unique" in rest.lower() or " ( " in rest:
        return None
    known = {each.name for each in old.columns}
    names = [each for each in new.columns if each.name not in known]
    parts = rest[:-1].split(" , ")
    simple = all(not each.generated and (not each.not_null or each.default) for each in names)
    if (
        len(parts) != len(names)
        or not simple
        or re.search(r"\b(current_\w+|constraint|foreign|check)\b", rest, re.I)
    ):
        return None
    return tuple(part.strip() for part in parts)


def _rebuild(old: Table, new: Table, losses: list[str]) -> Iterator[str]:
    kept = {each.name for each in old.columns}
    columns = [each for each in new.columns if each.name in kept and not each.generated]
    losses += [
        f"column {new.name}.{each.name}"
        for each in old.columns
        if each.name not in {one.name for one in new.columns} and not each.generated
    ]
    losses += [
        f"column {new.name}.{each.name} is NOT NULL without default: refused on rows"
        for each in new.columns
        if each.name not in kept and each.not_null and not each.default and not each.generated
    ]
    aside = f"_quaymaster_new_{new.name}"
    yield _renamed(new, aside)
    if columns:
        names = ", ".join(_quoted(each.name) for each in columns)
        yield f"INSERT INTO {_quoted(aside)} ({names}) SELECT {names} FROM {_quoted(new.name)}"  # noqa: S608 - quoted names
    yield f"DROP TABLE {_quoted(new.name)}"
    yield f"ALTER TABLE {_quoted(aside)} RENAME TO {_quoted(new.name)}"


def _renamed(table: Table, aside: str) -> str:
    """The table's own text under another name."""
    head = re.compile(
        r"^\s*create\s+(?:temp(?:orary)?\s+)?table\s+(?:if\s+not\s+exists\s+)?"
        r"(?:\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]]*\]|'[^']*'|\w+)",
        re.IGNORECASE,
    )
    return head.sub(lambda _: f"CREATE TABLE {_quoted(aside)}", table.text, count=1)


# -- words -------------------------------------------------------------------------------------------


def _create(table: Table) -> str:
    columns = ",\n".join(f"    {_column(each)}" for each in table.columns)
    unlogged = "UNLOGGED " if table.special.startswith("UNLOGGED") else ""
    body = f" (\n{columns}\n)" if columns else " ()"
    partition = re.search(r"PARTITION BY .*?(?= WITH \(|$)", table.special)
    options = re.search(r"WITH \(.+\)", table.special)
    tail = f" {partition[0]}" if partition else ""
    return f"CREATE {unlogged}TABLE {table.name}{body}{tail}{f' {options[0]}' if options else ''}"


def _column(column: Column) -> str:
    parts = [column.name, column.type]
    if column.collation:
        parts.append(f"COLLATE {column.collation}")
    if column.generated:
        parts.append(f"GENERATED ALWAYS AS ({column.generated}) STORED")
    if column.default:
        parts.append(f"DEFAULT {column.default}")
    if column.identity:
        parts.append(f"GENERATED {column.identity} AS IDENTITY")
    if column.not_null and not column.identity:
        parts.append("NOT NULL")
    return " ".join(parts)


def _constraint(each: Constraint) -> str:
    return f"ALTER TABLE {each.table} ADD CONSTRAINT {each.name} {each.definition}"


def _head(function: Function) -> str:
    """Its arguments and its result."""
    return function.definition.partition("\n LANGUAGE")[0]


def _rebuilt(was: Column, now: Column) -> bool:
    """A computed column whose expression changed can only be dropped and made again."""
    return was.generated != now.generated or bool(now.generated and was.type != now.type)


def _by_use(views: Mapping[str, View], wanted: Iterable[str]) -> list[View]:
    """The wanted views, each behind those that it reads."""
    left = {name: views[name] for name in sorted(wanted)}
    ordered: list[View] = []
    while left:
        free = [each for each in left.values() if not set(each.uses) & (left.keys() - {each.name})]
        for each in free or list(left.values()):
            ordered.append(left.pop(each.name))
    return ordered


def _texts(catalog: Catalog) -> Iterator[str]:
    for table in catalog.tables.values():
        for column in table.columns:
            yield from (column.default, column.generated)
    for group in (catalog.constraints, catalog.indexes, catalog.views, catalog.triggers):
        for each in group.values():
            yield each.definition


def _has_column(catalog: Catalog, qualified: str) -> bool:
    table, _, column = _split_last(qualified)
    return table in catalog.tables and any(each.name == column for each in catalog.tables[table].columns)


def _split_last(qualified: str) -> tuple[str, str, str]:
    match = re.fullmatch(r"(.*)\.(\"(?:[^\"]|\"\")*\"|[^.\"]+)", qualified, re.DOTALL)
    return (match[1], ".", match[2]) if match else (qualified, "", "")


def _unqualified(name: str) -> str:
    return _split_last(name)[2]


def _literal(text: str) -> str:
    quoted = text.replace("'", "''")
    return f"E'{quoted.replace(chr(92), chr(92) * 2)}'" if "\\" in text else f"'{quoted}'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
