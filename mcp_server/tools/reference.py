"""`docs/tools.md`: the catalogue as a page for people, with what each tool needs, takes and returns."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mcp_server.domain import errors
from mcp_server.domain.degraded import ACTIONS, Degraded
from mcp_server.domain.errors import QuaymasterError
from mcp_server.domain.grants import GRANTS
from mcp_server.domain.schemas import failures
from mcp_server.domain.toolsets import TOOLSETS
from mcp_server.tools.catalogue import Catalogue, Tool
from mcp_server.tools.schemas import NULL

_INTRODUCTION = """\
# Tools

Written by `make generate`; do not edit by hand.

A client sees the tools that its key may call, in the toolsets that it asked for (`--toolsets`, `QUAYMASTER_TOOLSETS`,
`/mcp?toolsets=...`). Without a choice these are the tools marked *default*; `all` shows every tool.

## Common to all tools

* **Keys.** `role` is the least role that may call the tool. A key with scopes may call only the tools and groups that
  its scopes name; `scope` is the group of the tool.
* **Idempotency.** Every tool that changes something takes an optional `idempotency_key` (up to 200 characters). A
  call that is repeated with the same key and arguments within a day returns the result of the first; with other
  arguments it is refused with `CONFLICT`.
* **Plans.** A tool marked *plan* changes nothing when it is called without `plan_token`: it returns `status: "planned"`, the
  `effects`, a `plan_token` and its `expires_at`. Called again with the same arguments and the token, it does exactly
  that, or refuses with `PLAN_STALE`. `query_database` and `execute_sql` ask for a plan only when a write is large.
  A tool marked *destructive* alone acts at once.
* **Pages.** Lists take `limit` and `cursor`, and return the `cursor` of the next page while there is one.
* **Waiting.** Slow tools take `wait_seconds`. When the work takes longer, the result says how far it is; the work goes on.
* **Results** are structured content with an output schema, and the same content as text. Beside the fields listed here each has
  `notices`: sentences the caller should know, for example that the server is degraded or that a lease is about to end.
* **Without PostgreSQL**: *served* tools read the registry; *journaled* ones write to it, and the change is replayed
  later; *refused* ones answer `DEGRADED` when other homes share the PostgreSQL ([degraded mode](degraded-mode.md)).

## Errors

An error is a tool result with `isError` and, as structured content, `code`, `message`, `next` (what to do) and details.
`next` is the one below unless the error has a better one.

"""
_AWAY: Mapping[Degraded, str] = {"served": "served", "journaled": "journaled", "refused": "refused if shared"}
_COMMON = ("idempotency_key", "plan_token")


def render(catalogue: Catalogue) -> str:
    """The whole page, by toolset."""
    tools = list(catalogue)
    parts = [_INTRODUCTION + "\n".join(_errors())]
    for toolset in TOOLSETS:
        parts.append(f"## Toolset `{toolset}`")
        parts += [_tool(tool) for tool in tools if tool.toolset == toolset]
    return "\n\n".join(parts) + "\n"


def _errors() -> Iterator[str]:
    yield "| code | a kind of | next |"
    yield "|---|---|---|"
    for kind in _below(QuaymasterError):
        parent = kind.__mro__[1]
        above = (
            f"`{parent.code}`" if issubclass(parent, QuaymasterError) and parent.code != "INTERNAL" else ""
        )
        yield f"| `{kind.code}` | {above} | {kind.default_next} |"
    yield f"| `INTERNAL` | | {QuaymasterError.default_next} |"


def _below(kind: type[QuaymasterError]) -> Iterator[type[QuaymasterError]]:
    """The errors of the domain below this one that have a code of their own, each before its own kinds, by code: what else
    happens to be imported has the code of one of them.
    """
    for each in sorted(kind.__subclasses__(), key=lambda error: error.code):
        if each.__module__ in (errors.__name__, failures.__name__) and "code" in vars(each):
            yield each
            yield from _below(each)


def _tool(tool: Tool) -> str:
    schema = tool.arguments.model_json_schema()
    names = [name for name in schema["properties"] if name not in _COMMON]
    lines = [f"### {tool.name}", "", tool.listed.description or "", "", _rules(tool)]
    if names:
        lines += ["", "| argument | type | default | |", "|---|---|---|---|"]
        lines += [_argument(name, schema) for name in names]
    lines += ["", *_returned(tool)]
    return "\n".join(lines)


def _rules(tool: Tool) -> str:
    grant = GRANTS[tool.name]
    says = ["default"] if tool.default else []
    says += [f"role {grant.role}", f"scope `{grant.group}`", _effect(tool)]
    says.append(f"without PostgreSQL: {_AWAY[ACTIONS[tool.name]]}")
    return "*" + " · ".join(says) + "*"


def _effect(tool: Tool) -> str:
    hints = tool.annotations
    if hints.read_only_hint:
        return "reads"
    if "plan_token" in tool.extra:
        return "destructive, plan"
    return "destructive" if hints.destructive_hint else "changes"


def _argument(name: str, schema: Mapping[str, Any]) -> str:
    each = schema["properties"][name]
    default = "required" if name in schema.get("required", ()) else _default(each.get("default"))
    options = [each, *each.get("anyOf", ())]
    meaning = next((option["description"] for option in options if "description" in option), "")
    cells = (f"`{name}`", _kind(each, schema, nullable=False), default, meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(value: Any) -> str:
    if value in (None, "") or isinstance(value, (list, dict)):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _returned(tool: Tool) -> Iterator[str]:
    schema = tool.result.model_json_schema()
    fields = [
        f"`{name}` {_kind(each, schema)}" for name, each in schema["properties"].items() if name != "notices"
    ]
    yield f"Returns {', '.join(fields)}."
    if schema.get("description"):
        yield ""
        yield inspect.cleandoc(schema["description"])


def _kind(schema: Mapping[str, Any], root: Mapping[str, Any], *, nullable: bool = True) -> str:
    """A type in a few words. An argument that may be left out is not shown as nullable."""
    if "$ref" in schema:
        return _kind(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    if "anyOf" in schema:
        kinds = [_kind(each, root) for each in schema["anyOf"] if each != NULL]
        return " or ".join([*kinds, "null"] if nullable and NULL in schema["anyOf"] else kinds)
    if "enum" in schema:
        return "/".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    match schema.get("type"):
        case "array":
            return f"list of {_kind(schema['items'], root)}" if "items" in schema else "list"
        case "object":
            return _object(schema, root)
        case "integer" | "number":
            return f"{schema['type']}{_range(schema)}"
        case "string":
            return {"date-time": "time"}.get(schema.get("format", ""), "text")
        case None:
            return "any value"
        case other:
            return str(other)


def _object(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    if "properties" in schema:
        return "{" + ", ".join(_field(name, each, root) for name, each in schema["properties"].items()) + "}"
    values = schema.get("additionalProperties")
    return f"object of {_kind(values, root)}" if isinstance(values, Mapping) else "object"


def _field(name: str, schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """A field of an object by its name, with what it has inside when it is an object itself."""
    kind = _kind(schema, root)
    return f"{name} {kind}" if kind.startswith("{") else name


def _range(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
    if least is None and most is None:
        return ""
    if most is None:
        return f" from {least}"
    return f" {least} to {most}" if least is not None else f" up to {most}"
