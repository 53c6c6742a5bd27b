"""The gate before every route: the host that is asked for, the identity, and a server that is about to
stop."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_server.domain.callers import Caller
from mcp_server.domain.errors import (
    Forbidden,
    Invalid,
    QuaymasterError,
    RateLimited,
    Unauthenticated,
    Unavailable,
)
from mcp_server.http.addresses import Network, client_address, header, host_is_answered, origin_is_answered

log = logging.getLogger(__name__)
OPEN = frozenset({"/health", "/api/health", "/metrics"})
"""Routes that need no key."""
STATUS: dict[type[QuaymasterError], int] = {
    Unauthenticated: 401,
    Forbidden: 403,
    Invalid: 400,
    RateLimited: 429,
}


class SignIn(Protocol):
    async def __call__(self, key: str | None, /, *, address: str | None, user_agent: str | None) -> Caller:
        """The caller of this key. Raises Unauthenticated, RateLimited for too many failures, or
        Unavailable."""
        ...


class Admit(Protocol):
    def __call__(
        self, scope: Scope, caller: Caller, toolsets: Sequence[str], /
    ) -> AbstractContextManager[None]:
        """Everything inside runs as this caller. Raises Invalid for an unknown toolset."""
        ...


class Gate:
    """`hosts` are the answered `Host` headers; forwarding headers of `proxies` are believed."""

    def __init__(
        self,
        inner: ASGIApp,
        *,
        hosts: frozenset[str],
        proxies: Sequence[Network],
        sign_in: SignIn,
        admit: Admit,
        open_routes: frozenset[str] = OPEN,
    ) -> None:
        self._inner = inner
        self._hosts = hosts
        self._proxies = proxies
        self._sign_in = sign_in
        self._admit = admit
        self._open = open_routes
        self.stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope["headers"]
        if not host_is_answered(header(headers, b"host"), self._hosts):
            await _refused(421, "HOST", _HOST, _HOST_NEXT)(scope, receive, send)
        elif not origin_is_answered(header(headers, b"origin"), self._hosts):
            await _refused(403, "FORBIDDEN", _ORIGIN, _HOST_NEXT)(scope, receive, send)
        elif scope["path"] in self._open:
            await self._inner(scope, receive, send)
        elif self.stopping:
            await _answer(Unavailable("the server is stopping"), 503)(scope, receive, send)
        else:
            await self._as_caller(scope, receive, send)

    async def _as_caller(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope["headers"]
        peer = scope["client"][0] if scope.get("client") else None
        try:
            caller = await self._sign_in(
                presented_key(headers),
                address=client_address(peer, header(headers, b"x-forwarded-for"), self._proxies),
                user_agent=header(headers, b"user-agent"),
            )
            visit = self._admit(scope, caller, asked_toolsets(scope["query_string"]))
        except QuaymasterError as error:
            await _answer(error, _status(error))(scope, receive, send)
            return
        try:
            with visit:
                await self._inner(scope, _to_its_end(receive), send)
        except ClientDisconnect:
            log.debug("a client went away in the middle of its request")


def _to_its_end(receive: Receive) -> Receive:
    """Raises ClientDisconnect where a client goes away before its request is whole: passed on as a message, it would be
    reported as a failure of this server."""
    coming = True

    async def next_message() -> Message:
        nonlocal coming
        message = await receive()
        if coming and message["type"] == "http.disconnect":
            raise ClientDisconnect
        coming = coming and message.get("more_body", False)
        return message

    return next_message


def presented_key(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """The key of `Authorization: Bearer KEY`, else of `X-API-Key: KEY`."""
    scheme, _, token = (header(headers, b"authorization") or "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    return header(headers, b"x-api-key") or None


def asked_toolsets(query: bytes) -> tuple[str, ...]:
    """The names in `?toolsets=a,b`; none when the address does not say."""
    values = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("toolsets", [])
    return tuple(name for value in values for name in (value.split(",") or [""]))


def _status(error: QuaymasterError) -> int:
    return next((code for kind, code in STATUS.items() if isinstance(error, kind)), 503)


def _answer(error: QuaymasterError, status: int) -> JSONResponse:
    extra = {"www-authenticate": "Bearer"} if status == 401 else {}
    if "retry_after" in error.details:
        extra["retry-after"] = str(error.details["retry_after"])
    if status == 503:
        extra |= {"retry-after": "5", "connection": "close"}
    return JSONResponse(error.payload(), status, headers=extra)


def _refused(status: int, code: str, message: str, next_step: str) -> JSONResponse:
    return JSONResponse({"code": code, "message": message, "next": next_step}, status)


_HOST = "this server does not answer for the host that was asked for"
_ORIGIN = "this server does not answer pages of that origin"
_HOST_NEXT = "The operator allows it by QUAYMASTER_PUBLIC_URL or QUAYMASTER_ALLOWED_HOSTS."
