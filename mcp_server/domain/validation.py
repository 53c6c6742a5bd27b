"""Records made from what a caller gave: what breaks a rule is named by its field, never by its value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from mcp_server.domain.errors import Invalid
from mcp_server.domain.records import Value

V = TypeVar("V", bound=Value)
_RULE = re.compile(
    r"(?:Value error, |(?:Input|String|List|Tuple|Set|Dictionary) (?=should ))(?P<rule>.*?)(?: after validation, not \d+)?",
    re.DOTALL,
)


def checked(kind: type[V], fields: Mapping[str, Any]) -> V:
    """A value of `kind`. Raises Invalid with every broken rule."""
    try:
        return kind.model_validate(dict(fields))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
    # Outside the handler: the cause would carry the refused values into tracebacks.
    rules = {".".join(str(part) for part in fault["loc"]): rule(fault["msg"]) for fault in faults}
    raise Invalid("; ".join(f"{name}: {rule}" for name, rule in rules.items()), fields=rules)


def rule(message: str) -> str:
    """A rule as pydantic says it, without what the name of the argument says already."""
    found = _RULE.fullmatch(message)
    return message if found is None else found["rule"]


def changed(value: V, fields: Mapping[str, Any]) -> V:
    """The value with these fields replaced, and checked like a new one. Raises Invalid."""
    return checked(type(value), {**value.model_dump(), **fields})
