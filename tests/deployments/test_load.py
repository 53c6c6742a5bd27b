"""Clients that never try again, while traffic goes to and fro between two versions."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.deployments.conftest import Harbour, authority, reserved
from tests.services.edge_load import Load
from tests.tools.desk import Desk

REQUESTS = 50_000
"""At least so many in a whole run."""

SECURE_REQUESTS = 25_000
"""The same over TLS, with each Caddy."""

MOST_MEDIAN_SECONDS = 3.0
"""Far above what is aimed at: other tests run on the same cores."""

BASE = "quay.test"


def plain_visitors(run: Load, host: str, neighbour: str) -> list[Coroutine[Any, Any, None]]:
    return [
        *(run.keep_alive(host) for _ in range(2)),
        *(run.keep_alive(host, idle=0.01) for _ in range(6)),
        *(run.keep_alive(host, idle=0.5) for _ in range(6)),
        *(run.keep_alive(host, path="/sleep/1") for _ in range(2)),
        *(run.fresh(host) for _ in range(1)),
        *(run.websocket(host) for _ in range(4)),
        *(run.websocket(neighbour) for _ in range(20)),
        *(run.keep_alive(neighbour, idle=0.2) for _ in range(6)),
    ]


def secure_visitors(run: Load, host: str, neighbour: str) -> list[Coroutine[Any, Any, None]]:
    """Over TLS, with HTTP/1.1 and HTTP/2."""
    return [
        run.multiplexed(host, streams=4),
        run.multiplexed(host, streams=6, idle=0.3),
        run.multiplexed(host, streams=2, path="/sleep/1"),
        run.multiplexed(neighbour, streams=4, idle=0.2),
        *(run.keep_alive(host) for _ in range(2)),
        *(run.keep_alive(host, idle=0.5) for _ in range(4)),
        run.fresh(host),
        *(run.websocket(host) for _ in range(2)),
        *(run.websocket(neighbour) for _ in range(8)),
        *(run.keep_alive(neighbour, idle=0.2) for _ in range(4)),
    ]


@asynccontextmanager
async def visiting(run: Load, work: list[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        run.stop()
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks)


async def serving(desk: Desk, harbour: Harbour, project: str) -> None:
    await desk.done("create_project", {"name": project})
    await desk.done("deploy_project", harbour.deploy() | {"project": project})
    await desk.done("promote", {"project": project})


async def to_and_fro(
    desk: Desk, project: str, host: str, load: Load, rounds: int, between: Callable[[], int]
) -> list[float]:
    """How long each promote and rollback took; every answer after one is of the version that it named."""
    took = []
    for _ in range(rounds):
        for tool, extra, version in (("promote", {}, "v2"), ("rollback", {"reason": "load"}, "v1")):
            begun = time.monotonic()
            result = await desk.done(tool, {"project": project, **extra})
            took.append(time.monotonic() - begun)
            assert (result["version"], result["receipt"]["failed"]) == (version, 0)
            since = load.now()
            await load.more_answers(between())
            later = [
                one.text
                for one in load.answers
                if one.host == host and one.sent >= since and one.text != "slept\n"
            ]
            assert later
            assert {text.split()[0] for text in later} == {version}
    return sorted(took)


def told(load: Load, took: list[float]) -> str:
    return (
        f"{len(load.answers)} answers ({load.streamed} over HTTP/2), {load.echoes} echoes, {len(took)} switches, "
        f"median {took[len(took) // 2]:.3f} s, p95 {took[int(len(took) * 0.95)]:.3f} s"
    )


@pytest.mark.timeout(0)
async def test_no_request_is_lost_by_promotes_and_rollbacks_and_every_answer_is_of_the_version_named(
    harbour: Harbour, rounds: Callable[[int, int], int], rng: random.Random, soak: bool
) -> None:
    neighbour, load = f"{harbour.project}n", Load(harbour.port)
    async with harbour.server() as desk:
        await serving(desk, harbour, harbour.project)
        await serving(desk, harbour, neighbour)
        await desk.done("deploy_project", harbour.deploy("demo-v2"))
        work = plain_visitors(load, harbour.host(), f"{neighbour}-staging.localhost")
        async with visiting(load, work):
            took = await to_and_fro(
                desk,
                harbour.project,
                harbour.host(),
                load,
                rounds(3, 50),
                lambda: rounds(0, REQUESTS // 100) + rng.randint(20, 80),
            )
        assert load.lost == []
        assert load.echoes > 0
        if soak:
            assert len(load.answers) >= REQUESTS
        print(told(load, took))
        assert took[len(took) // 2] < MOST_MEDIAN_SECONDS
        assert harbour.version() == "v1"


@pytest.mark.timeout(0)
async def test_no_request_over_tls_is_lost_neither_on_connections_of_their_own_nor_on_streams_of_http2(
    harbour: Harbour,
    caddy_image: str,
    tmp_path: Path,
    rounds: Callable[[int, int], int],
    rng: random.Random,
    soak: bool,
) -> None:
    project, neighbour = harbour.project, f"{harbour.project}n"
    host = f"{project}-staging.{BASE}"
    with reserved() as https:
        settings = {
            "base_domain": BASE,
            "edge_tls": "internal",
            "edge_https_port": str(https),
            "edge_image": caddy_image,
        }
        async with harbour.server(**settings) as desk:
            await serving(desk, harbour, project)
            await serving(desk, harbour, neighbour)
            await desk.done("deploy_project", harbour.deploy("demo-v2"))
            load = Load(https, await authority(desk, tmp_path))
            async with visiting(load, secure_visitors(load, host, f"{neighbour}-staging.{BASE}")):
                took = await to_and_fro(
                    desk,
                    project,
                    host,
                    load,
                    rounds(2, 25),
                    lambda: rounds(0, SECURE_REQUESTS // 50) + rng.randint(20, 80),
                )
            assert load.lost == []
            assert min(load.echoes, load.streamed) > 0
            if soak:
                assert len(load.answers) >= SECURE_REQUESTS
            print(told(load, took))
