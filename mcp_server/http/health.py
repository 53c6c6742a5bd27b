"""How the server is, for load balancers and people: 200 while it can be used, 503 while it cannot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mcp_server.services.status import Status


def health_route(status: Status) -> Callable[[Request], Awaitable[Response]]:
    """Needs no key, and so says conditions and counts, never reasons."""

    async def health(request: Request) -> Response:
        found = await status.health()
        body = found.model_dump(mode="json", exclude={"notices"})
        body["parts"] = {part.name: part.condition for part in found.parts}
        return JSONResponse(
            body, 503 if found.status == "unhealthy" else 200, headers={"cache-control": "no-store"}
        )

    return health
