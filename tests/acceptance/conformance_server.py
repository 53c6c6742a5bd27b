"""The real server with what the official conformance suite calls by fixed names. Never shipped.

As a program, `python conformance_server.py PORT KEY` serves HTTP behind the real gate; a shim before it
puts the key into each request that brings none, since the suite cannot send one.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import sys
import wave
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import anyio
from mcp import MCPError
from mcp.server import MCPServer
from mcp.server.mcpserver import Context, UserMessage
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts import Prompt
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CallToolResult,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    ResourceTemplate,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from mcp.types import Tool as ListedTool
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_server import app, config
from mcp_server.http import serving
from mcp_server.tools.server import QuaymasterServer

Ctx = Context[None, Any]


class FixtureServer(QuaymasterServer):
    """The real server, and beside its catalogue the tools that were added by the SDK's own means."""

    async def list_tools(self) -> list[ListedTool]:
        return [*await super().list_tools(), *await MCPServer.list_tools(self), SCHEMA_TOOL]

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Ctx | None = None
    ) -> CallToolResult | InputRequiredResult:
        if name.startswith("test_"):
            return await MCPServer.call_tool(self, name, arguments, context)
        return await super().call_tool(name, arguments, context)

    async def list_resource_templates(self) -> list[ResourceTemplate]:
        return await MCPServer.list_resource_templates(self)


def add_fixtures(server: QuaymasterServer) -> FixtureServer:
    server.__class__ = FixtureServer
    assert isinstance(server, FixtureServer)
    for add in (add_contents, add_conversations, add_rounds, add_changes, add_resources, add_prompts):
        add(server)
    add_legacy_methods(server)
    return server


# What a tool may answer


def png() -> str:
    """One pixel."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0\x7f")), chunk(b"IEND", b""))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()


def wav() -> str:
    """A few silent samples."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(b"\x80" * 16)
    return base64.b64encode(buffer.getvalue()).decode()


IMAGE = ImageContent(data=png(), mime_type="image/png")
AUDIO = AudioContent(data=wav(), mime_type="audio/wav")


def embedded(uri: str, text: str = "embedded", kind: str = "text/plain") -> EmbeddedResource:
    return EmbeddedResource(resource=TextResourceContents(uri=uri, mime_type=kind, text=text))


def add_contents(server: MCPServer[None]) -> None:
    answers: dict[str, Sequence[Any]] = {
        "test_simple_text": [TextContent(text="This is a simple text response for testing.")],
        "test_image_content": [IMAGE],
        "test_audio_content": [AUDIO],
        "test_embedded_resource": [embedded("test://embedded-resource")],
        "test_multiple_content_types": [
            TextContent(text="Multiple content types test:"),
            IMAGE,
            embedded("test://mixed-content-resource", '{"a":1}', "application/json"),
        ],
    }
    for name, blocks in answers.items():
        server.add_tool(_answering(blocks), name=name, description=f"Answers with {len(blocks)} blocks.")

    @server.tool()
    async def test_error_handling() -> str:
        """Always fails."""
        raise ToolError("This tool intentionally returns an error for testing")

    @server.tool()
    async def test_tool_with_logging(ctx: Ctx) -> str:
        """Logs three lines while it runs."""
        for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await ctx.info(line)
            await anyio.sleep(0.05)
        return "logged"

    @server.tool()
    async def test_tool_with_progress(ctx: Ctx) -> str:
        """Reports progress three times."""
        for percent in (0, 50, 100):
            await ctx.report_progress(percent, 100)
            await anyio.sleep(0.05)
        return "finished"

    @server.tool()
    async def test_x_mcp_header(
        region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "none",
    ) -> str:
        """Takes an argument that is mirrored in a header."""
        return region


def _answering(blocks: Sequence[Any]) -> Callable[[], CallToolResult]:
    def answer() -> CallToolResult:
        return CallToolResult(content=list(blocks))

    return answer


