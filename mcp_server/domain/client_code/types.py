"""The Python type of a column, and how its values travel."""

from __future__ import annotations

from typing import Literal, NamedTuple

from mcp_server.domain.shapes import Column, Engine

Codec = Literal["", "text", "json", "bool", "float"]
POSTGRES = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), "int"),
    **dict.fromkeys(("float4", "float8"), "float"),
    **dict.fromkeys(("text", "varchar", "bpchar", "name", "citext"), "str"),
    **dict.fromkeys(("timestamp", "timestamptz"), "dt.datetime"),
    **dict.fromkeys(("time", "timetz"), "dt.time"),
    "bool": "bool",
    "numeric": "Decimal",
    "bytea": "bytes",
    "date": "dt.date",
    "interval": "dt.timedelta",
    "uuid": "UUID",
}


class Plan(NamedTuple):
    """`annotation` without null. `codec` says what the value is on its way: itself, or text, JSON, ..."""

    annotation: str
    codec: Codec = ""


def plan(engine: Engine, column: Column) -> Plan:
    return _postgres(column) if engine == "postgres" else _sqlite(column)


def _postgres(column: Column) -> Plan:
    """What has no plain Python type travels as PostgreSQL's own text, whatever codecs the connection has."""
    if column.base in ("json", "jsonb") and not column.array:
        return Plan("Json", "json")
    annotation = "enum" if column.base == "enum" else POSTGRES.get(column.base)
    if annotation is None:
        return Plan("str", "text")
    return Plan(f"list[{annotation}]" if column.array else annotation)


def _sqlite(column: Column) -> Plan:
    """By SQLite's rules of affinity, after the three names that people use for more than affinity."""
    declared = column.base
    if declared in ("BOOLEAN", "BOOL"):
        return Plan("bool", "bool")
    if declared in ("JSON", "JSONB"):
        return Plan("Json", "json")
    if "INT" in declared:
        return Plan("int")
    if any(part in declared for part in ("CHAR", "CLOB", "TEXT", "DATE", "TIME", "UUID")):
        return Plan("str")
    if not declared or "BLOB" in declared:
        return Plan("bytes" if declared else "Any")
    return Plan("float", "float")
