"""Reads of the control plane are answered in one piece.

Beside every other call the SDK keeps a stream, for progress and to hear that the caller went away. Such a read tells no
progress and is over before anybody can leave, and the stream costs as much as the read itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from mcp.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_server.domain.toolsets import Toolset
from mcp_server.tools.catalogue import Tool

OF_THE_STORE: frozenset[Toolset] = frozenset({"projects", "work", "teams", "audit"})
"""Toolsets whose reads ask the store and nothing else: its time-outs bound them."""

PATH = "/mcp"
VERSIONS = frozenset({b"2026-07-28"})
"""The protocol versions whose requests name their tool in a header."""


class AtOnce:
    """An ASGI application over the SDK's `app`. The SDK compares the headers with the body afterwards, so that they
    choose the way of an answer and never what is done."""

    def __init__(
        self, app: Starlette, inner: Server[Any], tools: Iterable[Tool], security: TransportSecuritySettings
    ) -> None:
        self._app: ASGIApp = app
        self._names = frozenset(tool.name.encode() for tool in tools if is_at_once(tool))
        self._manager = StreamableHTTPSessionManager(
            app=inner, json_response=True, stateless=True, security_settings=security
        )
        self._while_the_app_runs(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == PATH and self._is_one(dict(scope["headers"])):
            await self._manager.handle_request(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _is_one(self, headers: Mapping[bytes, bytes]) -> bool:
        return headers.get(b"mcp-name") in self._names and (
            headers.get(b"mcp-protocol-version") in VERSIONS and headers.get(b"mcp-method") == b"tools/call"
        )

    def _while_the_app_runs(self, app: Starlette) -> None:
        begun = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(starting: Any) -> AsyncIterator[Any]:
            async with begun(starting) as state, self._manager.run():
                yield state

        app.router.lifespan_context = lifespan


def is_at_once(tool: Tool) -> bool:
    return bool(tool.annotations.read_only_hint) and tool.toolset in OF_THE_STORE
