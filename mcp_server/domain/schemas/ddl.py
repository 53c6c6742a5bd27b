"""Parts of catalogs said as PostgreSQL's DDL."""

from __future__ import annotations

import re

from mcp_server.domain.schemas.catalogs import Column, Constraint, Function, Table


def create_table(table: Table) -> str:
    columns = ",\n".join(f"    {column_text(each)}" for each in table.columns)
    unlogged = "UNLOGGED " if table.special.startswith("UNLOGGED") else ""
    body = f" (\n{columns}\n)" if columns else " ()"
    partition = re.search(r"PARTITION BY .*?(?= WITH \(|$)", table.special)
    options = re.search(r"WITH \(.+\)", table.special)
    tail = f" {partition[0]}" if partition else ""
    return f"CREATE {unlogged}TABLE {table.name}{body}{tail}{f' {options[0]}' if options else ''}"


def column_text(column: Column) -> str:
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


def add_constraint(each: Constraint) -> str:
    return f"ALTER TABLE {each.table} ADD CONSTRAINT {each.name} {each.definition}"


def head_of(function: Function) -> str:
    """Its arguments and its result."""
    return function.definition.partition("\n LANGUAGE")[0]