SCHEMA_TOOL = ListedTool(
    name="json_schema_2020_12_tool",
    description="Has a schema with keywords of JSON Schema 2020-12.",
    input_schema={
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
)


# Questions within a call, as clients before 2026-07-28 are asked


class Answer(BaseModel):
    response: str = Field(description="The user's response")


class Person(BaseModel):
    name: str = "John Doe"
    age: int = 30
    score: float = 95.5
    status: str = Field(default="active", json_schema_extra={"enum": ["active", "inactive", "pending"]})
    verified: bool = True


def _titled(key: str, *titles: str) -> dict[str, Any]:
    return {key: [{"const": f"value{number}", "title": title} for number, title in enumerate(titles, 1)]}


class Choices(BaseModel):
    untitledSingle: str = Field(json_schema_extra={"enum": ["option1", "option2", "option3"]})
    titledSingle: str = Field(json_schema_extra=_titled("oneOf", "First", "Second", "Third"))
    legacyEnum: str = Field(
        json_schema_extra={"enum": ["opt1", "opt2", "opt3"], "enumNames": ["One", "Two", "Three"]}
    )
    untitledMulti: list[str] = Field(
        json_schema_extra={"items": {"type": "string", "enum": ["option1", "option2", "option3"]}}
    )
    titledMulti: list[str] = Field(json_schema_extra={"items": _titled("anyOf", "First", "Second", "Third")})


def add_conversations(server: MCPServer[None]) -> None:
    @server.tool()
    async def test_sampling(prompt: str, ctx: Ctx) -> str:
        """Asks the client's model."""
        message = SamplingMessage(role="user", content=TextContent(text=prompt))
        said = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
        return f"LLM response: {getattr(said.content, 'text', '')}"

    @server.tool()
    async def test_elicitation(message: str, ctx: Ctx) -> str:
        """Asks the user one question."""
        answer = await ctx.elicit(message, Answer)
        data = answer.data.model_dump_json() if answer.action == "accept" else "{}"
        return f"User response: action={answer.action}, content={data}"

    @server.tool()
    async def test_elicitation_sep1034_defaults(ctx: Ctx) -> str:
        """Asks with defaults."""
        return f"action={(await ctx.elicit('Please provide user information', Person)).action}"

    @server.tool()
    async def test_elicitation_sep1330_enums(ctx: Ctx) -> str:
        """Asks to choose."""
        return f"action={(await ctx.elicit('Please select values', Choices)).action}"

    @server.tool()
    async def test_missing_capability(ctx: Ctx) -> str:
        """Needs a client that can sample."""
        able = ctx.client_capabilities
        if able is None or able.sampling is None:
            needed: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
            raise MCPError(code=MISSING_REQUIRED_CLIENT_CAPABILITY, message="sampling is needed", data=needed)
        return "able"


# Questions by answering that input is required, as clients of 2026-07-28 are asked


def form(message: str, **kinds: str) -> ElicitRequest:
    schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in kinds.items()},
        "required": list(kinds),
    }
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(text: str) -> CreateMessageRequest:
    messages = [SamplingMessage(role="user", content=TextContent(text=text))]
    return CreateMessageRequest(params=CreateMessageRequestParams(max_tokens=50, messages=messages))


def field(answer: Any, name: str) -> Any:
    """One field of an accepted form; None of anything else."""
    content = getattr(answer, "content", None)
    return content.get(name) if isinstance(content, dict) else None


def add_rounds(server: MCPServer[None]) -> None:
    @server.tool()
    async def test_input_required_result_elicitation(ctx: Ctx) -> str | InputRequiredResult:
        """Asks the user's name."""
        name = field((ctx.input_responses or {}).get("user_name"), "name")
        if isinstance(name, str):
            return f"Hello, {name}!"
        return InputRequiredResult(input_requests={"user_name": form("What is your name?", name="string")})

    @server.tool()
    async def test_input_required_result_sampling(ctx: Ctx) -> str | InputRequiredResult:
        """Asks the model a question."""
        answer = (ctx.input_responses or {}).get("capital_question")
        if answer is not None:
            return f"The model said: {getattr(getattr(answer, 'content', None), 'text', '')}"
        question = sample("What is the capital of France?")
        return InputRequiredResult(input_requests={"capital_question": question})

    @server.tool()
    async def test_input_required_result_list_roots(ctx: Ctx) -> str | InputRequiredResult:
        """Asks for the roots."""
        answer = (ctx.input_responses or {}).get("client_roots")
        if answer is not None:
            return f"{len(getattr(answer, 'roots', ()))} roots"
        return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})

    @server.tool()
    async def test_input_required_result_request_state(ctx: Ctx) -> str | InputRequiredResult:
        """Carries a state through one round."""
        if ctx.input_responses and ctx.request_state == "carried":
            return "state-ok: confirmation received"
        ask = {"confirm": form("Please confirm", ok="boolean")}
        return InputRequiredResult(input_requests=ask, request_state="carried")

    @server.tool()
    async def test_input_required_result_tampered_state(ctx: Ctx) -> str | InputRequiredResult:
        """Carries a state that a client must not change."""
        if ctx.request_state is not None:
            return "state-ok"
        ask = {"confirm": form("Please confirm", ok="boolean")}
        return InputRequiredResult(input_requests=ask, request_state="sealed")

    @server.tool()
    async def test_input_required_result_multiple_inputs(ctx: Ctx) -> str | InputRequiredResult:
        """Asks three things at once."""
        ask = {
            "user_name": form("What is your name?", name="string"),
            "greeting": sample("Generate a greeting"),
            "client_roots": ListRootsRequest(),
        }
        if ask.keys() <= (ctx.input_responses or {}).keys():
            return "All inputs received."
        return InputRequiredResult(input_requests=ask, request_state="three")

    @server.tool()
    async def test_input_required_result_multi_round(ctx: Ctx) -> str | InputRequiredResult:
        """Asks in two rounds."""
        state = json.loads(ctx.request_state or "{}")
        answers = ctx.input_responses or {}
        if "name" in state and "step2" in answers:
            return f"{state['name']} likes {field(answers['step2'], 'color')}."
        if state and "step1" in answers:
            known = json.dumps({"name": field(answers["step1"], "name")})
            ask = {"step2": form("Step 2: What is your favorite color?", color="string")}
            return InputRequiredResult(input_requests=ask, request_state=known)
        first = {"step1": form("Step 1: What is your name?", name="string")}
        return InputRequiredResult(input_requests=first, request_state=json.dumps({"round": 1}))

    @server.tool()
    async def test_input_required_result_capabilities(ctx: Ctx) -> InputRequiredResult:
        """Asks only what the client can be asked."""
        able = ctx.client_capabilities
        ask: dict[str, Any] = {}
        if able is not None and able.sampling is not None:
            ask["sample"] = sample("Say hello")
        if able is not None and able.elicitation is not None:
            ask["form"] = form("What is your name?", name="string")
        return InputRequiredResult(input_requests=ask, request_state="able")


