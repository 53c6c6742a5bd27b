"""From SQLite to PostgreSQL without loss: which type a column gets, which table, and what cannot come along.

SQLite keeps any value in any column, so a column's type is decided by what was declared and by what it holds.
Nothing is guessed: what has no counterpart that keeps it whole is refused, with its name and the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import Field

from mcp_server.domain.records import Value

PgType = Literal[
    "bigint",
    "boolean",
    "double precision",
    "numeric",
    "text",
    "bytea",
    "date",
    "timestamp",
    "timestamptz",
    "json",
]
Storage = Literal["null", "integer", "real", "text", "blob"]
Form = Literal["bit", "nul", "date", "timestamp", "timestamptz", "json", "infinite"]
"""What a look at all values found: integers that are all 0 or 1, text with NUL, text of a form, reals without end."""

LONGEST_NAME = 63
DEFAULTS = {
    "current_timestamp": "(now() AT TIME ZONE 'utc')",
    "current_date": "((now() AT TIME ZONE 'utc')::date)",
    "current_time": "",
}
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
STRING = re.compile(r"'(?:[^']|'')*'")
ACTIONS = frozenset({"NO ACTION", "RESTRICT", "CASCADE", "SET NULL", "SET DEFAULT"})


class SqliteColumn(Value):
    """`key` is the place in the primary key, 0 outside. `held` are the storage classes of its values, `forms` what
    all of them have in common. `hidden`: 0 for an ordinary one."""

    name: str
    declared: str = ""
    not_null: bool = False
    default: str | None = None
    key: int = 0
    hidden: int = 0
    held: frozenset[Storage] = frozenset()
    forms: frozenset[Form] = frozenset()


class SqliteIndex(Value):
    """`columns` has None for an expression. `made_by`: c (CREATE INDEX), u (UNIQUE), pk. `collations` other than
    BINARY."""

    name: str
    unique: bool
    made_by: str
    partial: bool
    columns: tuple[str | None, ...]
    descending: tuple[bool, ...] = ()
    collations: tuple[str, ...] = ()


class SqliteKey(Value):
    """A foreign key. `other_columns` empty: the primary key of the other table."""

    columns: tuple[str, ...]
    other: str
    other_columns: tuple[str, ...]
    on_update: str
    on_delete: str


class SqliteTable(Value):
    """`words` are those of its CREATE TABLE, outside of quoted names, strings and comments; a name that is a
    keyword counts as one. `sequence`: the greatest number that AUTOINCREMENT ever gave."""

    name: str
    rows: int
    columns: tuple[SqliteColumn, ...]
    indexes: tuple[SqliteIndex, ...] = ()
    keys: tuple[SqliteKey, ...] = ()
    words: frozenset[str] = frozenset()
    virtual: bool = False
    sequence: int = 0


class SqliteSchema(Value):
    """`others` are triggers and views, as `trigger x`."""

    tables: tuple[SqliteTable, ...]
    others: tuple[str, ...] = ()


class Mapped(Value):
    """A column in PostgreSQL. `identity`: it draws its own numbers, as an INTEGER PRIMARY KEY does."""

    name: str
    type: PgType
    not_null: bool
    default: str | None = None
    identity: bool = False


class MappedTable(Value):
    """`create` makes the table; `finish`, after the rows are in, its keys and indexes; `link` its foreign keys,
    after every table is finished."""

    name: str
    rows: int
    columns: tuple[Mapped, ...]
    create: str
    finish: tuple[str, ...] = ()
    link: tuple[str, ...] = ()


class Mapping(Value):
    """Either no `refused`, and everything comes along; or nothing does."""

    tables: tuple[MappedTable, ...] = ()
    refused: tuple[str, ...] = Field(default=())


def mapping(schema: SqliteSchema) -> Mapping:
    """What PostgreSQL gets, or the list of what it cannot get without loss."""
    refused = [f"{other}: write it anew for PostgreSQL" for other in schema.others]
    tables: list[MappedTable] = []
    for table in schema.tables:
        faults = list(_faults(table, {other.name: other for other in schema.tables}))
        refused += [f"table {table.name}: {fault}" for fault in faults]
        if not faults:
            tables.append(_mapped(table, schema))
    return Mapping(refused=tuple(refused)) if refused else Mapping(tables=tuple(tables))


def type_of(column: SqliteColumn) -> PgType | None:
    """None when its values have no type in common that keeps them whole."""
    held = column.held - {"null"}
    declared = column.declared.upper()
    if column.forms & {"nul", "infinite"}:
        return None
    if not held:
        return _empty_type(declared)
    if held == {"integer", "real"}:
        return "numeric" if _decimal(declared) else None
    if held == {"integer"}:
        if "BOOL" in declared and "bit" in column.forms:
            return "boolean"
        return "numeric" if _decimal(declared) else "bigint"
    if held == {"real"}:
        return "numeric" if _decimal(declared) else "double precision"
    if held == {"text"}:
        return _text_type(declared, column.forms)
    return "bytea" if held == {"blob"} else None


def _text_type(declared: str, forms: frozenset[Form]) -> PgType:
    """Text that was declared as a time or as JSON, and is that in every row."""
    if "JSON" in declared and "json" in forms:
        return "json"
    if "DATE" in declared or "TIME" in declared:
        if "date" in forms:
            return "date"
        if "timestamp" in forms:
            return "timestamp"
        if "timestamptz" in forms:
            return "timestamptz"
    return "text"


def _empty_type(declared: str) -> PgType:
    """By SQLite's own rules of affinity, and the names that people use."""
    names: tuple[tuple[str, PgType], ...] = (
        ("BOOL", "boolean"),
        ("INT", "bigint"),
        ("JSON", "json"),
        ("CHAR", "text"),
        ("CLOB", "text"),
        ("TEXT", "text"),
        ("BLOB", "bytea"),
        ("REAL", "double precision"),
        ("FLOA", "double precision"),
        ("DOUB", "double precision"),
        ("DEC", "numeric"),
        ("NUMERIC", "numeric"),
        ("TIME", "timestamp"),
        ("DATE", "date"),
    )
    return next((kind for name, kind in names if name in declared), "text")


