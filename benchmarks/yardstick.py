"""The servers that Quaymaster is measured against: the SDK with one echo tool, bare or behind a verifier that asks PostgreSQL.

python -m benchmarks.yardstick stdio
python -m benchmarks.yardstick http PORT [DATABASE_URL]
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import uvicorn
from mcp.server import MCPServer
from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl


class AskingVerifier(TokenVerifier):
    """Lets everybody in after one pooled `SELECT 1`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.pool: Any = None

    async def verify_token(self, token: str) -> AccessToken | None:
        if self.pool is None:
            self.pool = await asyncpg.create_pool(self._url, min_size=4, max_size=20)
        await self.pool.fetchval("SELECT 1")
        return AccessToken(token="-", client_id="bench", subject="bench", scopes=[], claims={"iss": "bench"})


def build(url: str | None) -> MCPServer:
    signed_in: dict[str, Any] = {}
    if url is not None:
        signed_in = {
            "token_verifier": AskingVerifier(url),
            "auth": AuthSettings(issuer_url=AnyHttpUrl("http://127.0.0.1"), resource_server_url=None),
        }

    @asynccontextmanager
    async def lifespan(_: MCPServer) -> AsyncIterator[dict[str, Any]]:
        yield {}

    server = MCPServer("echo", version="1", lifespan=lifespan, log_level="ERROR", **signed_in)

    @server.tool()
    async def echo(name: str) -> dict[str, str]:
        """Give the name back."""
        return {"name": name}

    return server


def main() -> None:
    if sys.argv[1] == "stdio":
        build(None).run("stdio")
        return
    url = sys.argv[3] if len(sys.argv) > 3 else None
    uvicorn.run(
        build(url).streamable_http_app(),
        host="127.0.0.1",
        port=int(sys.argv[2]),
        log_level="error",
        timeout_keep_alive=130,
    )


if __name__ == "__main__":
    main()
