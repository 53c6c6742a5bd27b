"""A place that is taken is somebody's work, or settled: whatever goes away as the work begins."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_server.domain.deployments import Deployment, Release
from mcp_server.domain.errors import Invalid, Unavailable
from mcp_server.domain.slots import Slot, SlotPair
from mcp_server.ports.store import Intent, Transaction
from tests.tools.desk import Desk, opened
from tests.tools.lost import lost_in_the_commit

TEST = Intent("deploy_project", "test")
ID = {"app": "d-1", "zoo": "d-2"}


@asynccontextmanager
async def at_the_desk(home: Path, **settings: str) -> AsyncIterator[Desk]:
    """A server without an engine: what begins ends soon, and says so."""
    async with opened(home, **settings) as desk:
        await desk.done("create_project", {"name": "app"})
        yield desk


async def test_a_deployment_that_was_written_down_for_a_lost_caller_is_carried_out(
    tmp_path: Path, database_url: str
):
    async with at_the_desk(tmp_path, database_url=database_url) as desk:
        await lost_in_the_commit(desk, "deploy_project", project="app", image="demo")
        [begun] = (await desk.done("list_deployments", {"project": "app"}))["deployments"]
        ended = await desk.done("get_deployment", {"deployment_id": begun["id"], "wait_seconds": 10})
        assert (ended["status"], ended["steps"][0]["name"]) == ("failed", "image")


async def test_a_switch_that_was_written_down_for_a_lost_caller_is_settled(tmp_path: Path, database_url: str):
    async with at_the_desk(tmp_path, database_url=database_url) as desk:
        await desk.house.store.run(partial(deployed, desk=desk), TEST)
        await lost_in_the_commit(desk, "promote", project="app", environment="production")
        with anyio.fail_after(10):
            while (await status(desk))["at_work"] is not None:
                await anyio.sleep(0.05)
        assert "promote to blue" in (await status(desk))["last_switch"]


async def test_a_repeated_cleanup_takes_nothing_away_that_has_come_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with at_the_desk(tmp_path) as desk:
        await desk.house.store.run(partial(deployed, desk=desk), TEST)
        taken: list[str | None] = []

        async def take_away(berth: object, deployment: str | None = None) -> None:
            taken.append(deployment)

        monkeypatch.setattr(desk.house.hosting.slots, "take_away", take_away)
        place = {"project": "app", "environment": "production", "slot": "blue"}
        plan = await desk.done("cleanup_slot", place)
        wanted = {**place, "plan_token": plan["plan_token"], "idempotency_key": "once"}
        first = await desk.done("cleanup_slot", wanted)
        assert await desk.done("cleanup_slot", wanted) == first
        assert taken == [ID["app"]]


async def test_all_who_wait_for_one_build_hear_its_outcome_and_the_next_call_builds_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with at_the_desk(tmp_path) as desk:
        builds, begun, heard = desk.house.hosting.builds, anyio.Event(), []
        tried: list[str] = []

        async def build_image(name: str, *arguments: object, **more: object) -> None:
            tried.append(name)
            await begun.wait()
            raise Invalid("step 2 fails")

        monkeypatch.setattr(builds._engine, "build_image", build_image)
        code = base64.b64encode(bytes(10240)).decode()
        wanted = {"project": "app", "version": "v1", "archive_content": code}

        async def ask() -> None:
            heard.append((await desk.call("build_image", wanted)).structured_content["message"])

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            group.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            begun.set()
        assert (heard, len(tried)) == (["step 2 fails"] * 2, 1)
        await ask()
        assert (heard[2], len(tried)) == ("step 2 fails", 2)


class Away:
    """A store that cannot be read."""

    async def read(self, fn: object) -> None:
        raise Unavailable("the store is away")


async def test_a_deployment_whose_work_could_not_begin_is_settled_by_the_next_who_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with at_the_desk(tmp_path) as desk:
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(desk.house.hosting.rollouts, "_store", Away())
            wanted = {"project": "app", "image": "demo", "wait_seconds": 0}
            begun = await desk.done("deploy_project", wanted)
            await ended(desk, begun["id"])
        after = await desk.done("get_deployment", {"deployment_id": begun["id"], "wait_seconds": 5})
        assert (after["status"], after["error"]) == ("failed", "the server ended before it was done")


async def test_a_switch_whose_work_could_not_begin_is_settled_by_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with at_the_desk(tmp_path) as desk:
        await desk.house.store.run(partial(deployed, desk=desk), TEST)
        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(desk.house.hosting.moves, "_store", Away())
            await desk.call("promote", {"project": "app", "environment": "production"})
        await desk.house.hosting.recover()
        assert (await status(desk))["at_work"] is None


async def test_a_switch_that_cannot_be_settled_keeps_no_other_projects_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with at_the_desk(tmp_path) as desk:
        await desk.done("create_project", {"name": "zoo"})
        recovery = desk.house.hosting.recovery
        settle = recovery._settle_switch

        async def refused_for_the_first(pair: SlotPair) -> bool:
            if pair.project == "app":
                raise Unavailable("the proxy refuses its file")
            return await settle(pair)

        for project in ("app", "zoo"):
            await desk.house.store.run(partial(deployed, desk=desk, project=project), TEST)
            with monkeypatch.context() as meanwhile:
                meanwhile.setattr(desk.house.hosting.moves, "_store", Away())
                await desk.call("promote", {"project": project, "environment": "production"})
        monkeypatch.setattr(recovery, "_settle_switch", refused_for_the_first)
        await desk.house.hosting.recover()
        assert (await status(desk))["at_work"] is not None
        assert (await status(desk, "zoo"))["at_work"] is None


async def test_cancelling_what_a_dead_server_began_settles_it_at_once(tmp_path: Path):
    async with at_the_desk(tmp_path) as desk:
        await desk.house.store.run(partial(deployed, desk=desk, status="running", worker="dead"), TEST)
        with anyio.fail_after(20):
            after = await desk.done("cancel_deployment", {"deployment_id": "d-1"})
        assert after["status"] == "failed"


async def ended(desk: Desk, id: str) -> None:
    """Its work is over, however it went."""
    with anyio.fail_after(10):
        while desk.house.hosting.works.get(id) is not None:
            await anyio.sleep(0.02)


async def status(desk: Desk, project: str = "app") -> Any:
    return await desk.done("slot_status", {"project": project, "environment": "production"})


async def deployed(
    tx: Transaction, *, desk: Desk, project: str = "app", status: str = "success", worker: str | None = None
) -> None:
    """As after a deploy to production from this home, or amid it."""
    site, now = desk.house.hosting.site, await tx.now()
    kept = await tx.projects.get(project)
    assert kept is not None
    release = Release(project_uid=kept.uid, health_timeout=5)
    made = {"project": project, "environment": "production", "slot": "blue", "version": "v1", "image": "demo"}
    await tx.deployments.add(
        Deployment.model_validate(
            {
                **made,
                "id": ID[project],
                "status": status,
                "worker": worker,
                "home": site.home,
                "created_at": now,
                "release": release,
            }
        )
    )
    blue = Slot(state="deployed", port=4100, version="v1", image="demo", deployment=ID[project])
    if status == "running":
        blue = Slot()
    await tx.slots.add(
        SlotPair(
            project=project,
            environment="production",
            blue=blue,
            home=site.home,
            host=site.host,
            host_name=site.host_name,
            updated_at=now,
        )
    )
