"""What a database consists of, as its own catalogs tell it, so that two can be compared exactly.

Names are as the engine writes them: qualified and quoted for PostgreSQL (`public.users`, `public."My Table"`), plain for
SQLite. Definitions are the engine's own text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from mcp_server.domain.schemas.statements import Engine


class Column(NamedTuple):
    """`identity` is "", ALWAYS or BY DEFAULT; `generated` is the expression of a computed column."""

    name: str
    type: str
    not_null: bool = False
    default: str = ""
    identity: str = ""
    generated: str = ""
    collation: str = ""


class Table(NamedTuple):
    """`special` is what sets a table apart (partitioned, inherits, unlogged, storage); `text` is SQLite's."""

    name: str
    columns: tuple[Column, ...]
    special: str = ""
    text: str = ""


class Constraint(NamedTuple):
    """`kind` is primary, unique, foreign, check or exclude. `refers` is the other table of a foreign key."""

    table: str
    name: str
    kind: str
    definition: str
    refers: str = ""


class Index(NamedTuple):
    """`text` is SQLite's own; of views and triggers too. `definition` is what is compared."""

    name: str
    table: str
    definition: str
    text: str = ""


class View(NamedTuple):
    """`kind` is VIEW or MATERIALIZED VIEW; `uses` are the relations that it reads."""

    name: str
    kind: str
    definition: str
    uses: tuple[str, ...] = ()
    text: str = ""


class Sequence(NamedTuple):
    """`owner` is `table.column` of a serial column; those of identity columns are not listed."""

    name: str
    definition: str
    owner: str = ""


class Function(NamedTuple):
    """`signature` has the kind first: `FUNCTION public.f(integer)`. `uses` are relations that it is typed by."""

    signature: str
    definition: str
    uses: tuple[str, ...] = ()


class Trigger(NamedTuple):
    table: str
    name: str
    definition: str
    text: str = ""


class Domain(NamedTuple):
    name: str
    definition: str


class Catalog(NamedTuple):
    """Each mapping is by name. `other` is what is seen but not changed: policies, rules, privileges, ..."""

    engine: Engine
    schemas: frozenset[str] = frozenset()
    extensions: frozenset[str] = frozenset()
    enums: Mapping[str, tuple[str, ...]] = {}
    domains: Mapping[str, Domain] = {}
    types: Mapping[str, str] = {}
    """Composite and range types, with what follows the name in CREATE TYPE."""
    sequences: Mapping[str, Sequence] = {}
    functions: Mapping[str, Function] = {}
    tables: Mapping[str, Table] = {}
    constraints: Mapping[str, Constraint] = {}
    indexes: Mapping[str, Index] = {}
    views: Mapping[str, View] = {}
    triggers: Mapping[str, Trigger] = {}
    comments: Mapping[str, str] = {}
    other: Mapping[str, str] = {}

    def flat(self) -> dict[str, str]:
        """Every thing with its definition, for comparing; the order of a table's columns is one of them."""
        found = {f"schema {name}": "" for name in self.schemas}
        found |= {f"extension {name}": "" for name in self.extensions}
        found |= {f"enum {name}": repr(labels) for name, labels in self.enums.items()}
        found |= {f"domain {name}": each.definition for name, each in self.domains.items()}
        found |= {f"type {name}": definition for name, definition in self.types.items()}
        found |= {
            f"sequence {name}": f"{each.definition} {each.owner}" for name, each in self.sequences.items()
        }
        found |= {name.lower(): each.definition for name, each in self.functions.items()}
        for table in self.tables.values():
            found[f"table {table.name}"] = table.special
            found[f"order of the columns of {table.name}"] = ", ".join(each.name for each in table.columns)
            found |= {f"column {table.name}.{each.name}": repr(tuple(each)) for each in table.columns}
        found |= {f"constraint {name}": each.definition for name, each in self.constraints.items()}
        found |= {f"index {name}": each.definition for name, each in self.indexes.items()}
        found |= {f"{each.kind.lower()} {name}": each.definition for name, each in self.views.items()}
        found |= {f"trigger {name}": each.definition for name, each in self.triggers.items()}
        found |= {f"comment on {name}": text for name, text in self.comments.items()}
        return found | dict(self.other)


NAMED = re.compile(
    r"(?:(?:policy|rule) .* on |row security of |privileges on |extended statistics |[A-Za-z ]+ )?"
    r"(?P<schema>\"(?:[^\"]|\"\")*\"|[^.\" ]+)\."
)
"""The schema in the name of a thing, which the kind of the thing may stand before."""


def within(catalog: Catalog, schemas: Collection[str]) -> Catalog:
    """What lies in the named schemas (quoted where they must be). Extensions are the whole database's."""

    def inside(name: str) -> bool:
        found = NAMED.match(name)
        return found is not None and found["schema"] in schemas

    return catalog._replace(
        schemas=catalog.schemas & frozenset(schemas),
        enums={name: each for name, each in catalog.enums.items() if inside(name)},
        domains={name: each for name, each in catalog.domains.items() if inside(name)},
        types={name: each for name, each in catalog.types.items() if inside(name)},
        sequences={name: each for name, each in catalog.sequences.items() if inside(name)},
        functions={name: each for name, each in catalog.functions.items() if inside(name)},
        tables={name: each for name, each in catalog.tables.items() if inside(name)},
        constraints={name: each for name, each in catalog.constraints.items() if inside(each.table)},
        indexes={name: each for name, each in catalog.indexes.items() if inside(name)},
        views={name: each for name, each in catalog.views.items() if inside(name)},
        triggers={name: each for name, each in catalog.triggers.items() if inside(each.table)},
        comments={name: text for name, text in catalog.comments.items() if inside(name)},
        other={name: text for name, text in catalog.other.items() if inside(name)},
    )


def accounts_of_alembic(catalog: Catalog) -> tuple[str, ...]:
    """The tables in which Alembic keeps what was applied: by its usual name, and by their one column, for env.py may
    name and place them, or add columns."""

    def is_one(table: Table) -> bool:
        columns = [each.name for each in table.columns]
        usual = table.name.rpartition(".")[2] == "alembic_version" and "version_num" in columns
        return usual or columns == ["version_num"]

    return tuple(sorted(each.name for each in catalog.tables.values() if is_one(each)))


def without_tables(catalog: Catalog, names: Collection[str]) -> Catalog:
    """Without these tables, and what belongs to them."""
    gone = set(names)
    return catalog._replace(
        tables={each: table for each, table in catalog.tables.items() if each not in gone},
        constraints={key: each for key, each in catalog.constraints.items() if each.table not in gone},
        indexes={key: each for key, each in catalog.indexes.items() if each.table not in gone},
        other={key: text for key, text in catalog.other.items() if key.rpartition(" ")[2] not in gone},
    )


def differences(one: Catalog, two: Catalog) -> tuple[str, ...]:
    """What is not the same, each as one short sentence, in order."""
    left, right = one.flat(), two.flat()
    found = []
    for name in sorted(left.keys() | right.keys()):
        if name not in right:
            found.append(f"{name}: only in the first")
        elif name not in left:
            found.append(f"{name}: only in the second")
        elif left[name] != right[name]:
            found.append(f"{name}: differs")
    return tuple(found)
