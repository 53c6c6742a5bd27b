"""A client that asks for progress hears each step of long work on databases, and never a secret."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from mcp import Client
from mcp.types import CallToolResult

from tests.acceptance.wire import make_key, over_http, over_stdio
from tests.databases.test_faults import Berth, berth
from tests.services.processes import ServerProcess

__all__ = ["berth"]


@dataclass
class Listener:
    """A client, and what it heard: `lines` of all calls, `numbers` of the newest."""

    client: Client
    lines: list[str] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)

    async def asks(self, tool: str, /, **arguments: Any) -> tuple[dict[str, Any], list[str]]:
        """The answer, and the steps that were told on the way."""
        heard: list[str] = []
        self.numbers = []

        async def heard_of(progress: float, total: float | None, message: str | None) -> None:
            self.numbers.append(progress)
            heard.append(message or "")

        result = await self.client.call_tool(tool, arguments, progress_callback=heard_of)
        assert isinstance(result, CallToolResult)
        assert not result.is_error, result.structured_content
        assert result.structured_content is not None
        self.lines += heard
        return dict(result.structured_content), heard

    async def confirms(self, tool: str, /, **arguments: Any) -> tuple[dict[str, Any], list[str]]:
        planned, _ = await self.asks(tool, **arguments)
        return await self.asks(tool, plan_token=planned["plan_token"], **arguments)


@asynccontextmanager
async def listening(berth: Berth, transport: str) -> AsyncIterator[Listener]:
    if transport == "stdio":
        async with over_stdio(berth.home, **berth.settings) as client:
            yield Listener(client)
        return
    key = make_key(berth.home)
    with ServerProcess.serve(home=berth.home, settings=berth.settings) as server:
        async with over_http(server, key) as client:
            yield Listener(client)


@pytest.mark.parametrize("transport", ["http", pytest.param("stdio", marks=pytest.mark.soak)])
async def test_every_step_of_long_work_is_told_and_no_secret(berth: Berth, transport: str) -> None:
    async with listening(berth, transport) as listener:
        await listener.asks("create_project", name=berth.shop)
        made, heard = await listener.asks("create_database", project=berth.shop, engine="sqlite")
        assert (made["state"], heard) == ("running", ["making the file", "ready"])
        backup, heard = await listener.asks("backup_database", project=berth.shop)
        assert (backup["state"], heard) == ("verified", ["writing", "proving it", "verified"])
        _, heard = await listener.confirms("restore_database", backup_id=backup["id"])
        assert heard == ["backing up what is there now", "restoring beside it", "swapped in"]
        _, heard = await listener.asks("branch_database", project=berth.shop, name="try")
        assert heard == ["copying the file", "ready"]
        done, heard = await listener.confirms("promote_database_to_postgres", project=berth.shop)
        assert done["state"] == "done"
        assert heard == [
            "backing the file up",
            "making a PostgreSQL server",
            "waiting until it answers",
            "bringing the rows over",
            "switching",
        ]
        assert listener.numbers == sorted(set(listener.numbers))
        _, heard = await listener.asks("create_project", name=berth.web, database="postgres")
        assert heard == ["starting PostgreSQL", "waiting until it answers", "ready"]
        _, heard = await listener.asks("branch_database", project=berth.web, name="try", reveal=True)
        assert heard == ["copying the files", "ready"]
        for project in (berth.shop, berth.web):
            shown, _ = await listener.asks("get_database", project=project, reveal=True)
            password = urlsplit(shown["url"]).password
            assert password
            assert not [line for line in listener.lines if password in line]
        _, heard = await listener.confirms("delete_database", project=berth.web)
        assert heard == ["making the final backup", "taking it away"]
        assert not [line for line in listener.lines if "://" in line]
