"""The MCP face of the catalogue. All that is known of the SDK's inside is in this module and in `stdio`."""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, cast

import anyio
from mcp import MCPError
from mcp.server import CacheHint, MCPServer, Server, ServerRequestContext
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import (
    INVALID_PARAMS,
    CallToolResult,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    GetPromptResult,
    InputRequiredResult,
    Resource,
    ResourceTemplate,
)
from mcp.types import Prompt as ListedPrompt
from mcp.types import Tool as ListedTool
from pydantic import ValidationError
from starlette.types import ASGIApp, Scope

from mcp_server.domain.callers import Caller
from mcp_server.domain.errors import Invalid, NotFound, QuaymasterError, RateLimited
from mcp_server.domain.grants import may
from mcp_server.domain.results import Result
from mcp_server.services.calls import Call, Calls
from mcp_server.services.works import Tell
from mcp_server.tools import answers
from mcp_server.tools.at_once import AtOnce
from mcp_server.tools.catalogue import Catalogue, Tool
from mcp_server.tools.long_calls import LongCalls
from mcp_server.tools.visits import Door, Visit

log = logging.getLogger(__name__)
REFUSED = -31403
"""JSON-RPC code of a resource that was refused for another reason than not being there."""
MAX_COMPLETIONS = 100

Completing = Callable[[Caller, str], Awaitable[list[str]]]


