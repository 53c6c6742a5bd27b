"""A server that speaks as much of Cloudflare's API as is used, over HTTP on loopback."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

TOKEN = "cf-token-of-the-tests"


@dataclass
class CloudflareService:
    """`failures` are answered before anything else, one a request: a status, `hang`, or `lost` (done, no answer).

    `page_size`: the most items of a page, whatever is asked for.
    """

    zones: dict[str, str]
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: list[Any] = field(default_factory=list)
    retry_after: str | None = "0"
    page_size: int = 100
    requests: list[str] = field(default_factory=list)
    address: str = ""
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def add(self, zone: str, kind: str, name: str, content: str, comment: str | None = None) -> None:
        number = f"r{next(self._numbers)}"
        self.records[number] = {
            "id": number,
            "zone": self.zones[zone],
            "type": kind,
            "name": name,
            "content": content,
            "comment": comment,
        }

    def at(self, name: str) -> set[tuple[str, str]]:
        return {(one["type"], one["content"]) for one in self.records.values() if one["name"] == name}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path}")
        failure = self.failures.pop(0) if self.failures else None
        if failure == "hang":
            await asyncio.sleep(30)
        if isinstance(failure, int):
            headers = {"Retry-After": self.retry_after} if failure == 429 and self.retry_after else {}
            return web.json_response({"success": False, "errors": []}, status=failure, headers=headers)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _error(403, 10000, "Authentication error")
        answer = await self._answer(request)
        if failure == "lost":
            await asyncio.sleep(30)
        return answer

    async def _answer(self, request: web.Request) -> web.Response:
        parts = request.path.strip("/").split("/")
        wanted = request.query.get("name")
        if parts == ["zones"]:
            zones = [{"id": number, "name": name} for name, number in self.zones.items()]
            return self._page(request, [zone for zone in zones if wanted in (None, zone["name"])])
        records = [one for one in self.records.values() if one["zone"] == parts[1]]
        if request.method == "GET":
            return self._page(request, [one for one in records if wanted in (None, one["name"])])
        if request.method == "DELETE":
            if self.records.pop(parts[3], None) is None:
                return _error(404, 81044, "Record does not exist.")
            return web.json_response({"success": True, "errors": [], "result": {"id": parts[3]}})
        body = await request.json()
        same = [one for one in records if one["name"] == body["name"]]
        if any((one["type"], one["content"]) == (body["type"], body["content"]) for one in same):
            return _error(400, 81058, "An identical record already exists.")
        if any("CNAME" in (one["type"], body["type"]) for one in same):
            return _error(400, 81053, "An A, AAAA, or CNAME record with that host already exists.")
        number = f"r{next(self._numbers)}"
        self.records[number] = {"id": number, "zone": parts[1], **body}
        return web.json_response({"success": True, "errors": [], "result": self.records[number]})

    def _page(self, request: web.Request, items: list[Any]) -> web.Response:
        size = min(int(request.query.get("per_page", 20)), self.page_size)
        page = int(request.query.get("page", 1))
        shown = items[(page - 1) * size : page * size]
        info = {"page": page, "per_page": size, "total_pages": max(1, math.ceil(len(items) / size))}
        return web.json_response({"success": True, "errors": [], "result": shown, "result_info": info})


def _error(status: int, code: int, message: str) -> web.Response:
    body = {"success": False, "errors": [{"code": code, "message": message}], "result": None}
    return web.json_response(body, status=status)


@asynccontextmanager
async def cloudflare(*zones: str) -> AsyncIterator[CloudflareService]:
    service = CloudflareService({zone: f"z{number}" for number, zone in enumerate(zones)})
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        service.address = f"http://{host}:{port}"
        yield service
    finally:
        await runner.cleanup()
