"""Long calls as tasks, for clients that speak the extension `io.modelcontextprotocol/tasks`.

A handle names what the store keeps anyway: a deployment, a database that is being made. So it outlives this process,
any server of the installation answers for it, and whoever may look at the thing may look at its task, and nobody
else. Clients that do not declare the extension never see a handle: their call waits as it always did.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Extension, MethodBinding, require_client_extension
from mcp.types import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    RequestParams,
)
from pydantic import Field

from mcp_server.tools.visits import Door

IDENTIFIER = "io.modelcontextprotocol/tasks"
MODERN = frozenset({"2026-07-28"})
AT_ONCE = 1.0
"""Seconds within which a call is answered itself, without a handle."""

POLL_MS = 1000
EVERYTHING = frozenset({"all"})
Answer = Mapping[str, Any]
CallTool = Callable[[str, dict[str, Any]], Awaitable[CallToolResult | InputRequiredResult]]


@dataclass(frozen=True, slots=True)
class Long:
    """A tool whose work outlives its call, and the tools that look at it and end it.

    `name` is the rest of a handle, from what the tool answered; `thing` gives it back as arguments of the others.
    """

    tool: str
    look: str
    name: Callable[[Answer], str]
    thing: Callable[[str], dict[str, Any]]
    running: Callable[[Answer], bool]
    line: Callable[[Answer], str]
    end: str | None = None


def _step(answer: Answer) -> str:
    steps = answer.get("steps") or ()
    return f"{steps[-1]['name']} of version {answer['version']}" if steps else "waiting for its turn"


def _database(name: str) -> dict[str, Any]:
    project, _, environment = name.partition("/")
    return {"project": project, **({"environment": environment} if environment else {})}


LONG = (
    Long(
        "deploy_project",
        "get_deployment",
        name=lambda answer: str(answer["id"]),
        thing=lambda name: {"deployment_id": name},
        running=lambda answer: answer["status"] == "running",
        line=_step,
        end="cancel_deployment",
    ),
    Long(
        "create_database",
        "get_database",
        name=lambda answer: "/".join(filter(None, (answer["project"], answer.get("environment")))),
        thing=_database,
        running=lambda answer: answer["state"] == "creating",
        line=lambda answer: f"making the database of {answer['project']}",
    ),
)


class TaskParams(RequestParams):
    task_id: str


class TaskUpdateParams(TaskParams):
    input_responses: dict[str, Any] = Field(default_factory=dict)


class LongCalls(Extension):
    """Offered by a server, whose door and tools it is given; it keeps nothing itself."""

    identifier = IDENTIFIER

    def __init__(self, door: Door, call_tool: CallTool) -> None:
        self._door = door
        self._call_tool = call_tool
        self._long = {each.tool: each for each in LONG}

    def methods(self) -> Sequence[MethodBinding]:
        return [
            MethodBinding("tasks/get", TaskParams, self._get, MODERN),
            MethodBinding("tasks/update", TaskUpdateParams, self._update, MODERN),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, MODERN),
        ]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        long = self._long.get(params.name)
        if long is None or not _speaks_tasks(ctx):
            return await call_next(ctx)
        arguments = {**(params.arguments or {}), "wait_seconds": AT_ONCE}
        result = await self._call_tool(params.name, arguments)
        if not isinstance(result, CallToolResult) or not _runs(long, result):
            return result
        answer = result.structured_content or {}
        return {"resultType": "task", **_task(f"{long.tool}:{long.name(answer)}", "working", long, answer)}

    # -- the extension's methods

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        long, name = self._found(ctx, params)
        result = await self._as_caller(long.look, long.thing(name))
        answer = result.structured_content or {}
        if _runs(long, result):
            return _task(params.task_id, "working", long, answer)
        if str(answer.get("error") or "").startswith("cancelled by"):
            return _task(params.task_id, "cancelled", long, answer)
        ended = result.model_dump(by_alias=True, mode="json", exclude_none=True)
        ended.pop("resultType", None)
        return {**_task(params.task_id, "completed", long, answer), "result": ended}

    async def _update(self, ctx: ServerRequestContext[Any, Any], params: TaskUpdateParams) -> HandlerResult:
        """No task of this server ever asks for anything."""
        await self._get(ctx, params)
        return {}

    async def _cancel(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        """What cannot be ended goes on, which the next `tasks/get` shows."""
        long, name = self._found(ctx, params)
        await self._as_caller(long.end or long.look, long.thing(name))
        return {}

    def _found(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> tuple[Long, str]:
        require_client_extension(ctx, IDENTIFIER)
        headers = getattr(ctx.request, "headers", None)
        if headers is not None and headers.get("mcp-name") != params.task_id:
            raise MCPError(code=HEADER_MISMATCH, message="the header Mcp-Name does not name the task")
        tool, _, name = params.task_id.partition(":")
        long = self._long.get(tool)
        if long is None or not name:
            raise MCPError(code=INVALID_PARAMS, message="Unknown task")
        return long, name

    async def _as_caller(self, tool: str, arguments: dict[str, Any]) -> CallToolResult:
        """A tool of the same caller, whichever toolsets it asked to see."""
        with self._door.open_for(replace(self._door.visit(), toolsets=EVERYTHING)):
            result = await self._call_tool(tool, arguments)
        if not isinstance(result, CallToolResult):
            raise MCPError(code=INTERNAL_ERROR, message=f"{tool} asked for input, which no task does")
        if result.is_error:
            answer = result.structured_content or {}
            unknown = answer.get("code") in ("NOT_FOUND", "INVALID")
            message = "Unknown task" if unknown else str(answer.get("message"))
            raise MCPError(code=INVALID_PARAMS if unknown else INTERNAL_ERROR, message=message, data=answer)
        return result


def _speaks_tasks(ctx: ServerRequestContext[Any, Any]) -> bool:
    capabilities = ctx.session.client_capabilities
    declared = capabilities.extensions if capabilities else None
    return IDENTIFIER in (declared or {}) and ctx.protocol_version in MODERN


def _runs(long: Long, result: CallToolResult) -> bool:
    return not result.is_error and long.running(result.structured_content or {})


def _task(handle: str, status: str, long: Long, answer: Answer) -> dict[str, Any]:
    """The task as it is told; it is kept as long as what it names."""
    told = {
        "taskId": handle,
        "status": status,
        "createdAt": answer["created_at"],
        "lastUpdatedAt": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "ttlMs": None,
        "pollIntervalMs": POLL_MS,
    }
    return told | ({"statusMessage": long.line(answer)} if status == "working" else {})
