"""What an agent does on its first day: a project with a database, two versions, a promote each, and a way back.

    python examples/walkthrough.py shop:v1 shop:v2 [--port 3000]

Both images answer 2xx on /health. The server is started over stdio and uses whatever the environment says.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from typing import Any

from mcp import Client, StdioServerParameters

SHOWN = ("code", "message", "status", "engine", "state", "url", "slot", "version", "receipt", "next")


async def walk(first: str, second: str, port: int) -> None:
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "mcp_server", "stdio"], env=dict(os.environ)
    )
    async with Client(server) as client:
        await call(client, "create_project", name="shop", type="python")
        await call(client, "create_database", project="shop")
        await call(client, "query_database", project="shop", sql="SELECT 1 AS one")
        for image in (first, second):
            where = {"project": "shop", "environment": "production"}
            await call(client, "deploy_project", image=image, container_port=port, **where)
            await call(client, "promote", **where)
        await call(client, "rollback", reason="the second version is too new", **where)
        await call(client, "slot_status", **where)


async def call(client: Client, tool: str, **arguments: Any) -> None:
    """Call one tool and print what matters of its answer; end when it is refused."""
    result = await client.call_tool(tool, arguments)
    answer: dict[str, Any] = dict(result.structured_content or {})
    print(f"{tool}: " + ", ".join(f"{name}={answer[name]}" for name in SHOWN if answer.get(name) is not None))
    if result.is_error:
        raise SystemExit(1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument(
        "--port", type=int, default=3000, help="where the application listens in its container"
    )
    given = parser.parse_args()
    asyncio.run(walk(given.first, given.second, given.port))


if __name__ == "__main__":
    main()
