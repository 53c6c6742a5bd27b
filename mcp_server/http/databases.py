"""Databases over plain HTTP, for the browser and for scripts: the same use cases as the tools', a key on every route."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, get_args

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mcp_server.domain.callers import Caller
from mcp_server.domain.databases import RequestedEngine
from mcp_server.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    QuaymasterError,
    QuotaExceeded,
    RateLimited,
    Unauthenticated,
)
from mcp_server.domain.results import PlanResult, Result
from mcp_server.domain.teams import EnvironmentName
from mcp_server.services.calls import Call, Calls
from mcp_server.services.databases.service import Databases
from mcp_server.services.databases.views import DatabaseView

PROVIDERS = {"postgres_docker": "postgres", "sqlite": "sqlite", "auto": "auto"}
LARGEST = 16_384
STATUS: dict[type[QuaymasterError], int] = {
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    QuotaExceeded: 409,
    RateLimited: 429,
    Invalid: 400,
}
Who = Callable[[], Caller]
Route = tuple[str, str, Callable[[Request], Awaitable[Response]]]


class EngineReport(Result):
    """Whether there is an engine, for whoever may see the server's parts."""

    docker: dict[str, Any]
    defaultProvider: str


def database_routes(databases: Databases, calls: Calls, who: Who) -> list[Route]:
    """Path, method and handler of each route. `who` tells the caller of the present request."""
    face = _Face(databases, calls, who)
    place = "/api/projects/{project}/database"
    return [
        ("/api/database/status", "GET", face.status),
        (place, "GET", face.get),
        (place, "POST", face.create),
        (f"{place}/start", "POST", face.start),
        (f"{place}/stop", "POST", face.stop),
        (place, "DELETE", face.delete),
    ]


class _Face:
    def __init__(self, databases: Databases, calls: Calls, who: Who) -> None:
        self._databases = databases
        self._calls = calls
        self._who = who

    async def status(self, request: Request) -> Response:
        """`?refresh=true` asks the engine anew."""

        async def use_case(call: Call, given: Mapping[str, Any]) -> EngineReport:
            found = await self._databases.detect(refresh=_flag(given, "refresh"))
            docker: dict[str, Any] = {"available": found.available}
            if found.version:
                docker["version"] = found.version
            if found.reason:
                docker["error"] = found.reason
            provider = "postgres_docker" if found.available else "sqlite"
            return EngineReport(docker=docker, defaultProvider=provider)

        return await self._answered(request, "infrastructure_status", use_case)

    async def get(self, request: Request) -> Response:
        async def use_case(call: Call, given: Mapping[str, Any]) -> DatabaseView:
            return await self._databases.get(call, **_which(request, given), reveal=_flag(given, "reveal"))

        return await self._answered(request, "get_database", use_case)

    async def create(self, request: Request) -> Response:
        async def use_case(call: Call, given: Mapping[str, Any]) -> DatabaseView:
            extensions = given.get("extensions", [])
            if not isinstance(extensions, list) or not all(isinstance(one, str) for one in extensions):
                raise Invalid.field("extensions", "a list of names")
            return await self._databases.create(
                call, **_which(request, given), engine=_engine(given), extensions=tuple(extensions)
            )

        return await self._answered(request, "create_database", use_case, status=201)

    async def start(self, request: Request) -> Response:
        async def use_case(call: Call, given: Mapping[str, Any]) -> DatabaseView:
            return await self._databases.start(call, **_which(request, given))

        return await self._answered(request, "start_database", use_case)

    async def stop(self, request: Request) -> Response:
        async def use_case(call: Call, given: Mapping[str, Any]) -> DatabaseView:
            return await self._databases.stop(call, **_which(request, given))

        return await self._answered(request, "stop_database", use_case, status=204)

    async def delete(self, request: Request) -> Response:
        """Without `plan_token` 202 and the plan; with it 204."""

        async def use_case(call: Call, given: Mapping[str, Any]) -> PlanResult:
            backup = given.get("final_backup", True) not in (False, "false", "0")
            return await self._databases.delete(call, **_which(request, given), final_backup=backup)

        return await self._answered(request, "delete_database", use_case, status=204)

    async def _answered(
        self,
        request: Request,
        action: str,
        use_case: Callable[[Call, Mapping[str, Any]], Awaitable[Result]],
        *,
        status: int = 200,
    ) -> Response:
        try:
            given = await _given(request)
            call = Call(
                caller=self._who(),
                action=action,
                params={
                    "project": request.path_params.get("project"),
                    **{name: value for name, value in given.items() if name not in HEADERS},
                },
                idempotency_key=_text(given, "idempotency_key"),
                plan_token=_text(given, "plan_token"),
            )
            result = await self._calls.perform(call, lambda: use_case(call, given))
        except QuaymasterError as error:
            return JSONResponse(error.payload(), _status(error))
        if isinstance(result, PlanResult) and result.status == "planned":
            return _json(result.model_dump(mode="json"), 202)
        if status == 204:
            return Response(status_code=204)
        return _json(_shape(result), status)


HEADERS = ("idempotency_key", "plan_token")


def _shape(result: Result) -> dict[str, Any]:
    if not isinstance(result, DatabaseView):
        return result.model_dump(mode="json", exclude={"notices"})
    shape: dict[str, Any] = {
        "provider": "postgres_docker" if result.engine == "postgres" else "sqlite",
        "url": result.url,
        "status": result.state,
    }
    if result.container is not None:
        shape["containerId"] = result.container
    more = {"reason": result.reason, "fallback": result.fallback, "environment": result.environment}
    return shape | {name: value for name, value in more.items() if value is not None}


def _status(error: QuaymasterError) -> int:
    return next((code for kind, code in STATUS.items() if isinstance(error, kind)), 503)


async def _given(request: Request) -> dict[str, Any]:
    """The query's arguments, and over them those of a JSON body. Raises Invalid."""
    given: dict[str, Any] = dict(request.query_params)
    body = await request.body()
    if not body:
        return given
    if len(body) > LARGEST:
        raise Invalid(f"the body is longer than {LARGEST} bytes")
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Invalid("the body is not JSON") from error
    if not isinstance(parsed, dict):
        raise Invalid("the body is not a JSON object")
    return given | parsed


def _which(request: Request, given: Mapping[str, Any]) -> dict[str, Any]:
    environment = _text(given, "environment")
    if environment is not None and environment not in get_args(EnvironmentName):
        raise Invalid.field("environment", f"one of {', '.join(get_args(EnvironmentName))}")
    return {"project": request.path_params["project"], "environment": environment}


def _engine(given: Mapping[str, Any]) -> RequestedEngine:
    """`engine` in our words, or `provider` in the routes'."""
    wanted = _text(given, "engine") or PROVIDERS.get(_text(given, "provider") or "auto", "")
    if wanted not in get_args(RequestedEngine):
        raise Invalid.field("engine", f"one of {', '.join(get_args(RequestedEngine))}")
    return wanted  # type: ignore[return-value]  # it is one of them


def _flag(given: Mapping[str, Any], name: str) -> bool:
    return given.get(name) in (True, "true", "1")


def _text(given: Mapping[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is not None and (not isinstance(value, str) or not 1 <= len(value) <= 200 or "\x00" in value):
        raise Invalid.field(name, "text of 1-200 characters")
    return value


def _json(body: Mapping[str, Any], status: int) -> Response:
    return JSONResponse(dict(body), status, headers={"cache-control": "no-store"})
