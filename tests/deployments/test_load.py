"""Clients that never try again, while traffic goes to and fro between two versions."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.deployments.conftest import Harbour
from tests.services.edge_load import Load
from tests.tools.desk import Desk

REQUESTS = 50_000
"""At least so many in a whole run."""

MOST_MEDIAN_SECONDS = 3.0
"""Far above what is aimed at: other tests run on the same cores."""


@asynccontextmanager
async def visitors(port: int, host: str, neighbour: str) -> AsyncIterator[Load]:
    run = Load(port)
    work = [
        *(run.keep_alive(host) for _ in range(2)),
        *(run.keep_alive(host, idle=0.01) for _ in range(6)),
        *(run.keep_alive(host, idle=0.5) for _ in range(6)),
        *(run.keep_alive(host, path="/sleep/1") for _ in range(2)),
        *(run.fresh(host) for _ in range(1)),
        *(run.websocket(host) for _ in range(4)),
        *(run.websocket(neighbour) for _ in range(20)),
        *(run.keep_alive(neighbour, idle=0.2) for _ in range(6)),
    ]
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield run
    finally:
        run.stop()
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks)


async def serving(desk: Desk, harbour: Harbour, project: str) -> None:
    await desk.done("create_project", {"name": project})
    await desk.done("deploy_project", harbour.deploy() | {"project": project})
    await desk.done("promote", {"project": project})


@pytest.mark.timeout(0)
async def test_no_request_is_lost_by_promotes_and_rollbacks_and_every_answer_is_of_the_version_named(
    harbour: Harbour, rounds: Callable[[int, int], int], rng: random.Random, soak: bool
) -> None:
    neighbour = f"{harbour.project}n"
    async with harbour.server() as desk:
        await serving(desk, harbour, harbour.project)
        await serving(desk, harbour, neighbour)
        await desk.done("deploy_project", harbour.deploy("demo-v2"))
        took = []
        async with visitors(harbour.port, harbour.host(), f"{neighbour}-staging.localhost") as load:
            for _ in range(rounds(3, 50)):
                for tool, extra, version in (("promote", {}, "v2"), ("rollback", {"reason": "load"}, "v1")):
                    begun = time.monotonic()
                    result = await desk.done(tool, {"project": harbour.project, **extra})
                    took.append(time.monotonic() - begun)
                    assert (result["version"], result["receipt"]["failed"]) == (version, 0)
                    since = load.now()
                    await load.more_answers(rounds(0, REQUESTS // 100) + rng.randint(20, 80))
                    later = [
                        one.text
                        for one in load.answers
                        if one.host == harbour.host() and one.sent >= since and one.text != "slept\n"
                    ]
                    assert later
                    assert {text.split()[0] for text in later} == {version}
        assert load.lost == []
        assert load.echoes > 0
        if soak:
            assert len(load.answers) >= REQUESTS
        print(
            f"{len(load.answers)} answers, {load.echoes} echoes, {len(took)} switches, median {sorted(took)[len(took) // 2]:.3f} s, "
            f"p95 {sorted(took)[int(len(took) * 0.95)]:.3f} s"
        )
        assert sorted(took)[len(took) // 2] < MOST_MEDIAN_SECONDS
        assert harbour.version() == "v1"
