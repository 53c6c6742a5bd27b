"""JSON Schemas as short as they can be said: every client pays for them in every conversation.

Left out are titles, defaults that say nothing, and bounds that a reader takes for granted (the server
keeps them).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

BOUNDS = {"maxLength", "maxItems"}
GRANTED = {"minLength": 1, "minItems": 1, "minimum": 0}
NULL = {"type": "null"}
REFUSAL = ["code", "message", "next"]


def slim(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of arguments. An optional one is left out by the caller, so it is not shown as nullable."""
    short = _slimmed(schema, arguments=True)
    properties = short.get("properties", {})
    short["properties"] = {name: _without_null(each) for name, each in properties.items()}
    return _shortest(short)


def slim_answer(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of what a tool answers: its result, or a refusal. Some clients hold refusals against
    it, too."""
    short = _shortest(_slimmed(schema, arguments=False))
    either = [{"required": short.pop("required", [])}, {"required": REFUSAL}]
    short.pop("additionalProperties", None)
    return {**short, "anyOf": either}


def _slimmed(schema: Any, *, arguments: bool) -> Any:
    if isinstance(schema, list):
        return [_slimmed(item, arguments=arguments) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    out: dict[str, Any] = {}
    for name, value in schema.items():
        if name in ("properties", "$defs"):
            out[name] = {key: _slimmed(each, arguments=arguments) for key, each in value.items()}
        elif name in ("enum", "const", "required"):
            out[name] = value
        elif not _idle(name, value, arguments=arguments):
            out[name] = _slimmed(value, arguments=arguments)
    return _with_short_null(out)


def _idle(name: str, value: Any, *, arguments: bool) -> bool:
    if name == "default":
        return not arguments or value in (None, "", [], {}, False, 0)
    return name in BOUNDS or name == "title" or (name in GRANTED and GRANTED[name] == value)


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """`X | None` said as X."""
    if isinstance(schema.get("type"), list):
        kinds = [kind for kind in schema["type"] if kind != "null"]
        return {**schema, "type": kinds[0] if len(kinds) == 1 else kinds}
    options = [each for each in schema.get("anyOf", ()) if each != NULL]
    if len(options) != 1:
        return schema
    return {**options[0], **{name: value for name, value in schema.items() if name != "anyOf"}}


def _with_short_null(schema: dict[str, Any]) -> dict[str, Any]:
    """`X | None` of a plain type said as two types."""
    options = schema.get("anyOf", ())
    plain = [
        each for each in options if each != NULL and isinstance(each.get("type"), str) and "enum" not in each
    ]
    if len(options) != 2 or NULL not in options or len(plain) != 1:
        return schema
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return {**plain[0], "type": [plain[0]["type"], "null"], **rest}


def _shortest(schema: dict[str, Any]) -> dict[str, Any]:
    inlined = _inlined(schema)
    return schema if inlined is None or _size(inlined) > _size(schema) else inlined


def _inlined(schema: dict[str, Any]) -> dict[str, Any] | None:
    """Every reference replaced by its definition; None when a definition contains itself."""
    definitions = schema.get("$defs")
    if definitions is None:
        return None

    def resolve(node: Any, inside: tuple[str, ...]) -> Any:
        if isinstance(node, list):
            return [resolve(item, inside) for item in node]
        if not isinstance(node, dict):
            return node
        if isinstance(node.get("$ref"), str):
            name = node["$ref"].removeprefix("#/$defs/")
            if name in inside:
                raise RecursionError
            rest = {key: value for key, value in node.items() if key != "$ref"}
            return {**resolve(definitions[name], (*inside, name)), **rest}
        return {key: resolve(value, inside) for key, value in node.items() if key != "$defs"}

    try:
        result: dict[str, Any] = resolve(schema, ())
    except RecursionError:
        return None
    return result


def _size(schema: dict[str, Any]) -> int:
    return len(json.dumps(schema, separators=(",", ":")))
