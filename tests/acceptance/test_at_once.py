"""Calls that ask the store only, over HTTP: answered in one piece, and let in no other way than every call."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from mcp_server.http.gathering import MOST, Gathering
from tests.acceptance.wire import call, make_key
from tests.services.processes import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, str]]:
    home = tmp_path_factory.mktemp("home")
    key = make_key(home)
    with ServerProcess.serve(home=home) as running:
        yield running, key


def ask(
    server: tuple[ServerProcess, str],
    named: str,
    body: dict[str, Any],
    *,
    accept: str = "application/json",
    query: str = "?toolsets=all",
) -> httpx2.Response:
    running, key = server
    headers = {
        "accept": accept,
        "authorization": f"Bearer {key}",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "tools/call",
        "mcp-name": named,
    }
    return httpx2.post(f"{running.url}/mcp{query}", json=body, headers=headers, timeout=30)


def test_a_call_that_asks_the_store_only_needs_no_stream_and_every_other_call_has_one(server):
    for tool in ("list_projects", "list_tasks", "check_files", "get_team", "query_audit"):
        assert ask(server, tool, call(1, tool)).status_code == 200
    for tool in ("lock_files", "release_files", "create_task", "update_task"):
        assert ask(server, tool, call(1, tool)).status_code == 200
    for tool in ("infrastructure_status", "get_database", "delete_project", "create_backup"):
        assert ask(server, tool, call(1, tool)).status_code == 406


def test_a_call_that_waits_for_others_has_a_stream_to_hear_that_its_caller_went_away(server):
    for body in ({"wait_seconds": 1}, {"wait_seconds": 0}, {"change_description": "x" * 200_000}):
        asked = ask(server, "lock_files", call(1, "lock_files", project="none", paths=["a"], **body))
        assert asked.status_code == 406


def test_a_project_that_is_made_with_a_database_has_a_stream_for_its_progress(server):
    assert ask(server, "create_project", call(1, "create_project", name="plain")).status_code == 200
    for database in ("auto", "postgres"):
        asked = ask(server, "create_project", call(1, "create_project", name="more", database=database))
        assert asked.status_code == 406


def test_a_header_that_names_a_read_lets_no_other_tool_through(server):
    answer = ask(server, "get_project", call(1, "create_project", name="smuggled"))
    assert answer.status_code == 400
    found = ask(server, "get_project", call(2, "get_project", name="smuggled")).json()["result"]
    assert found["structuredContent"]["code"] == "NOT_FOUND"


def test_a_read_that_was_not_asked_for_stays_hidden(server):
    found = ask(server, "get_project", call(1, "get_project", name="x"), query="?toolsets=databases").json()
    assert "Unknown tool" in found["result"]["structuredContent"]["message"]


async def test_what_is_written_in_one_turn_leaves_together_and_nothing_is_lost_at_the_end():
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, ours)
    gathering = Gathering(transport)
    with theirs:
        gathering.write(b"head")
        gathering.write(b"body")
        with pytest.raises(BlockingIOError):
            theirs.recv(100)
        await asyncio.sleep(0)
        assert theirs.recv(100) == b"headbody"

        gathering.write(b"x" * (MOST + 1))
        assert theirs.recv(100) == b"x" * 100, "much is not kept back"

        gathering.write(b"last")
        gathering.close()
        received = b""
        while piece := await asyncio.get_running_loop().sock_recv(theirs, MOST):
            received += piece
        assert received.endswith(b"xlast")
