"""Speaking the protocol by hand, where a test must see what a client library would hide."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult

from tests.services.processes import ServerProcess, quaymaster_command, quaymaster_environment, run_quaymaster

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
ERAS = ("auto", "legacy")


def request(number: int, method: str, /, **params: Any) -> dict[str, Any]:
    """A request of the modern era."""
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": {**params, "_meta": META}}


def call(number: int, tool: str, /, **arguments: Any) -> dict[str, Any]:
    return request(number, "tools/call", name=tool, arguments=arguments)


def send(server: ServerProcess, *messages: Mapping[str, Any]) -> None:
    for message in messages:
        server.stdin.write(json.dumps(message).encode() + b"\n")
    server.stdin.flush()


def receive(server: ServerProcess) -> dict[str, Any]:
    """The next message; an error for a line that is none."""
    message: dict[str, Any] = json.loads(server.stdout.readline())
    assert message["jsonrpc"] == "2.0"
    return message


def make_key(home: Path, *, team: str = "local", role: str = "owner", **settings: str) -> str:
    done = run_quaymaster("keys", "create", "--team", team, "--role", role, home=home, settings=settings)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@asynccontextmanager
async def over_stdio(
    home: Path, *, era: str = "auto", toolsets: str = "all", **settings: str
) -> AsyncIterator[Client]:
    """A client with a server of its own."""
    command = quaymaster_command("stdio", "--toolsets", toolsets)
    parameters = StdioServerParameters(
        command=command[0], args=command[1:], env=quaymaster_environment(home, settings), cwd=str(home)
    )
    async with Client(stdio_client(parameters), mode=era) as client:
        yield client


@asynccontextmanager
async def over_http(
    server: ServerProcess, key: str, *, era: str = "auto", query: str = "?toolsets=all"
) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=60) as http,
        Client(streamable_http_client(f"{server.url}/mcp{query}", http_client=http), mode=era) as client,
    ):
        yield client


async def done(client: Client, tool: str, /, **arguments: Any) -> dict[str, Any]:
    """The structured content of a call that succeeds."""
    result = await client.call_tool(tool, arguments)
    assert isinstance(result, CallToolResult)
    assert not result.is_error, result.structured_content
    assert result.structured_content is not None
    return dict(result.structured_content)


async def refused(client: Client, tool: str, /, **arguments: Any) -> dict[str, Any]:
    """The error of a call that does not."""
    result = await client.call_tool(tool, arguments)
    assert isinstance(result, CallToolResult)
    assert result.is_error
    assert result.structured_content is not None
    return dict(result.structured_content)