def _decimal(declared: str) -> bool:
    return "DEC" in declared or "NUMERIC" in declared


# -- what cannot come along --------------------------------------------------------------------------------


def _faults(table: SqliteTable, others: dict[str, SqliteTable]) -> Iterable[str]:
    if table.virtual:
        yield "it is virtual"
        return
    for word, why in (
        ("CHECK", "it has a CHECK, which only SQLite can read"),
        ("COLLATE", "it compares text by another collation"),
        ("CONFLICT", "it has an ON CONFLICT clause"),
        ("DEFERRABLE", "it has deferred foreign keys"),
    ):
        if word in table.words:
            yield why
    for name in (table.name, *(column.name for column in table.columns)):
        if len(name.encode()) > LONGEST_NAME:
            yield f"the name {name[:40]}... is longer than {LONGEST_NAME} bytes"
    for column in table.columns:
        yield from _column_faults(column)
    for index in table.indexes:
        if index.partial or None in index.columns:
            yield f"the index {index.name} is on an expression or on some rows"
        if index.collations:
            yield f"the index {index.name} has a collation"
    for key in table.keys:
        yield from _key_faults(key, table, others)


def _column_faults(column: SqliteColumn) -> Iterable[str]:
    if column.hidden:
        yield f"the column {column.name} is generated"
        return
    kind = type_of(column)
    if kind is None:
        what = ", ".join(sorted(column.held - {"null"}))
        why = "text that is no UTF-8 or has NUL" if "nul" in column.forms else f"values of {what}"
        yield f"the column {column.name} ({column.declared or 'no type'}) holds {why}"
    elif column.key and "null" in column.held:
        yield f"the column {column.name} of the primary key holds NULL"
    elif column.default is not None and _default(column.default, kind) is None:
        yield f"the column {column.name} has a default that only SQLite can read"


def _key_faults(key: SqliteKey, table: SqliteTable, others: dict[str, SqliteTable]) -> Iterable[str]:
    other = others.get(key.other)
    if other is None:
        yield f"a foreign key leads to {key.other}, which is not there"
        return
    target = key.other_columns or _primary_key(other)
    unique = {_primary_key(other)} | {
        tuple(name for name in index.columns if name) for index in other.indexes if index.unique
    }
    if not target or target not in unique or len(target) != len(key.columns):
        yield f"a foreign key leads to columns of {key.other} that are not unique"
        return
    mine, theirs = _types(table), _types(other)
    if any(mine.get(one) != theirs.get(two) for one, two in zip(key.columns, target, strict=True)):
        yield f"a foreign key to {key.other} joins columns of different types"
    if {key.on_update, key.on_delete} - ACTIONS:
        yield f"a foreign key to {key.other} has an action that is not known"


def _types(table: SqliteTable) -> dict[str, PgType | None]:
    return {column.name: type_of(column) for column in table.columns}


def _primary_key(table: SqliteTable) -> tuple[str, ...]:
    keyed = sorted((column for column in table.columns if column.key), key=lambda column: column.key)
    return tuple(column.name for column in keyed)


# -- what comes along --------------------------------------------------------------------------------------


def _mapped(table: SqliteTable, schema: SqliteSchema) -> MappedTable:
    key = _primary_key(table)
    columns = tuple(_column(column, alone=key == (column.name,)) for column in table.columns)
    name = quoted(table.name)
    lines = [_line(column) for column in columns]
    return MappedTable(
        name=table.name,
        rows=table.rows,
        columns=columns,
        create=f"CREATE TABLE {name} ({', '.join(lines)})",
        finish=tuple(_finish(table, key, columns)),
        link=tuple(_link(table, one, schema) for one in table.keys),
    )