class QuaymasterServer(MCPServer[None]):
    """Lists and runs the tools that the visit at the door may see; everything else is an unknown tool to
    it."""

    def __init__(self, catalogue: Catalogue, calls: Calls, *, version: str, instructions: str) -> None:
        self.door = Door()
        super().__init__(
            "quaymaster",
            title="Quaymaster",
            version=version,
            instructions=instructions,
            extensions=[LongCalls(self.door, self.call_tool)],
            cache_hints={"tools/list": CacheHint(ttl_ms=30_000, scope="private")},
            log_level="WARNING",
        )
        self.catalogue = catalogue
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._calls = calls
        self._running = 0
        self._idle = anyio.Event()

    # tools

    async def list_tools(self) -> list[ListedTool]:
        visit = await self._counted()
        return [tool.listed for tool in self.catalogue if visit.sees(tool)]

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[None, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        visit = await self._visit()
        tool = self.catalogue.get(name)
        label = "unknown" if tool is None else tool.name
        started = time.monotonic()
        self._running += 1
        outcome = "cancelled"
        try:
            result = await self._run(visit, tool, name, arguments, _teller(context))
            outcome = "ok"
            return answers.answer(result)
        except QuaymasterError as error:
            outcome = error.code
            return answers.refusal(error)
        except Exception:
            outcome = "INTERNAL"
            reference = secrets.token_hex(6)
            log.exception("call failed", extra={"tool": label, "reference": reference})
            return answers.crash(reference)
        finally:
            self.outcomes[label, outcome] += 1
            self.seconds[label] += time.monotonic() - started
            self._ended()

    async def _run(
        self, visit: Visit, tool: Tool | None, name: str, arguments: dict[str, Any], tell: Tell
    ) -> Result:
        if tool is None or not visit.sees(tool):
            seen = (each.name for each in self.catalogue if visit.sees(each))
            action = "unknown_tool" if tool is None else tool.name
            return await self._refuse(visit, action, answers.unknown_tool(name, seen), hidden=True)
        try:
            validated = tool.validated(arguments)
        except ValidationError as error:
            return await self._refuse(
                visit, tool.name, answers.refused_arguments(error, tool.arguments.model_fields)
            )
        except Invalid as error:
            return await self._refuse(visit, tool.name, error)
        call, use_case = tool.call(visit.caller, validated)
        call.tell = tell
        return await self._calls.perform(call, use_case)

    async def _refuse(
        self, visit: Visit, action: str, error: QuaymasterError, *, hidden: bool = False
    ) -> Result:
        """Leave the refusal in the audit log and in the rate limit, and raise it.

        A hidden tool is refused as if it did not exist, whatever the true reason.
        """

        async def refuse() -> Result:
            raise error

        try:
            return await self._calls.perform(Call(caller=visit.caller, action=action), refuse)
        except RateLimited:
            raise
        except QuaymasterError as refused:
            raise (error if hidden else refused) from None

    # running calls

    def _ended(self) -> None:
        self._running -= 1
        if self._running == 0:
            self._idle.set()
            self._idle = anyio.Event()

    async def drained(self, seconds: float) -> bool:
        """Wait until no call runs, at most this long; False when some still do."""
        with anyio.move_on_after(seconds):
            while self._running:
                await self._idle.wait()
        return self._running == 0

    # prompts

    async def list_prompts(self) -> list[ListedPrompt]:
        await self._counted()
        return await super().list_prompts()

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[None, Any] | None = None
    ) -> GetPromptResult | InputRequiredResult:
        prompt = next(
            (each for each in await self.list_prompts() if each.name == name), None
        )  # counted there
        if prompt is None:
            raise MCPError(code=INVALID_PARAMS, message=f"Unknown prompt: {name[:100]}")
        _require_arguments(prompt, arguments or {})
        return await super().get_prompt(name, arguments, context)

    # resources

    async def content(
        self, action: str, params: Mapping[str, Any], use_case: Callable[[Call], Awaitable[Result]]
    ) -> str:
        """What a resource shows: the result of a use case that is granted and audited as `action`."""
        call = Call(caller=(await self._visit()).caller, action=action, params=params)
        return (await self._calls.perform(call, lambda: use_case(call))).model_dump_json()

    async def list_resources(self) -> list[Resource]:
        await self._counted()
        return await super().list_resources()

    async def list_resource_templates(self) -> list[ResourceTemplate]:
        """A template has the name of its action."""
        caller = (await self._counted()).caller
        return [each for each in await super().list_resource_templates() if may(caller, each.name)]

    async def read_resource(
        self, uri: Any, context: Context[None, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        try:
            return await super().read_resource(uri, context)
        except ResourceNotFoundError:
            raise
        except Exception as error:
            raise _resource_error(error, str(uri)) from error

    # completions

    def complete_with(self, arguments: dict[str, Completing]) -> None:
        """Complete these arguments, by name, of prompts and of resource templates."""

        async def complete(
            context: ServerRequestContext[None], params: CompleteRequestParams
        ) -> CompleteResult:
            values: list[str] = []
            completing = arguments.get(params.argument.name)
            if completing is not None:
                with suppress(QuaymasterError):
                    values = await completing((await self._visit()).caller, params.argument.value)
            shown = values[:MAX_COMPLETIONS]
            return CompleteResult(completion=Completion(values=shown, has_more=len(values) > len(shown)))

        self.inner.add_request_handler("completion/complete", CompleteRequestParams, complete)

    # the SDK's inside

    @property
    def inner(self) -> Server[None]:
        return cast(Server[None], self._lowlevel_server)

    def http_app(self) -> ASGIApp:
        """The streamable HTTP endpoint at /mcp and the custom routes. Hosts and keys are checked before
        it."""
        unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        app = self.streamable_http_app(transport_security=unchecked)
        return AuthContextMiddleware(AtOnce(app, self.inner, self.catalogue, unchecked))

    @contextmanager
    def admit(self, scope: Scope, visit: Visit) -> Iterator[None]:
        """Run an HTTP request as this visit; legacy sessions and sealed state belong to its caller."""
        token = AccessToken(token="", client_id=visit.caller.id, scopes=[], subject=visit.caller.id)
        scope["user"] = AuthenticatedUser(token)
        with self.door.open_for(visit):
            yield

    def end_listening(self) -> None:
        """End every open `subscriptions/listen` stream with its final result."""
        entry = self.inner.get_request_handler("subscriptions/listen")
        if entry is not None:
            cast(Any, entry.handler).close()

    async def _visit(self) -> Visit:
        try:
            return await self.door.visit().present()
        except QuaymasterError as error:
            raise MCPError(code=REFUSED, message=error.message, data=error.payload()) from error

    async def _counted(self) -> Visit:
        """The visit of a request that is no call, but costs work as well."""
        visit = await self._visit()
        try:
            await self._calls.count(visit.caller)
        except QuaymasterError as error:
            raise MCPError(code=REFUSED, message=error.message, data=error.payload()) from error
        return visit


def _teller(context: Context[None, Any] | None) -> Tell:
    """Progress for whoever asked for it. A caller that no longer listens ends no work."""
    said = 0

    async def tell(line: str) -> None:
        nonlocal said
        said += 1
        if context is not None:
            with suppress(Exception):
                await context.report_progress(said, message=line[:500])

    return tell


def _require_arguments(prompt: ListedPrompt, given: dict[str, Any]) -> None:
    wanted = {argument.name: bool(argument.required) for argument in prompt.arguments or ()}
    missing = [name for name, required in wanted.items() if required and name not in given]
    unknown = [name[:100] for name in given if name not in wanted]
    if missing or unknown:
        lists = {"missing": missing, "unknown": unknown}
        text = "; ".join(f"{label}: {', '.join(names)}" for label, names in lists.items() if names)
        raise MCPError(code=INVALID_PARAMS, message=f"Prompt arguments {text}")


def _resource_error(error: BaseException, uri: str) -> Exception:
    """What a client is told of a resource that could not be read."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, (QuaymasterError, MCPError)):
        cause = cause.__cause__
    if isinstance(cause, MCPError):
        return cause
    if isinstance(cause, (NotFound, Invalid)):
        return MCPError(code=INVALID_PARAMS, message=cause.message, data={"uri": uri, **cause.payload()})
    if isinstance(cause, QuaymasterError):
        return MCPError(code=REFUSED, message=cause.message, data={"uri": uri, **cause.payload()})
    reference = secrets.token_hex(6)
    log.error("resource failed", extra={"reference": reference}, exc_info=error)
    return MCPError(code=REFUSED, message=f"The server failed to read this resource (reference {reference}).")
