"""The files of a client: one module for each table, one that they share, and the package's front."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mcp_server.domain.client_code.names import camel, distinct, identifier, literal
from mcp_server.domain.client_code.runtime import runtime
from mcp_server.domain.client_code.types import Codec, plan
from mcp_server.domain.shapes import Column, Engine, Shape, Table

HEADER = "# Written by `quaymaster db generate`; do not edit.\n"


class Field(NamedTuple):
    column: Column
    name: str
    annotation: str
    codec: Codec

    @property
    def type(self) -> str:
        nullable = not self.column.not_null and self.annotation not in ("Any", "Json")
        return f"{self.annotation} | None" if nullable else self.annotation

    @property
    def is_optional(self) -> bool:
        return self.column.default or not self.column.not_null

    @property
    def sent(self) -> str:
        """The argument as it is sent."""
        if self.codec != "json":
            return self.name
        return f"{'json_text' if self.column.not_null else 'json_or_null'}({self.name})"

    @property
    def received(self) -> str:
        value = f"row[{literal(self.column.name)}]"
        if self.codec == "json":
            return f"json_value({value})"
        if self.codec not in ("bool", "float"):
            return value
        nullable = not self.column.not_null
        return f"None if {value} is None else {self.codec}({value})" if nullable else f"{self.codec}({value})"


class Module(NamedTuple):
    table: Table
    name: str
    record: str
    fields: tuple[Field, ...]
    engine: Engine

    @property
    def key(self) -> tuple[Field, ...]:
        by_name = {field.column.name: field for field in self.fields}
        return tuple(by_name[name] for name in self.table.key)

    @property
    def writable(self) -> tuple[Field, ...]:
        return tuple(field for field in self.fields if not field.column.fixed)


def client_files(shape: Shape) -> dict[str, str]:
    """The text of each file, by its name."""
    modules = _modules(shape)
    files = {f"{module.name}.py": HEADER + _module_text(module) for module in modules}
    files["_runtime.py"] = HEADER + runtime(shape.engine)
    files["__init__.py"] = HEADER + _front(modules)
    return files


def _modules(shape: Shape) -> list[Module]:
    names = distinct(identifier(table.name).lower() for table in shape.tables)
    records = distinct(f"{camel(table.name)}Row" for table in shape.tables)
    return [
        Module(table, name, record, _fields(shape.engine, table), shape.engine)
        for table, name, record in zip(shape.tables, names, records, strict=True)
    ]


def _fields(engine: Engine, table: Table) -> tuple[Field, ...]:
    names = distinct(identifier(column.name) for column in table.columns)
    fields = []
    for column, name in zip(table.columns, names, strict=True):
        annotation, codec = plan(engine, column)
        if column.labels:
            annotation = annotation.replace("enum", _alias(table, column))
        fields.append(Field(column, name, annotation, codec))
    return tuple(fields)


def _alias(table: Table, column: Column) -> str:
    return f"{camel(table.name)}{camel(column.name)}"


def _front(modules: list[Module]) -> str:
    names = sorted(
        [module.name for module in modules]
        + [module.record for module in modules]
        + ["UNSET", "Connection", "Json", "Unset"],
        key=lambda name: (not name.isupper(), not name[:1].isupper(), name),
    )
    lines = ['"""A typed client of the database: one module for each table."""', ""]
    if modules:
        lines += ["from . import (", *(f"    {name}," for name in sorted(m.name for m in modules)), ")"]
    lines += ["from ._runtime import (", "    UNSET,", "    Connection,", "    Json,", "    Unset,", ")"]
    for module in sorted(modules, key=lambda each: each.name):
        lines += [f"from .{module.name} import (", f"    {module.record},", ")"]
    lines += ["", "__all__ = [", *(f"    {literal(name)}," for name in names), "]"]
    return "\n".join(lines) + "\n"


def _module_text(module: Module) -> str:
    head = "\n\n".join(part for part in (_imports(module), _aliases(module)) if part)
    parts = [head, _record(module), _from_row(module), _table(module)]
    if module.key:
        parts += [_get(module), _page(module)]
    else:
        parts.append(_first(module))
    if module.table.kind == "table":
        parts.append(_insert(module))
        if module.key:
            parts += [_update(module), _upsert(module), _delete(module)]
    return "\n\n\n".join(part for part in parts if part) + "\n"


def _imports(module: Module) -> str:
    used = " ".join(field.annotation for field in module.fields)
    lines = [_docstring(module), "", "from __future__ import annotations", ""]
    if "dt." in used:
        lines.append("import datetime as dt")
    lines.append("from dataclasses import dataclass")
    if "Decimal" in used:
        lines.append("from decimal import Decimal")
    typing = ["Any"] * any(field.annotation == "Any" for field in module.fields)
    typing += ["Literal", "TypeAlias"] * any(field.column.labels for field in module.fields)
    if typing:
        lines.append(f"from typing import {', '.join(typing)}")
    if "UUID" in used:
        lines.append("from uuid import UUID")
    return "\n".join([*lines, "", "from ._runtime import (", *_from_runtime(module), ")"])


def _docstring(module: Module) -> str:
    """Names of tables may hold anything; a docstring may not."""
    plain = "".join(each for each in module.table.name if each.isprintable() and each not in '"\\')
    return f'"""Rows of the {module.table.kind} {plain.strip()}."""'


def _from_runtime(module: Module) -> list[str]:
    text = " ".join(
        [field.annotation for field in module.fields] + [field.received for field in module.fields]
    )
    writes = module.table.kind == "table"
    names = ["UNSET"] * (writes and _has_unset(module)) + ["Connection"] + ["Json"] * ("Json" in text)
    names += ["Row", "Table"] + ["Unset"] * (writes and _has_unset(module))
    sent = " ".join(field.sent for field in module.writable) if writes else ""
    names += ["json_or_null"] * ("json_or_null(" in sent) + ["json_text"] * ("json_text(" in sent)
    names += ["json_value"] * ("json_value(" in text)
    return [f"    {name}," for name in names]


def _has_unset(module: Module) -> bool:
    changeable = bool(module.key) and any(field not in module.key for field in module.writable)
    return changeable or any(field.is_optional for field in module.writable)


def _aliases(module: Module) -> str:
    lines = []
    for field in module.fields:
        if field.column.labels:
            labels = [literal(label) for label in field.column.labels]
            name = _alias(module.table, field.column)
            inside = labels[0] if len(labels) == 1 else "\n" + "".join(f"    {each},\n" for each in labels)
            lines.append(f"{name}: TypeAlias = Literal[{inside}]")
    return "\n".join(lines)


def _record(module: Module) -> str:
    lines = ["@dataclass(frozen=True, slots=True, kw_only=True)", f"class {module.record}:"]
    lines += [f"    {field.name}: {field.type}" for field in module.fields] or ["    pass"]
    return "\n".join(lines)


def _from_row(module: Module) -> str:
    lines = [f"def _record(row: Row) -> {module.record}:", f"    return {module.record}("]
    if not module.fields:
        return f"{lines[0]}\n{lines[1]})"
    lines += [f"        {field.name}={field.received}," for field in module.fields]
    return "\n".join([*lines, "    )"])


def _table(module: Module) -> str:
    key = [literal(name) for name in module.table.key]
    lines = ["_TABLE = Table(", f"    name={literal(module.table.sql)},"]
    lines += [f"    key=({key[0]},),"] if len(key) == 1 else _tuple("key", key)
    if not module.fields:
        return "\n".join([*lines, "    columns={},", ")"])
    lines.append("    columns={")
    lines += [
        f"        {literal(field.column.name)}: {literal(_cast(module, field))}," for field in module.fields
    ]
    return "\n".join([*lines, "    },", ")"])


def _tuple(name: str, items: list[str]) -> list[str]:
    if not items:
        return [f"    {name}=(),"]
    return [f"    {name}=(", *(f"        {item}," for item in items), "    ),"]


def _cast(module: Module, field: Field) -> str:
    """Only PostgreSQL has casts to speak of; SQLite keeps JSON as text anyway."""
    return field.column.type if module.engine == "postgres" and field.codec in ("text", "json") else ""


def _get(module: Module) -> str:
    return _function(
        "get", _required(module.key), f"{module.record} | None", "",
        ["    row = await _TABLE.get(", "        connection,", *_mapping(module.key), "    )", *_MAYBE],
    )  # fmt: skip


def _page(module: Module) -> str:
    types = [field.annotation for field in module.key]
    after = types[0] if len(types) == 1 else f"tuple[{', '.join(types)}]"
    value = _AFTER_ONE if len(types) == 1 else ["        after,"]
    if any(field.codec == "json" for field in module.key):
        value = ["        None if after is None else (json_text(after),),"]
    return _function(
        "list_page", [f"after: {after} | None = None", "limit: int = 100"], f"list[{module.record}]",
        "In the order of the key; the next page is after the key of the last row.",
        ["    rows = await _TABLE.page(", "        connection,", *value, "        limit,", "    )", _ALL],
    )  # fmt: skip


def _first(module: Module) -> str:
    return _function(
        "first_rows", ["limit: int = 100"], f"list[{module.record}]",
        "In no order: there is no key to order by.",
        ["    rows = await _TABLE.page(", "        connection,", "        None,", "        limit,", "    )", _ALL],
    )  # fmt: skip


def _insert(module: Module) -> str:
    return _function(
        "insert", _values(module.writable), module.record, "What is not given is filled in by the database.",
        ["    row = await _TABLE.insert(", "        connection,", *_mapping(module.writable), "    )", _ONE],
    )  # fmt: skip


def _update(module: Module) -> str:
    changed = tuple(field for field in module.writable if field not in module.key)
    arguments = _required(module.key) + [f"{field.name}: {field.type} | Unset = UNSET" for field in changed]
    return _function(
        "update", arguments, f"{module.record} | None", "The row as it is then; what is not given stays.",
        [
            "    row = await _TABLE.update(", "        connection,", *_mapping(module.key), *_mapping(changed),
            "    )", *_MAYBE,
        ],
    )  # fmt: skip


def _upsert(module: Module) -> str:
    if any(field.column.fixed for field in module.key):
        return ""
    others = tuple(field for field in module.writable if field not in module.key)
    arguments = _required(module.key) + _values(others)
    return _function(
        "upsert", arguments, module.record, "Inserts, or changes what is given in the row of that key.",
        [
            "    row = await _TABLE.upsert(", "        connection,", *_mapping((*module.key, *others)), "    )", _ONE,
        ],
    )  # fmt: skip


def _delete(module: Module) -> str:
    return _function(
        "delete", _required(module.key), "bool", "Whether there was such a row.",
        ["    return await _TABLE.delete(", "        connection,", *_mapping(module.key), "    )"],
    )  # fmt: skip


_MAYBE = ["    return None if row is None else _record(row)"]
_ONE = "    return _record(row)"
_ALL = "    return [_record(row) for row in rows]"
_AFTER_ONE = ["        None if after is None else (after,),"]


def _function(name: str, arguments: Iterable[str], result: str, says: str, body: list[str]) -> str:
    given = list(arguments)
    lines = [f"async def {name}(", "    connection: Connection,"]
    if given:
        lines += ["    *,", *(f"    {argument}," for argument in given)]
    lines.append(f") -> {result}:")
    if says:
        lines.append(f'    """{says}"""')
    return "\n".join([*lines, *body])


def _required(fields: Iterable[Field]) -> list[str]:
    return [f"{field.name}: {field.annotation}" for field in fields]


def _values(fields: Iterable[Field]) -> list[str]:
    return [f"{f.name}: {f.type} | Unset = UNSET" if f.is_optional else f"{f.name}: {f.type}" for f in fields]


def _mapping(fields: Iterable[Field]) -> list[str]:
    given = list(fields)
    if not given:
        return ["        {},"]
    lines = [f"            {literal(field.column.name)}: {field.sent}," for field in given]
    return ["        {", *lines, "        },"]
