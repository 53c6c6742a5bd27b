"""The tools by name: typed arguments in, a result model out, and everything that is the same for all in
between.

A tool is a function `async def name(call, ...typed arguments) -> Result` whose docstring is what the
model reads. The catalogue gives it its schema, its annotations, the `idempotency_key` and `plan_token`
that it does not see itself, and runs it by `Calls.perform`. Models are built when a tool is first listed
or called.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, TypeVar, get_type_hints

from mcp.types import Tool as ListedTool
from mcp.types import ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic_core import to_jsonable_python

from mcp_server.domain.callers import Caller
from mcp_server.domain.errors import Invalid
from mcp_server.domain.results import Result
from mcp_server.domain.toolsets import Toolset
from mcp_server.services.calls import Call
from mcp_server.tools.schemas import slim, slim_answer

Body = TypeVar("Body", bound=Callable[..., Awaitable[Result]])
IdempotencyKey = Annotated[str, Field(min_length=1, max_length=200)]
PlanToken = Annotated[str, Field(min_length=1, max_length=200)]


@dataclass
class Tool:
    """One tool. `default` tools are also in the toolset of that name."""

    body: Callable[..., Awaitable[Result]]
    toolset: Toolset
    default: bool
    annotations: ToolAnnotations
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.body.__name__

    @cached_property
    def listed(self) -> ListedTool:
        """The tool as `tools/list` shows it."""
        return ListedTool(
            name=self.name,
            description=inspect.cleandoc(self.body.__doc__ or "").replace("\n", " "),
            input_schema=slim(self.arguments.model_json_schema()) | {"additionalProperties": False},
            output_schema=slim_answer(self.result.model_json_schema()),
            annotations=self.annotations,
        )

    @cached_property
    def arguments(self) -> type[BaseModel]:
        """The model of the arguments; unknown ones are refused."""
        hints = dict(self._hints)
        parameters = list(inspect.signature(self.body).parameters.values())[1:]
        fields: dict[str, Any] = {
            each.name: (hints[each.name], ... if each.default is each.empty else each.default)
            for each in parameters
        }
        fields |= {name: (kind | None, None) for name, kind in self.extra.items()}
        return create_model(self.name, __config__=ConfigDict(extra="forbid"), **fields)

    @cached_property
    def result(self) -> type[Result]:
        kind: type[Result] = self._hints["return"]
        return kind

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.body, include_extras=True)

    @cached_property
    def _structured(self) -> frozenset[str]:
        """Arguments that are lists or objects, and never text."""
        properties = self.listed.input_schema.get("properties", {})
        return frozenset(name for name, each in properties.items() if each.get("type") in ("array", "object"))

    def validated(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by name. Raises pydantic's ValidationError, or Invalid for text that no store
        can keep.

        Some clients send a list or an object as its JSON text; it is taken for what it says.
        """
        _require_text(raw)
        parsed = {name: _parsed(value) if name in self._structured else value for name, value in raw.items()}
        model = self.arguments.model_validate(parsed)
        return {name: getattr(model, name) for name in type(model).model_fields}

    def call(
        self, caller: Caller, arguments: Mapping[str, Any]
    ) -> tuple[Call, Callable[[], Awaitable[Result]]]:
        """The call of validated arguments, and the use case to perform with it."""
        own = {name: value for name, value in arguments.items() if name not in self.extra}
        call = Call(
            caller=caller,
            action=self.name,
            params=to_jsonable_python(own),
            idempotency_key=arguments.get("idempotency_key"),
            plan_token=arguments.get("plan_token"),
        )
        return call, lambda: self.body(call, **own)


class Catalogue:
    """Tools in the order in which they were added."""

    def __init__(self) -> None:
        self._tools: dict[str, Tool] = {}

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def get(self, name: str) -> Tool | None:
        return self._tools.get(name)

    def reading(self, toolset: Toolset, *, default: bool = False) -> Callable[[Body], Body]:
        """A tool that changes nothing."""
        annotations = ToolAnnotations(read_only_hint=True, open_world_hint=False)
        return self._adding(toolset, default, annotations, {})

    def changing(
        self, toolset: Toolset, *, default: bool = False, idempotent: bool = False, destructive: bool = False
    ) -> Callable[[Body], Body]:
        """A tool that creates or changes. `idempotent`: calling it twice does no more than once, even
        without a key. `destructive`: it takes something away without a plan, and its docstring says 'at once'."""
        annotations = ToolAnnotations(
            read_only_hint=False,
            destructive_hint=destructive,
            idempotent_hint=idempotent,
            open_world_hint=False,
        )
        return self._adding(toolset, default, annotations, {"idempotency_key": IdempotencyKey})

    def planned(self, toolset: Toolset, *, default: bool = False) -> Callable[[Body], Body]:
        """A destructive tool: without `plan_token` it returns its plan, with it it does exactly that."""
        annotations = ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=False
        )
        extra = {"plan_token": PlanToken, "idempotency_key": IdempotencyKey}
        return self._adding(toolset, default, annotations, extra)

    def _adding(
        self, toolset: Toolset, default: bool, annotations: ToolAnnotations, extra: Mapping[str, Any]
    ) -> Callable[[Body], Body]:
        def add(body: Body) -> Body:
            tool = Tool(body, toolset, default, annotations, extra)
            if tool.name in self._tools:
                raise ValueError(f"there is a tool {tool.name} already")
            self._tools[tool.name] = tool
            return body

        return add


def _parsed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return parsed if isinstance(parsed, (list, dict)) else value


def _require_text(value: Any, where: str = "", depth: int = 0) -> None:
    """Raise Invalid for text with NUL or with halves of characters, which UTF-8 and PostgreSQL cannot
    carry."""
    if depth > 32:
        raise Invalid.field(where[:100] or "arguments", "at most 32 levels deep")
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise Invalid.field(
                where[:100] or "arguments", "text without NUL and without unpaired surrogates"
            )
    elif isinstance(value, Mapping):
        for name, item in value.items():
            _require_text(str(name), "arguments", depth + 1)
            _require_text(item, where or str(name), depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _require_text(item, where, depth + 1)