def add_changes(server: MCPServer[None]) -> None:
    @server.tool()
    async def test_trigger_tool_change(ctx: Ctx) -> str:
        """Says that the tools have changed."""
        await ctx.notify_tools_changed()
        return "said"

    @server.tool()
    async def test_trigger_prompt_change(ctx: Ctx) -> str:
        """Says that the prompts have changed."""
        server.add_prompt(Prompt.from_function(lambda: "x", name="test_other_prompt", description="Another."))
        await ctx.notify_prompts_changed()
        return "said"


# Resources and prompts


def add_resources(server: MCPServer[None]) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    async def static_text() -> str:
        """A text."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    async def static_binary() -> bytes:
        """A picture."""
        return base64.b64decode(png())

    @server.resource("test://template/{id}/data", mime_type="application/json")
    async def from_template(id: str) -> str:
        """One of many."""
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    @server.resource("test://watched-resource")
    async def watched() -> str:
        """One to subscribe to."""
        return "watched"


def add_prompts(server: MCPServer[None]) -> None:
    @server.prompt()
    async def test_simple_prompt() -> str:
        """Has no arguments."""
        return "This is a simple prompt for testing."

    @server.prompt()
    async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """Has two arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt()
    async def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
        """Embeds a resource."""
        return [UserMessage(embedded(resourceUri)), UserMessage("Please process the resource above.")]

    @server.prompt()
    async def test_prompt_with_image() -> list[UserMessage]:
        """Shows a picture."""
        return [UserMessage(IMAGE), UserMessage("Please analyze the image above.")]

    @server.prompt()
    async def test_input_required_result_prompt(ctx: Ctx) -> list[UserMessage] | InputRequiredResult:
        """Asks before it answers."""
        answer = (ctx.input_responses or {}).get("user_context")
        if answer is not None:
            return [UserMessage(f"Use: {field(answer, 'context')}")]
        return InputRequiredResult(input_requests={"user_context": form("Which context?", context="string")})


def add_legacy_methods(server: QuaymasterServer) -> None:
    """Methods of older clients that the server does not offer, and that the suite calls all the same."""

    async def nothing(context: object, params: object) -> EmptyResult:
        return EmptyResult()

    methods: dict[str, Any] = {
        "logging/setLevel": SetLevelRequestParams,
        "resources/subscribe": SubscribeRequestParams,
        "resources/unsubscribe": UnsubscribeRequestParams,
    }
    for method, parameters in methods.items():
        server.inner.add_request_handler(method, parameters, nothing)


# As a program


def with_key(inner: ASGIApp, key: str) -> ASGIApp:
    """The app, called with this key wherever a request brings none."""

    async def shim(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not any(name == b"authorization" for name, _ in scope["headers"]):
            scope = {**scope, "headers": [*scope["headers"], (b"authorization", f"Bearer {key}".encode())]}
        await inner(scope, receive, send)

    return shim


def main(port: int, key: str) -> None:
    import os

    import mcp_server.app.serving as served

    real_server, real_web = served.make_server, serving.WebServer  # type: ignore[attr-defined]

    class WithKey(real_web):  # type: ignore[valid-type, misc]
        def __init__(self, inner: ASGIApp, **named: Any) -> None:
            super().__init__(with_key(inner, key), **named)

    served.make_server = lambda house: add_fixtures(real_server(house))  # type: ignore[attr-defined]
    serving.WebServer = WithKey  # type: ignore[misc, assignment]
    settings = config.load(os.environ, Path.cwd())

    async def serve() -> None:
        await app.serve_http(settings, host="127.0.0.1", port=port)

    anyio.run(serve)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
