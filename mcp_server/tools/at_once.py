"""Calls that ask the store and nothing else are answered in one piece.

Beside every other call the SDK keeps a stream, for progress and to hear that the caller went away. Such a call tells no
progress and is over before anybody can leave, and the stream costs as much as a read itself. One that may wait for
others keeps its stream: who went away must not be given what he waited for. So does one that makes a database as well.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from mcp.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_server.domain.toolsets import Toolset
from mcp_server.tools.catalogue import Tool

OF_THE_STORE: frozenset[Toolset] = frozenset({"projects", "work", "teams", "audit"})
"""Toolsets whose tools ask the store and nothing else: its time-outs bound them. Not those that go by plan: they take
away more than the store keeps."""

PATH = "/mcp"
VERSIONS = frozenset({b"2026-07-28"})
"""The protocol versions whose requests name their tool in a header."""
LONGER = ("wait_seconds", "database")
"""Arguments with which a tool may wait for others, or do more than ask the store."""


class AtOnce:
    """An ASGI application over the SDK's `app`. The SDK compares the headers with the body afterwards, so that they
    choose the way of an answer and never what is done."""

    def __init__(
        self, app: Starlette, inner: Server[Any], tools: Iterable[Tool], security: TransportSecuritySettings
    ) -> None:
        self._app: ASGIApp = app
        ours = [tool for tool in tools if is_at_once(tool)]
        self._names = frozenset(tool.name.encode() for tool in ours)
        self._longer = {tool.name.encode(): longer for tool in ours if (longer := _longer(tool))}
        self._manager = StreamableHTTPSessionManager(
            app=inner, json_response=True, stateless=True, security_settings=security
        )
        self._while_the_app_runs(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = _named(scope)
        if name in self._longer:
            first = await receive()
            receive = _beginning_with(first, receive)
            name = None if _names_any(first, self._longer[name]) else name
        if name in self._names:
            await self._manager.handle_request(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _while_the_app_runs(self, app: Starlette) -> None:
        begun = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(starting: Any) -> AsyncIterator[Any]:
            async with begun(starting) as state, self._manager.run():
                yield state

        app.router.lifespan_context = lifespan


def is_at_once(tool: Tool) -> bool:
    return tool.toolset in OF_THE_STORE and "plan_token" not in tool.extra


def _named(scope: Scope) -> bytes | None:
    """The tool that a call names in its head."""
    if scope["type"] != "http" or scope["path"] != PATH:
        return None
    headers: Mapping[bytes, bytes] = dict(scope["headers"])
    if headers.get(b"mcp-protocol-version") in VERSIONS and headers.get(b"mcp-method") == b"tools/call":
        return headers.get(b"mcp-name")
    return None


def _longer(tool: Tool) -> tuple[bytes, ...]:
    arguments = inspect.signature(tool.body).parameters
    return tuple(name.encode() for name in LONGER if name in arguments)


def _names_any(first: Message, arguments: tuple[bytes, ...]) -> bool:
    """Whether the body, as far as it came with the head, is not all of it or names one of them."""
    return bool(first.get("more_body")) or any(name in first.get("body", b"") for name in arguments)


def _beginning_with(first: Message, receive: Receive) -> Receive:
    due = [first]

    async def replay() -> Message:
        return due.pop() if due else await receive()

    return replay
