"""What an agent does on its first day: a project with a database, two versions, a promote each, and a way back.

    .venv/bin/python examples/walkthrough.py            # needs Docker, and port 80 or QUAYMASTER_EDGE_HTTP_PORT
    .venv/bin/python examples/walkthrough.py --remove   # everything of it goes again

The server is started over stdio and takes its settings from the environment. `--restart` starts another one for
every single call: nothing that it does is lost with a process.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.client
import io
import os
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from mcp import Client, StdioServerParameters

APP = """
import http.server, os

class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"shop {os.environ['VERSION']}, database: {'DATABASE_URL' in os.environ}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer(("", 3000), Page).serve_forever()
"""
DOCKERFILE = """
FROM {base}
ENV VERSION={version}
COPY app.py /shop/app.py
CMD ["python3", "/shop/app.py"]
"""
SHOWN = {
    "create_project": ("name", "type"),
    "create_database": ("engine", "state"),
    "query_database": ("rows",),
    "build_image": ("status", "image"),
    "deploy_project": ("status", "slot", "version"),
    "promote": ("message",),
    "rollback": ("message",),
    "slot_status": ("active", "rollback", "warnings"),
    "delete_database": ("status", "message"),
    "delete_project": ("status", "message"),
}


class Refused(Exception):
    """A call was refused, or what it began failed; the text says why and what to do."""


class Agent:
    """Calls tools and prints what matters of the answers. Raises Refused."""

    def __init__(self, project: str, *, restart: bool) -> None:
        self._project = project
        self._restart = restart
        self._client: Client | None = None

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        if self._restart:
            yield
            return
        async with _server() as self._client:
            yield

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        answer = await self._answer(tool, arguments)
        while answer.get("status") == "running":
            again = {"deployment_id": answer["id"], "wait_seconds": 45}
            answer = await (
                self._answer("get_deployment", again)
                if tool == "deploy_project"
                else self._answer(tool, arguments)
            )
        fields = (f"{name}={answer[name]}" for name in SHOWN[tool] if answer.get(name))
        receipt = answer.get("receipt") or {}
        probes = (
            f"{name}={receipt[name]}" for name in ("sent", "failed") if tool != "deploy_project" and receipt
        )
        print(f"{tool}: " + ", ".join((*fields, *probes)), flush=True)
        if answer.get("status") == "failed":
            raise Refused(answer["error"])
        return answer

    async def _answer(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if self._client is not None:
            return await _called(self._client, tool, arguments)
        async with _server() as client:
            return await _called(client, tool, arguments)


async def walk(agent: Agent, project: str, base: str) -> None:
    where = {"project": project, "environment": "production"}
    await agent.call("create_project", name=project, type="python")
    await agent.call("create_database", project=project)
    await agent.call("query_database", project=project, sql="SELECT 40 + 2 AS answer")
    for version in ("v1", "v2"):
        image = await agent.call(
            "build_image", project=project, version=version, archive_content=code(base, version)
        )
        await agent.call("deploy_project", image=image["image"], health_path="/", **where)
        visit(await agent.call("promote", **where))
    visit(await agent.call("rollback", reason="the second version is too new", **where))
    await agent.call("slot_status", **where)


async def remove(agent: Agent, project: str) -> None:
    """A destructive tool first says what it would do, and does exactly that when it gets its token."""
    for tool, arguments in (("delete_database", {"project": project}), ("delete_project", {"name": project})):
        plan = await agent.call(tool, **arguments)
        await agent.call(tool, plan_token=plan["plan_token"], **arguments)


def code(base: str, version: str) -> str:
    """What an agent has just written, as a tar archive in base64."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, text in (("Dockerfile", DOCKERFILE.format(base=base, version=version)), ("app.py", APP)):
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return base64.b64encode(packed.getvalue()).decode()


def visit(switched: dict[str, Any]) -> None:
    """What a visitor gets: the proxy listens on this machine, whatever the name leads to."""
    place = urlsplit(switched["url"])
    connection = http.client.HTTPConnection("127.0.0.1", place.port or 80, timeout=10)
    connection.request("GET", "/", headers={"Host": place.netloc})
    print(f"GET {switched['url']}: {connection.getresponse().read().decode()}", flush=True)
    connection.close()


def _server() -> Client:
    return Client(
        StdioServerParameters(
            command=sys.executable,
            args=["-m", "mcp_server", "stdio", "--toolsets", "projects,databases,deployments"],
            env=dict(os.environ),
        )
    )


async def _called(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    answer: dict[str, Any] = dict(result.structured_content or {})
    if result.is_error:
        raise Refused(f"{tool}: {answer.get('message')} {answer.get('next') or ''}")
    return answer


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--project", default=os.environ.get("WALKTHROUGH_PROJECT", "shop"))
    parser.add_argument(
        "--base",
        default=os.environ.get("WALKTHROUGH_BASE", "python:3-alpine"),
        help="an image with Python 3; without a registry, one that is on the engine",
    )
    parser.add_argument("--restart", action="store_true", help="a server of its own for every call")
    parser.add_argument("--remove", action="store_true", help="remove the project with all that is its own")
    given = parser.parse_args()
    agent = Agent(given.project, restart=given.restart)
    try:
        async with agent.at_work():
            if given.remove:
                await remove(agent, given.project)
            else:
                await walk(agent, given.project, given.base)
    except* Refused as refused:
        raise SystemExit(str(_first(refused))) from None


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


if __name__ == "__main__":
    asyncio.run(main())
