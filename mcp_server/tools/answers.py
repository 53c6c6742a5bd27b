"""What a client is answered: results and errors as content for the model and structured content for
programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from mcp.types import CallToolResult, TextContent
from pydantic import ValidationError

from mcp_server.domain.errors import Invalid, NotFound, QuaymasterError
from mcp_server.domain.results import Result
from mcp_server.domain.validation import rule


def answer(result: Result) -> CallToolResult:
    """The structured content keeps every field; the text leaves out what is empty, and begins with the
    message."""
    structured = result.model_dump(mode="json")
    shown = _without_empty(structured)
    message = shown.pop("message", None)
    if not result.notices:
        shown.pop("notices")
    text = _compact(shown)
    return CallToolResult(
        content=[TextContent(text=f"{message}\n{text}" if message else text)], structured_content=structured
    )


def refusal(error: QuaymasterError) -> CallToolResult:
    """One sentence, what to do next, and the details."""
    payload = error.payload()
    details = {
        name: value for name, value in payload.items() if name not in ("code", "message", "next", "fields")
    }
    text = f"{error.code}: {_sentence(error.message)} {error.next}"
    return CallToolResult(
        is_error=True,
        content=[TextContent(text=f"{text}\n{_compact(details)}" if details else text)],
        structured_content=json.loads(_compact(payload)),
    )


def crash(correlation_id: str) -> CallToolResult:
    """What a caller hears of an unexpected exception: where the operator finds it."""
    message = f"The server failed to carry out this call (reference {correlation_id})."
    next_step = (
        "Read the present state before trying again; the operator finds the reference in the server's log."
    )
    return CallToolResult(
        is_error=True,
        content=[TextContent(text=f"INTERNAL: {message} {next_step}")],
        structured_content={
            "code": "INTERNAL",
            "message": message,
            "next": next_step,
            "correlation_id": correlation_id,
        },
    )


def unknown_tool(name: str, seen: Iterable[str]) -> NotFound:
    """The same for a tool that does not exist and for one that the caller may not see. `seen` are those that it does
    see: the nearest are named."""
    near = get_close_matches(name[:100], list(seen), n=2, cutoff=0.7)
    guess = f"Did you mean {' or '.join(near)}? " if near else ""
    return NotFound(
        f"Unknown tool: {name[:100]}",
        next=f"{guess}tools/list shows the tools that this key may call here. More may stand in toolsets that were not asked for: "
        "--toolsets, QUAYMASTER_TOOLSETS or /mcp?toolsets=all.",
    )


def refused_arguments(error: ValidationError, known: Iterable[str]) -> Invalid:
    """The arguments and the rules they broke; never a value. Whoever made up a name is told the `known` ones."""
    fields: dict[str, str] = {}
    made_up = False
    for found in error.errors(include_input=False, include_context=False, include_url=False):
        made_up = made_up or (found["type"] == "extra_forbidden" and len(found["loc"]) == 1)
        where = ".".join(str(part) for part in found["loc"])[:100] or "arguments"
        fields.setdefault(where, _rule(found["type"], found["msg"]))
    return Invalid(
        _sentence("; ".join(f"{name}: {rule}" for name, rule in fields.items())),
        next=f"Its arguments are {', '.join(known)}. {Invalid.default_next}" if made_up else None,
        fields=fields,
    )


def _rule(kind: str, text: str) -> str:
    if kind == "extra_forbidden":
        return "is not an argument of this tool"
    if kind == "missing":
        return "is required"
    return rule(text)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _compact(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _without_empty(value: Any) -> Any:
    """Rows of a database are left as they are: in them, nothing is a value."""
    if isinstance(value, dict):
        kept = {name: item if name == "rows" else _without_empty(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item is not None and item not in ("", {})}
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    return value
