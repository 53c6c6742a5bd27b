"""A whole server on an embedded store, and clients that speak to it in memory as whoever a test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp import Client
from mcp.types import CallToolResult, TextContent

from mcp_server.app import House, make_server, open_app
from mcp_server.config import load
from mcp_server.domain.callers import Caller
from mcp_server.services.signin import local_owner
from mcp_server.tools.server import QuaymasterServer
from mcp_server.tools.visits import Visit

ERAS = ("auto", "legacy")
OWNER = local_owner("ann", process="p1")


def text_of(result: CallToolResult) -> str:
    """What the model reads."""
    [content] = result.content
    assert isinstance(content, TextContent)
    return content.text


@dataclass
class Desk:
    house: House
    server: QuaymasterServer

    @asynccontextmanager
    async def client(
        self, caller: Caller = OWNER, *, era: str = "auto", toolsets: frozenset[str] = frozenset({"all"})
    ) -> AsyncIterator[Client]:
        with self.server.door.open_for(Visit(caller, toolsets)):
            async with Client(self.server, mode=era) as client:
                yield client

    async def call(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, caller: Caller = OWNER
    ) -> CallToolResult:
        """One call without the protocol's frame."""
        with self.server.door.open_for(Visit(caller, frozenset({"all"}))):
            result = await self.server.call_tool(name, dict(arguments or {}))
        assert isinstance(result, CallToolResult)
        return result

    async def done(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, caller: Caller = OWNER
    ) -> Any:
        """The structured content of a call that succeeds."""
        result = await self.call(name, arguments, caller=caller)
        assert not result.is_error, result.structured_content
        return result.structured_content

    async def other_team(self) -> Caller:
        """The owner of another team, signed in with its key."""
        made = await self.done("create_team", {"name": "Others"})
        return await self.house.sign_in.authenticate(made["key"])


@asynccontextmanager
async def opened(home: Path, engine: str | None = None, **settings: str) -> AsyncIterator[Desk]:
    # No engine: a tool that is tried with any arguments must not fill the tester's.
    docker = engine or f"unix://{home}/no-engine.sock"
    environ = {"QUAYMASTER_HOME": str(home / "home"), "DOCKER_HOST": docker} | {
        f"QUAYMASTER_{k.upper()}": v for k, v in settings.items()
    }
    async with open_app(load(environ, home)) as house:
        await house.bootstrap.run("ann", with_key=False)
        yield Desk(house, make_server(house))
