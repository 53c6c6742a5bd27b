"""Long calls as tasks: real clients of the extension, over HTTP, on a real engine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import anyio
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult, Request, RequestParams, Result

from mcp_server.tools.long_calls import IDENTIFIER
from tests.acceptance import wire
from tests.deployments.conftest import Harbour
from tests.services.processes import ServerProcess


class Handle(Result):
    result_type: Literal["task"] = "task"
    task_id: str
    status: str
    created_at: str
    poll_interval_ms: int


class Task(Handle):
    result_type: str = "complete"  # type: ignore[assignment]
    status_message: str | None = None
    result: CallToolResult | None = None


class TaskParams(RequestParams):
    task_id: str


class TaskRequest(Request[TaskParams, str]):
    name_param = "taskId"


class Tasks(ClientExtension):
    """Waits for what a server turned into a task."""

    identifier = IDENTIFIER

    def __init__(self) -> None:
        self.told: list[tuple[str, str | None]] = []
        self.handles: list[Handle] = []

    def claims(self) -> Sequence[ResultClaim[Any]]:
        return [ResultClaim(result_type="task", model=Handle, resolve=self._resolve)]

    async def _resolve(self, handle: Handle, context: ClaimContext) -> CallToolResult:
        self.handles.append(handle)
        while True:
            task = await ask(context.session, "tasks/get", handle.task_id)
            self.told.append((task.status, task.status_message))
            if task.result is not None:
                return task.result
            await anyio.sleep(0.2)


async def ask(session: Any, method: str, task: str) -> Task:
    request = TaskRequest(method=method, params=TaskParams(task_id=task))
    return await session.send_request(  # type: ignore[no-any-return]
        request, Task if method == "tasks/get" else Result
    )


@contextlib.asynccontextmanager
async def client(
    server: ServerProcess, key: str, tasks: Tasks | None, query: str = ""
) -> AsyncIterator[Client]:
    extensions = [] if tasks is None else [tasks]
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=60) as http,
        Client(
            streamable_http_client(f"{server.url}/mcp{query}", http_client=http), extensions=extensions
        ) as made,
    ):
        yield made


async def refused(session: Any, task: str) -> MCPError:
    with pytest.raises(MCPError) as refusal:
        await ask(session, "tasks/get", task)
    return refusal.value


@pytest.mark.timeout(300)
async def test_a_client_of_the_tasks_extension_gets_a_handle_that_any_server_of_the_home_answers_for(
    harbour: Harbour,
) -> None:
    settings = {**harbour.environ, "DOCKER_HOST": harbour.engine.address}
    key = wire.make_key(harbour.home, **settings)
    slow = {"project": harbour.project, "variables": {"START_DELAY": "4"}}
    tasks = Tasks()
    with ServerProcess.serve(home=harbour.home, settings=settings) as server:
        async with client(server, key, None, "?toolsets=all") as plain:
            assert IDENTIFIER in (plain.server_capabilities.extensions or {})
            await wire.done(plain, "create_project", name=harbour.project)
            await wire.done(plain, "set_environment", **slow)
            own = await wire.done(plain, "deploy_project", **harbour.deploy(wait_seconds=1))
            assert own["status"] == "running", "without the extension there is no handle"
            await wire.done(plain, "cancel_deployment", deployment_id=own["id"])
            team = await wire.done(plain, "create_team", name="Others")

        async with client(server, key, tasks) as speaking:
            done = await wire.done(speaking, "deploy_project", **harbour.deploy())
            assert (done["status"], done["version"]) == ("success", "v1")
            assert {status for status, _ in tasks.told} == {"working", "completed"}
            assert any("health of version v1" in (line or "") for _, line in tasks.told)
            nothing = {"project": harbour.project, "image": f"sha256:{'0' * 64}"}
            quick = await wire.done(speaking, "deploy_project", **nothing)
            assert (quick["status"], len(tasks.handles)) == ("failed", 1), (
                "answered at once, without a handle"
            )

            [handle] = tasks.handles
            async with client(server, team["key"], Tasks()) as stranger:
                assert "Unknown task" in str(await refused(stranger.session, handle.task_id))
            assert "Unknown task" in str(await refused(speaking.session, "deploy_project:d-none"))
            assert "Unknown task" in str(await refused(speaking.session, "delete_project:x"))

            begun = await speaking.session.call_tool(
                "deploy_project", harbour.deploy("demo-v2"), allow_claimed=True
            )
            assert isinstance(begun, Handle)
            await ask(speaking.session, "tasks/cancel", begun.task_id)
            with anyio.fail_after(30):
                while (ended := await ask(speaking.session, "tasks/get", begun.task_id)).status == "working":
                    await anyio.sleep(0.1)
            assert (ended.status, ended.result) == ("cancelled", None)
            again = await speaking.session.call_tool(
                "deploy_project", harbour.deploy("demo-v2"), allow_claimed=True
            )
            assert isinstance(again, Handle)
            server.kill()
    with ServerProcess.serve(home=harbour.home, settings=settings) as server:
        async with client(server, key, Tasks()) as speaking:
            with anyio.fail_after(30):
                while (task := await ask(speaking.session, "tasks/get", again.task_id)).status == "working":
                    await anyio.sleep(0.1)
            assert task.result is not None
            assert (task.result.structured_content or {})["error"] == "the server ended before it was done"
            kept = await ask(speaking.session, "tasks/get", handle.task_id)
            assert kept.result is not None
            assert (kept.result.structured_content or {})["id"] == done["id"]
