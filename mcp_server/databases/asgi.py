"""ASGI middleware: no request meets a dead database unprepared. Works with every ASGI application."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from mcp_server.databases.connections import Databases
from mcp_server.databases.errors import UnknownDatabase
from mcp_server.databases.links import Health, OnError, OnReconnect

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

RETRY_AFTER = 30
TRY_AGAIN_LATER = 1013


class DatabasesMiddleware:
    """Checks `databases` (all without names) before each request, by the checks of `connections`.

    `continue_on_failure`: let a request through whose database is away (default: not on a serverless platform,
    else yes); if not, it is answered 503 with Retry-After. The request's state has `databases` (the
    connections) and `databases_health` (name -> "healthy" or "unhealthy"). `health_path` answers for load
    balancers, with names and conditions, never with reasons; None turns it off. At the end of the application's
    lifespan the connections are closed.
    """

    def __init__(
        self,
        app: App,
        connections: Databases,
        databases: Iterable[str] | None = None,
        *,
        continue_on_failure: bool | None = None,
        check_interval: float | None = None,
        on_error: OnError | None = None,
        on_reconnect: OnReconnect | None = None,
        health_path: str | None = "/health/db",
    ) -> None:
        self._app = app
        self._connections = connections
        self._names = connections.names if databases is None else list(databases)
        for name in self._names:
            if name not in connections.names:
                raise UnknownDatabase(name, connections.names)
        self._continues = not connections.serverless if continue_on_failure is None else continue_on_failure
        self._interval = connections.check_interval if check_interval is None else check_interval
        self._health_path = health_path
        connections.hooks.add(on_error, on_reconnect)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        if scope["type"] == "http" and scope["path"] == self._health_path:
            await self._tell_health(scope, send)
            return
        found = await self._connections.check(self._names, within=self._interval)
        if self._continues or all(each.status == "healthy" for each in found):
            state = scope.setdefault("state", {})
            state["databases"] = self._connections
            state["databases_health"] = {each.name: each.status for each in found}
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
        else:
            await _answer(scope, send, 503, _refusal(found))

    async def _tell_health(self, scope: Scope, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await _answer(scope, send, 405, {"error": "method not allowed"})
            return
        found = await self._connections.check(self._names, within=self._interval)
        good = all(each.status == "healthy" for each in found)
        parts = {each.name: each.status for each in found}
        await _answer(
            scope,
            send,
            200 if good else 503,
            {"status": "healthy" if good else "unhealthy", "databases": parts},
        )

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def closing(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                await self._connections.close()
            await send(message)

        await self._app(scope, receive, closing)


def _refusal(found: list[Health]) -> dict[str, Any]:
    return {
        "error": "database unavailable",
        "databases": [each.name for each in found if each.status != "healthy"],
        "retry_after": RETRY_AFTER,
    }


async def _answer(scope: Scope, send: Send, status: int, body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if status == 503:
        headers.append((b"retry-after", str(RETRY_AFTER).encode()))
    if status == 405:
        headers.append((b"allow", b"GET, HEAD"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})
