"""JSON values as the parameters of a statement on PostgreSQL."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mcp_server.domain.errors import Invalid

if TYPE_CHECKING:
    from asyncpg import Type

INTEGERS = frozenset({"int2", "int4", "int8", "oid"})
FLOATS = frozenset({"float4", "float8"})
DOCUMENTS = frozenset({"json", "jsonb"})


def bound(values: Sequence[Any], types: Sequence[Type]) -> list[Any]:
    """Each value for the type that PostgreSQL gave its place. Raises Invalid, naming the place, never the value."""
    if len(values) != len(types):
        raise Invalid.field("parameters", f"the statement has {len(types)} ($1, $2, ...), not {len(values)}")
    return [
        _one(value, each, f"${number}")
        for number, (value, each) in enumerate(zip(values, types, strict=True), 1)
    ]


def _one(value: Any, kind: Type, place: str) -> Any:
    if value is None:
        return None
    if kind.kind == "array":
        if not isinstance(value, list):
            raise _unfit(place, kind.name)
        return [_scalar(item, kind.name.removesuffix("[]"), place) for item in value]
    return _scalar(value, kind.name, place)


def _scalar(value: Any, name: str, place: str) -> Any:
    if value is None:
        return None
    if name in DOCUMENTS:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list) and name not in INTEGERS | FLOATS | {"bool", "text", "varchar"}:
        # A vector in pgvector's notation is the list as JSON writes it.
        return json.dumps(value)
    if isinstance(value, (dict, list)):
        raise _unfit(place, name)
    if name == "bool":
        if isinstance(value, bool):
            return value
        raise _unfit(place, name)
    if name in INTEGERS:
        return _integer(value, name, place)
    if name in FLOATS:
        return _float(value, name, place)
    return value if isinstance(value, str) else json.dumps(value)


def _integer(value: Any, name: str, place: str) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]{1,20}", str(value)):
        raise _unfit(place, name)
    return int(value)


def _float(value: Any, name: str, place: str) -> float:
    if isinstance(value, bool):
        raise _unfit(place, name)
    try:
        return float(value)
    except ValueError:
        raise _unfit(place, name) from None


def _unfit(place: str, name: str) -> Invalid:
    return Invalid.field("parameters", f"{place} must fit the type {name}")
