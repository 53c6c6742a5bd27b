"""The studio's page and what it asks for."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mcp_server.domain.browsing import COMPARISONS, Counted, PageFound
from mcp_server.domain.errors import Conflict, Forbidden, Invalid, NotFound, QuaymasterError
from mcp_server.domain.shapes import Shape, Table
from mcp_server.http.studio.gate import SAFE_HEADERS, Gate
from mcp_server.services.studio import Studio

FILES = {
    "/": ("page.html", "text/html"),
    "/studio.css": ("studio.css", "text/css"),
    "/studio.js": ("studio.js", "text/javascript"),
}
LARGEST_BODY = 2 * 1024 * 1024
Handler = Callable[[Request], Awaitable[Any]]


def studio_app(studio: Studio) -> Gate:
    """`gate.token` goes into the address that is printed: `http://127.0.0.1:PORT/?token=...`."""

    async def schema(_: Request) -> Any:
        shape, counts = await studio.overview()
        return _shape(studio, shape, counts)

    async def rows(request: Request) -> Any:
        asked = request.query_params
        found = await studio.page(
            asked.get("table", ""),
            filters=asked.get("filters", ""),
            after=asked.get("after", ""),
            backwards=asked.get("backwards") == "1",
            limit=_number(asked.get("limit", "50")),
        )
        return _page(found)

    async def value(request: Request) -> Any:
        body = await _body(request)
        cell = await studio.value(_text(body, "table"), body.get("key"), _text(body, "column"))
        return cell._asdict()

    async def query(request: Request) -> Any:
        found = await studio.query(_text(await _body(request), "sql"))
        return found.model_dump(mode="json")

    async def change(request: Request) -> Any:
        body = await _body(request)
        before, after = _maybe(body, "before"), _maybe(body, "after")
        await studio.change(_text(body, "table"), body.get("key"), _text(body, "column"), before, after)
        return {}

    async def add(request: Request) -> Any:
        body = await _body(request)
        values = body.get("values")
        if not isinstance(values, dict):
            raise Invalid.field("values", "an object of texts")
        await studio.add(_text(body, "table"), {name: _maybe(values, name) for name in values})
        return {}

    async def remove(request: Request) -> Any:
        body = await _body(request)
        await studio.remove(_text(body, "table"), body.get("key"))
        return {}

    async def no_icon(_: Request) -> Response:
        return Response(status_code=204, headers=SAFE_HEADERS)

    routes = [Route("/favicon.ico", no_icon)]
    routes += [Route(path, _file(*found)) for path, found in FILES.items()]
    routes += [Route(f"/api/{each.__name__}", _answering(each)) for each in (schema, rows)]
    routes += [
        Route(f"/api/{each.__name__}", _answering(each), methods=["POST"])
        for each in (value, query, change, add, remove)
    ]
    return Gate(Starlette(routes=routes))


def _file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    content = resources.files(__package__).joinpath(name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, media_type=kind, headers=SAFE_HEADERS)

    return answer


def _answering(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            return JSONResponse(await handler(request), headers=SAFE_HEADERS)
        except QuaymasterError as error:
            return JSONResponse(error.payload(), _status(error), headers=SAFE_HEADERS)

    return answer


def _status(error: QuaymasterError) -> int:
    kinds = ((Forbidden, 403), (NotFound, 404), (Conflict, 409), (Invalid, 400))
    return next((status for kind, status in kinds if isinstance(error, kind)), 503)


async def _body(request: Request) -> dict[str, Any]:
    """Only JSON, which no form of a foreign page can send."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise Invalid.field("body", "must be application/json")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > LARGEST_BODY:
            raise Invalid.field("body", f"at most {LARGEST_BODY} bytes")
    try:
        body = json.loads(content)
    except ValueError as error:
        raise Invalid.field("body", "not JSON") from error
    if not isinstance(body, dict):
        raise Invalid.field("body", "not an object")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    if not isinstance(body.get(name), str):
        raise Invalid.field(name, "a text")
    return str(body[name])


def _maybe(body: dict[str, Any], name: str) -> str | None:
    return None if body.get(name) is None else _text(body, name)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 4:
        raise Invalid.field("limit", "a number")
    return int(text)


def _shape(studio: Studio, shape: Shape, counts: dict[str, Counted]) -> dict[str, Any]:
    return {
        "name": studio.name,
        "engine": shape.engine,
        "writable": studio.writable,
        "comparisons": COMPARISONS,
        "tables": [_table(table, counts.get(table.name), shape) for table in shape.tables],
    }


def _table(table: Table, counted: Counted | None, shape: Shape) -> dict[str, Any]:
    return {
        "name": table.name,
        "kind": table.kind,
        "key": table.key,
        "told_apart": bool(table.key or table.rowid),
        "columns": [column._asdict() for column in table.columns],
        "foreign_keys": [each._asdict() for each in table.foreign_keys],
        "referred_by": [
            {"table": other.name, "columns": each.columns, "target_columns": each.target_columns}
            for other in shape.tables
            for each in other.foreign_keys
            if each.target == table.name
        ],
        "count": None if counted is None else counted._asdict(),
    }


def _page(found: PageFound) -> dict[str, Any]:
    return {"rows": [{"key": row.key, "cells": row.cells} for row in found.rows], "more": found.more}
