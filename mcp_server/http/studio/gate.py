"""Who may use the studio: whoever came with the one-time token, in that browser, on this machine."""

from __future__ import annotations

import secrets

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
SAFE_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Gate:
    """The token is in the address once; it is exchanged for a cookie and is void from then on.

    A Host that is not loopback (another name that resolves here) and a foreign Origin are refused.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.token = secrets.token_urlsafe(32)
        self._spent = False
        self._session = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = self._judge(HTTPConnection(scope))
        await (answer or self._app)(scope, receive, send)

    def _judge(self, request: HTTPConnection) -> Response | None:
        """None lets it through."""
        if not _is_local(request.headers):
            return _refused("This page is only served on loopback.")
        if "token" in request.query_params:
            return self._exchange(request)
        cookie = request.cookies.get(_cookie(request), "")
        if not secrets.compare_digest(cookie.encode(), self._session.encode()):
            return _refused(
                "Open the address that the command printed; it works once. Start it again for a new one."
            )
        return None

    def _exchange(self, request: HTTPConnection) -> Response:
        given = request.query_params["token"].encode()
        if self._spent or not secrets.compare_digest(given, self.token.encode()):
            return _refused("This address was used already. Start the studio again for a new one.")
        self._spent = True
        answer = RedirectResponse("/", 303, headers=SAFE_HEADERS)
        answer.set_cookie(_cookie(request), self._session, httponly=True, samesite="strict", path="/")
        return answer


def _cookie(request: HTTPConnection) -> str:
    """A browser keeps cookies by host and not by port, so that another studio's would take the place of this one's."""
    return f"quaymaster_studio_{request.url.port or 80}"


def _is_local(headers: Headers) -> bool:
    host = headers.get("host", "")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return name in LOOPBACK and headers.get("origin", f"http://{host}") == f"http://{host}"


def _refused(reason: str) -> Response:
    return PlainTextResponse(f"{reason}\n", 403, headers=SAFE_HEADERS)
