"""The main job: two real clients, one over stdio and one over HTTP, share a project and contend for its
files."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from mcp import Client

from tests.acceptance.wire import ERAS, done, make_key, over_http, over_stdio, refused
from tests.services.processes import ServerProcess

FILES = [f"src/part{number}.py" for number in range(4)]
ROUNDS = 6


async def begin(client: Client, title: str, files: list[str]) -> str:
    """A task in progress; its id."""
    task = await done(client, "create_task", project="shop", title=title, affected_files=files)
    await done(client, "update_task", task_id=task["id"], status="in-progress")
    return str(task["id"])


async def recorded(client: Client, **wanted: object) -> list[object]:
    """Rows of the audit log; refusals are written in batches, so it asks again for a few seconds."""
    for _ in range(100):
        if items := (await done(client, "query_audit", **wanted))["items"]:
            return list(items)
        await anyio.sleep(0.05)
    return []


@pytest.mark.parametrize(
    ("stdio_era", "http_era"), [("auto", "legacy"), ("legacy", "auto"), ("auto", "auto")]
)
async def test_two_agents_share_a_project_hand_over_files_and_see_each_others_work(
    tmp_path: Path, stdio_era: str, http_era: str
) -> None:
    key = make_key(tmp_path, role="member")
    with ServerProcess.serve(home=tmp_path) as server:
        async with over_stdio(tmp_path, era=stdio_era) as ann, over_http(server, key, era=http_era) as bo:
            await done(ann, "create_project", name="shop", type="python", idempotency_key="first")
            mine = await begin(ann, "Basket", ["src/basket.py"])
            theirs = await begin(bo, "Checkout", ["src/"])

            held = await done(ann, "lock_files", project="shop", paths=["./src//basket.py"], task_id=mine)
            error = await refused(
                bo, "lock_files", project="shop", paths=["src/", "docs/a.md"], task_id=theirs
            )
            assert error["code"] == "LOCKED"
            [conflict] = error["conflicts"]
            assert (conflict["task_title"], conflict["holder"]) == ("Basket", held["holder"])
            assert (await done(bo, "check_files", project="shop", paths=["docs/a.md"]))["free"], (
                "nothing was locked"
            )

            finished = await done(ann, "update_task", task_id=mine, status="done", note="basket works")
            assert any("released 1 lock" in notice for notice in finished["notices"])
            taken = await done(bo, "lock_files", project="shop", paths=["src/", "docs/a.md"], task_id=theirs)
            assert taken["fence"] > held["fence"]
            assert (await refused(ann, "lock_files", project="shop", paths=["src/basket.py"]))[
                "code"
            ] == "LOCKED"

            seen = await done(ann, "list_tasks", project="shop")
            assert {task["title"]: task["status"] for task in seen["tasks"]} == {
                "Basket": "done",
                "Checkout": "in-progress",
            }
            assert await recorded(ann, action="lock_files", success=False)


@pytest.mark.parametrize("era", ERAS)
async def test_of_many_callers_that_grab_overlapping_files_one_wins_and_fences_only_grow(
    tmp_path: Path, era: str
) -> None:
    key = make_key(tmp_path, role="member")
    fences: list[int] = []
    holding: list[str] = []

    async def work(client: Client, agent: str) -> None:
        """Lock overlapping paths, round after round; while they are held nobody else may hold any."""
        for number in range(ROUNDS):
            paths = FILES if number % 2 else ["src/*.py"]
            arguments = {"project": "shop", "paths": paths, "agent": agent, "wait_seconds": 30}
            locked = await done(client, "lock_files", **arguments)
            assert holding == [], f"{agent} got what {holding} holds"
            holding.append(agent)
            fences.append(locked["fence"])
            await anyio.lowlevel.checkpoint()
            holding.remove(agent)
            await done(client, "release_files", project="shop", agent=agent)

    with ServerProcess.serve(home=tmp_path) as server:
        async with over_stdio(tmp_path, era=era) as ann, over_http(server, key, era=era) as bo:
            await done(ann, "create_project", name="shop")
            with anyio.fail_after(90):
                async with anyio.create_task_group() as tasks:
                    for client, agent in ((ann, "a1"), (bo, "b1"), (ann, "a2"), (bo, "b2")):
                        tasks.start_soon(work, client, agent)
            assert len(fences) == 4 * ROUNDS
            assert fences == sorted(set(fences))
            assert (await done(ann, "list_locks", project="shop"))["locks"] == []
