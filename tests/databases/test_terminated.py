"""A real server is told to stop (SIGTERM) amid a creation: it ends soon, and nothing half-made outlives it."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from tests.acceptance.wire import call, make_key, over_http, receive, send
from tests.databases.test_faults import Berth, answers, ask, berth, nothing
from tests.services.processes import ServerProcess

__all__ = ["berth"]
STEPS = [
    pytest.param(f"databases.create.{step}", marks=[pytest.mark.soak] if soak else [])
    for step, soak in (("reserved", True), ("created", False), ("started", False), ("made", True))
]
pytestmark = pytest.mark.timeout(400)
SECONDS = 150
"""At most: running calls are given 30 seconds, undoing 90."""


def whole_or_nothing(berth: Berth, ended: ServerProcess) -> None:
    """After the next start."""
    for word in ("Traceback", "Bad file descriptor", "EBADF", "never retrieved"):
        assert word not in ended.stderr
    with berth.server() as server:

        def right() -> bool:
            states = [one["state"] for one in ask(server, "list_databases")["items"]]
            return states == ["running"] or nothing(berth, server)

        berth.settled(server, right, "the database to be whole or gone")
        made = ask(server, "create_database", project=berth.shop, engine="postgres")
        assert made["state"] == "running", made
        assert answers(ask(server, "get_database", project=berth.shop, reveal=True)["url"])


@pytest.mark.parametrize("step", STEPS)
def test_a_stdio_server_that_is_told_to_stop_amid_a_creation_leaves_all_of_it_or_nothing(
    berth: Berth, step: str
) -> None:
    with berth.server(QUAYMASTER_FAULT=f"{step}:TERM") as server:
        ask(server, "create_project", name=berth.shop)
        send(server, call(9, "create_database", project=berth.shop, engine="postgres"))
        answered: dict[str, Any] = receive(server)
        assert answered["id"] == 9
        assert server.wait_ended(SECONDS) == 0
    whole_or_nothing(berth, server)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("wait", [0, pytest.param(45, marks=pytest.mark.soak)])
async def test_an_http_server_that_is_told_to_stop_amid_a_creation_leaves_all_of_it_or_nothing(
    berth: Berth, step: str, wait: int
) -> None:
    key = make_key(berth.home, **berth.settings)
    settings = {**berth.settings, "QUAYMASTER_FAULT": f"{step}:TERM"}
    with ServerProcess.serve("--toolsets", "all", home=berth.home, settings=settings) as server:
        async with over_http(server, key) as client:
            await client.call_tool("create_project", {"name": berth.shop})
            arguments = {"project": berth.shop, "engine": "postgres", "wait_seconds": wait}
            await client.call_tool("create_database", arguments)
        assert server.wait_ended(SECONDS) == 0
    await anyio.to_thread.run_sync(whole_or_nothing, berth, server)
