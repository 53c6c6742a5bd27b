"""The statements that turn one PostgreSQL database into another.

The order is fixed: what stands in the way is dropped, types and tables are changed, and what rests on them is made
again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mcp_server.domain.schemas.catalogs import Catalog, Column, Table, View
from mcp_server.domain.schemas.ddl import add_constraint, column_text, create_table, head_of
from mcp_server.domain.schemas.losses import Loss, lost_column, lost_table
from mcp_server.domain.schemas.names import literal, split_last, unqualified
from mcp_server.domain.schemas.postgres_touched import Touched, rebuilt
from mcp_server.domain.schemas.renames import perhaps_column, perhaps_table


def postgres_changes(start: Catalog, goal: Catalog) -> tuple[list[str], list[Loss]]:
    """Statements, and what they lose."""
    return _Postgres(start, goal).script()


class _Postgres:
    def __init__(self, start: Catalog, goal: Catalog) -> None:
        self.start, self.goal = start, goal
        self.statements: list[str] = []
        self.losses: list[Loss] = []
        self.touched = Touched(start, goal)

    def script(self) -> tuple[list[str], list[Loss]]:
        self._drop_triggers()
        self._drop_views()
        self._drop_functions()
        self._drop_constraints()
        self._drop_indexes()
        self._make_schemas()
        self._change_enums()
        self._make_types()
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
        return self.statements, self.losses

    def say(self, statement: str) -> None:
        self.statements.append(statement)

    # -- drops ------------------------------------------------------------------------------------

    def _drop_triggers(self) -> None:
        for key, each in sorted(self.start.triggers.items()):
            if self.goal.triggers.get(key) != each and each.table in self.start.tables:
                self.say(f"DROP TRIGGER {each.name} ON {each.table}")
        for key, each in sorted(self.start.triggers.items()):
            if each.table in self.start.views and self.goal.triggers.get(key) != each:
                self.say(f"DROP TRIGGER {each.name} ON {each.table}")

    def _drop_views(self) -> None:
        for view in reversed(_by_use(self.start.views, self.touched.views)):
            self.say(f"DROP {view.kind} {view.name}")

    def _drop_functions(self) -> None:
        """Those that are typed by a table, or that come back with another result; the others go last."""
        for signature, each in sorted(self.start.functions.items()):
            new = self.goal.functions.get(signature)
            if (new is None and each.uses) or (new is not None and head_of(new) != head_of(each)):
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
        dropped = [self.start.constraints[key] for key in sorted(self.touched.constraints)]
        for each in sorted(dropped, key=lambda each: each.kind != "foreign"):
            if each.table in self.goal.tables or each.kind == "foreign":
                self.say(f"ALTER TABLE {each.table} DROP CONSTRAINT {each.name}")

    def _drop_indexes(self) -> None:
        dropped_views = self.touched.views
        for key in sorted(self.touched.indexes):
            table = self.start.indexes[key].table
            if (table in self.goal.tables or table in self.goal.views) and table not in dropped_views:
                self.say(f"DROP INDEX {key}")

    def _drop_tables(self) -> None:
        for name in sorted(self.start.tables.keys() - self.goal.tables.keys()):
            perhaps = perhaps_table(self.start.tables[name], self.start, self.goal)
            self.losses.append(lost_table(name, perhaps))
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
        for name in reversed(_by_mention(_definitions(start))):
            if name not in _definitions(goal):
                self.say(f"DROP {'DOMAIN' if name in start.domains else 'TYPE'} {name}")
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
                self.say(f"CREATE TYPE {name} AS ENUM ({', '.join(literal(each) for each in labels)})")
            elif name in self.touched.retyped:
                self._rebuild_enum(name, labels, old)
            elif old != labels:
                for place, label in enumerate(labels):
                    if label not in old:
                        where = (
                            f"AFTER {literal(labels[place - 1])}" if place else f"BEFORE {literal(old[0])}"
                        )
                        self.say(f"ALTER TYPE {name} ADD VALUE {literal(label)} {where}")

    def _rebuild_enum(self, name: str, labels: tuple[str, ...], old: tuple[str, ...]) -> None:
        if gone := [label for label in old if label not in labels]:
            self.losses.append(Loss(f"{', '.join(gone)} of {name}: refused while a row has it"))
        aside = f"{unqualified(name).strip(chr(34))}_before"
        self.say(f'ALTER TYPE {name} RENAME TO "{aside}"')
        self.say(f"CREATE TYPE {name} AS ENUM ({', '.join(literal(each) for each in labels)})")
        for table in sorted(self.start.tables.values()):
            for column in table.columns:
                if self.touched.enum_of(column) == name and _has_column(
                    self.goal, f"{table.name}.{column.name}"
                ):
                    if column.default:
                        self.say(f"ALTER TABLE {table.name} ALTER COLUMN {column.name} DROP DEFAULT")
                    text = f"text{'[]' if column.type.endswith('[]') else ''}"
                    self.say(
                        f"ALTER TABLE {table.name} ALTER COLUMN {column.name} TYPE {column.type}"
                        f" USING {column.name}::{text}::{column.type}"
                    )
                elif self.touched.enum_of(column) == name and table.name in self.goal.tables:
                    self.losses.append(lost_column(table.name, column.name))
                    self.say(f"ALTER TABLE {table.name} DROP COLUMN {column.name}")
                elif self.touched.enum_of(column) == name:
                    self.losses.append(lost_table(table.name))
                    self.say(f"ALTER TABLE {table.name} DROP COLUMN {column.name}")
        schema = name.rpartition(".")[0]
        self.say(f'DROP TYPE {schema}."{aside}"')

    def _make_types(self) -> None:
        """Domains, composite and range types; of those that change, `differences` tells."""
        for name in _by_mention(_definitions(self.goal)):
            if name in _definitions(self.start):
                continue
            domain = self.goal.domains.get(name)
            if domain is not None:
                self.say(f"CREATE DOMAIN {name} AS {domain.definition}")
            else:
                self.say(f"CREATE TYPE {name} {self.goal.types[name]}")

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
        dropped = self.touched.views
        made = {name for name in self.goal.views if name in dropped or name not in self.start.views}
        for view in _by_use(self.goal.views, made):
            self.say(f"CREATE {view.kind} {view.name}{view.definition}")
            for index in sorted(self.goal.indexes.values()):
                if index.table == view.name:
                    self.say(index.definition)

    def _make_triggers(self) -> None:
        dropped = self.touched.views
        for key, each in sorted(self.goal.triggers.items()):
            if self.start.triggers.get(key) != each or each.table in dropped:
                self.say(each.definition)

    def _comment(self) -> None:
        for name in sorted(self.start.comments.keys() | self.goal.comments.keys()):
            text = self.goal.comments.get(name)
            remade = self._is_remade(name)
            if text is not None and (text != self.start.comments.get(name) or remade):
                self.say(f"COMMENT ON {name} IS {literal(text)}")
            elif text is None and not remade and self._remains(name):
                self.say(f"COMMENT ON {name} IS NULL")

    def _is_remade(self, name: str) -> bool:
        kind, _, thing = name.partition(" ")
        view = thing.removeprefix("VIEW ") if kind == "MATERIALIZED" else thing
        if kind == "COLUMN":
            table, _, column = split_last(thing)
            was, becomes = self._column(self.start, table, column), self._column(self.goal, table, column)
            return table in self.touched.views or was != becomes
        return (
            view in self.touched.views
            or (kind == "INDEX" and thing in self.touched.indexes)
            or (kind == "TYPE" and thing in self.touched.retyped)
        )

    def _column(self, catalog: Catalog, table: str, column: str) -> Column | None:
        found = catalog.tables.get(table)
        return None if found is None else next((each for each in found.columns if each.name == column), None)

    def _remains(self, name: str) -> bool:
        kind, _, thing = name.partition(" ")
        goal = self.goal
        return {
            "TABLE": thing in goal.tables,
            "COLUMN": self._column(goal, *split_last(thing)[::2]) is not None,
            "SEQUENCE": thing in goal.sequences,
            "VIEW": thing in goal.views,
            "INDEX": thing in goal.indexes,
            "TYPE": thing in goal.enums or thing in goal.types,
            "FUNCTION": name in goal.functions,
        }.get(kind, thing.removeprefix("VIEW ") in goal.views)

    # -- tables -----------------------------------------------------------------------------------

    def _change_tables(self) -> None:
        for name, table in sorted(self.goal.tables.items()):
            old = self.start.tables.get(name)
            if old is None:
                self.say(create_table(table))
            else:
                self._change_table(old, table)

    def _change_table(self, old: Table, new: Table) -> None:
        before = {each.name: each for each in old.columns}
        after = {each.name: each for each in new.columns}
        for column in old.columns:
            other = after.get(column.name)
            dropped_with_enum = other is None and self.touched.enum_of(column) is not None
            if (other is None or rebuilt(column, other)) and not dropped_with_enum:
                if not column.generated:
                    perhaps = perhaps_column(column, old, new) if other is None else ""
                    self.losses.append(lost_column(new.name, column.name, perhaps))
                self.say(f"ALTER TABLE {new.name} DROP COLUMN {column.name}")
        for column in new.columns:
            was = before.get(column.name)
            if was is None or rebuilt(was, column):
                if column.not_null and not (column.default or column.identity or column.generated):
                    self.losses.append(
                        Loss(f"column {new.name}.{column.name} is NOT NULL without default: refused on rows")
                    )
                self.say(f"ALTER TABLE {new.name} ADD COLUMN {column_text(column)}")
            else:
                self._change_column(new.name, was, column)

    def _change_column(self, table: str, was: Column, column: Column) -> None:
        alter = f"ALTER TABLE {table} ALTER COLUMN {column.name}"
        retyped = (was.type, was.collation) != (column.type, column.collation)
        rebuilt_enum = self.touched.enum_of(was) is not None
        if retyped:
            self.losses.append(
                Loss(f"column {table}.{column.name} from {was.type} to {column.type}: values must fit")
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
            self.losses.append(
                Loss(f"column {table}.{column.name} becomes NOT NULL: refused while a row has none")
            )
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
            if key in self.touched.constraints or key not in self.start.constraints
        ]
        for each in sorted(made, key=lambda each: (order.index(each.kind), each.table, each.name)):
            if each.table in self.start.tables:
                self.losses.append(
                    Loss(f"{each.kind} constraint {each.name} on {each.table}: refused while rows break it")
                )
            self.say(add_constraint(each))

    def _make_indexes(self) -> None:
        for key, each in sorted(self.goal.indexes.items()):
            known = key in self.start.indexes and key not in self.touched.indexes
            if (not known and each.table not in self.goal.views) or (
                not known and each.table in self.start.views and each.table not in self.touched.views
            ):
                self.say(each.definition)


def _by_use(views: Mapping[str, View], wanted: Iterable[str]) -> list[View]:
    """The wanted views, each behind those that it reads."""
    left = {name: views[name] for name in sorted(wanted)}
    ordered: list[View] = []
    while left:
        free = [each for each in left.values() if not set(each.uses) & (left.keys() - {each.name})]
        for each in free or list(left.values()):
            ordered.append(left.pop(each.name))
    return ordered


def _definitions(catalog: Catalog) -> dict[str, str]:
    """Domains, composite and range types, which may be made of each other."""
    return {name: each.definition for name, each in catalog.domains.items()} | dict(catalog.types)


def _by_mention(definitions: Mapping[str, str]) -> list[str]:
    """Each behind those that its definition names."""
    left = dict(sorted(definitions.items()))
    ordered: list[str] = []
    while left:
        free = [
            name for name, text in left.items() if not any(other in text for other in left if other != name)
        ]
        for name in free or list(left):
            ordered.append(name)
            del left[name]
    return ordered


def _has_column(catalog: Catalog, qualified: str) -> bool:
    table, _, column = split_last(qualified)
    return table in catalog.tables and any(each.name == column for each in catalog.tables[table].columns)
