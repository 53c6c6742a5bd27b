"""Cloudflare's API, version 4: one question, asked again where that is safe, and answers page by page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import anyio
from pydantic import SecretStr

from mcp_server.domain.errors import Unavailable

ADDRESS = "https://api.cloudflare.com/client/v4"
PER_PAGE = 100
MOST_PAGES = 200
TRIES = 3
MOST_BYTES = 8_000_000
NEXT = "Try again in a minute."
Json = dict[str, Any]


class Refused(Exception):
    """Cloudflare understood and said no. `codes` are its numbers."""

    def __init__(self, codes: tuple[int, ...], text: str) -> None:
        super().__init__(text)
        self.codes = codes


class Api:
    """`timeout`: seconds for one question. `longest_wait`: the longest that it waits to be asked again."""

    def __init__(
        self,
        token: SecretStr,
        *,
        address: str = ADDRESS,
        timeout: float = 10.0,
        pause: float = 0.5,
        longest_wait: float = 5.0,
    ) -> None:
        self._token = token
        self._address = address.rstrip("/")
        self._timeout = timeout
        self._pause = pause
        self._longest_wait = longest_wait

    async def all(self, path: str, query: Mapping[str, str]) -> list[Json]:
        """The items of every page. Raises Unavailable and Refused."""
        items: list[Json] = []
        for page in range(1, MOST_PAGES + 1):
            answer = await self.ask("GET", path, {**query, "page": str(page), "per_page": str(PER_PAGE)})
            items += answer.get("result") or []
            if page >= int((answer.get("result_info") or {}).get("total_pages") or 1):
                return items
        raise Unavailable("Cloudflare lists more records than can be read")

    async def ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: Json | None = None
    ) -> Json:
        """One answer. Asked again after 429, and, unless that could do a thing twice, after 5xx and silence.

        Raises Unavailable and Refused.
        """
        for number in range(TRIES):
            try:
                return await self._once(method, path, query or {}, body)
            except Unavailable as error:
                wait = error.details.get("retry_after")
                again = wait is not None or method != "POST"
                if number + 1 == TRIES or not again or (wait or 0) > self._longest_wait:
                    raise
                await anyio.sleep(self._pause * 2**number if wait is None else wait)
        raise AssertionError("unreachable")

    async def _once(self, method: str, path: str, query: Mapping[str, str], body: Json | None) -> Json:
        import aiohttp

        limit = aiohttp.ClientTimeout(total=self._timeout)
        headers = {"Authorization": f"Bearer {self._token.get_secret_value()}"}
        try:
            async with (
                aiohttp.ClientSession(timeout=limit, headers=headers) as session,
                session.request(
                    method, f"{self._address}{path}", params=query, json=body, allow_redirects=False
                ) as response,
            ):
                text = await response.content.read(MOST_BYTES)
                return _judged(response.status, response.headers.get("Retry-After"), text)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"Cloudflare cannot be reached ({type(error).__name__})", next=NEXT) from error


def _judged(status: int, retry_after: str | None, text: bytes) -> Json:
    if status == 429:
        wait = int(retry_after) if retry_after and retry_after.isdigit() else 5
        raise Unavailable(
            "Cloudflare was asked too often", next=f"Try again in {wait} seconds.", retry_after=wait
        )
    if status >= 500:
        raise Unavailable(f"Cloudflare answers {status}", next=NEXT)
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise Unavailable(f"Cloudflare's answer ({status}) is no JSON", next=NEXT) from error
    if not isinstance(answer, dict):
        raise Unavailable(f"Cloudflare's answer ({status}) is not in its form", next=NEXT)
    if status in (401, 403):
        raise Unavailable(
            "Cloudflare refuses the token",
            next="The operator must set QUAYMASTER_CLOUDFLARE_TOKEN to one that may edit DNS in the zone.",
        )
    if status >= 400 or not answer.get("success"):
        errors = [each for each in answer.get("errors") or [] if isinstance(each, dict)]
        codes = tuple(int(each.get("code") or 0) for each in errors)
        said = "; ".join(str(each.get("message"))[:200] for each in errors[:3]) or f"status {status}"
        raise Refused(codes, said)
    return answer