def _column(column: SqliteColumn, *, alone: bool) -> Mapped:
    kind = type_of(column) or "text"
    return Mapped(
        name=column.name,
        type=kind,
        not_null=column.not_null or bool(column.key),
        default=None if column.default is None else _default(column.default, kind),
        identity=alone and column.declared.upper() == "INTEGER",
    )


def _line(column: Mapped) -> str:
    parts = [quoted(column.name), column.type]
    if column.identity:
        parts.append("GENERATED BY DEFAULT AS IDENTITY")
    elif column.default is not None:
        parts.append(f"DEFAULT {column.default}")
    if column.not_null:
        parts.append("NOT NULL")
    return " ".join(parts)


def _finish(table: SqliteTable, key: Sequence[str], columns: Sequence[Mapped]) -> Iterable[str]:
    name = quoted(table.name)
    if key:
        yield f"ALTER TABLE {name} ADD PRIMARY KEY ({_names(key)})"
    for index in table.indexes:
        if index.made_by == "pk":
            continue
        parts = [quoted(column or "") for column in index.columns]
        downs = [*index.descending, *([False] * len(parts))]
        ordered = ", ".join(
            f"{part}{' DESC' if down else ''}" for part, down in zip(parts, downs, strict=False)
        )
        if index.made_by == "u":
            yield f"ALTER TABLE {name} ADD UNIQUE ({', '.join(parts)})"
        else:
            yield f"CREATE {'UNIQUE ' if index.unique else ''}INDEX {quoted(index.name[:LONGEST_NAME])} ON {name} ({ordered})"
    for column in columns:
        if column.identity:
            yield _numbered(table, column)


def _numbered(table: SqliteTable, column: Mapped) -> str:
    """The next number comes after every one that was ever given, as far as SQLite remembers."""
    name, one = quoted(table.name), quoted(column.name)
    greatest = f"GREATEST((SELECT max({one}) FROM {name}), {table.sequence})"  # noqa: S608  # quoted
    found = f"pg_get_serial_sequence({literal(name)}, {literal(column.name)})"
    return f"SELECT setval({found}, GREATEST({greatest}, 1), {greatest} >= 1)"


def _link(table: SqliteTable, key: SqliteKey, schema: SqliteSchema) -> str:
    other = next(one for one in schema.tables if one.name == key.other)
    target = key.other_columns or _primary_key(other)
    return (
        f"ALTER TABLE {quoted(table.name)} ADD FOREIGN KEY ({_names(key.columns)}) REFERENCES "
        f"{quoted(key.other)} ({_names(target)}) ON UPDATE {key.on_update} ON DELETE {key.on_delete}"
    )


def _default(text: str, kind: PgType) -> str | None:
    """The default for PostgreSQL; None when it says something else there."""
    bare = text.strip()
    while bare.startswith("(") and bare.endswith(")") and not set("()") & set(bare[1:-1]):
        bare = bare[1:-1].strip()
    lowered = bare.lower()
    if lowered == "null":
        return "NULL"
    if lowered in DEFAULTS:
        return _moment_default(lowered, kind)
    if kind == "boolean":
        return {"0": "false", "1": "true", "false": "false", "true": "true"}.get(lowered)
    if NUMBER.fullmatch(bare) and kind in ("bigint", "numeric", "double precision"):
        return bare
    if STRING.fullmatch(bare) and kind in ("text", "json", "date", "timestamp", "timestamptz"):
        return bare if "\\" not in bare else None
    return None


def _moment_default(name: str, kind: PgType) -> str | None:
    if kind == "timestamptz":
        return "now()" if name == "current_timestamp" else None
    if kind == "timestamp":
        return DEFAULTS["current_timestamp"] if name == "current_timestamp" else None
    if kind == "date":
        return DEFAULTS["current_date"] if name == "current_date" else None
    form = {
        "current_timestamp": "YYYY-MM-DD HH24:MI:SS",
        "current_date": "YYYY-MM-DD",
        "current_time": "HH24:MI:SS",
    }
    return f"to_char(now() AT TIME ZONE 'utc', '{form[name]}')" if kind == "text" else None


def _names(names: Iterable[str]) -> str:
    return ", ".join(quoted(name) for name in names)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# -- reading CREATE TABLE ----------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|/\*[\s\S]*?(?:\*/|\Z)|([A-Za-z_]\w*)"""
)


def words_of(sql: str) -> frozenset[str]:
    """The bare words of a statement in capitals: names in quotes, strings and comments are none.

    >>> sorted(words_of('CREATE TABLE "check" (a /* COLLATE */ TEXT)'))
    ['A', 'CREATE', 'TABLE', 'TEXT']
    """
    return frozenset(match[1].upper() for match in _TOKEN.finditer(sql) if match[1])
