"""A deploy beside the engine's own run of the same image; promotes and rollbacks, with the probes and without."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import Figures, Row, figures, in_turn
from mcp_server.domain.routes import Probe
from mcp_server.domain.slots import SlotName
from tests.deployments.conftest import Harbour, a_harbour
from tests.services.edge import get
from tests.services.engine import TEST, DockerEngine, find_engine
from tests.services.images import ensure
from tests.services.ports import ReservedPort
from tests.tools.desk import Desk

ROUNDS, SWITCHES = 7, 50
SWITCH_MS = 150.0
IMAGE = "demo-plain"
"""Without a health check of its own: what is asked for is one answer over HTTP."""


async def measure() -> list[Row]:
    engine = find_engine()
    with tempfile.TemporaryDirectory(prefix="qm-bench-") as folder:
        async with _harbour(Path(folder), engine) as harbour, harbour.server() as desk:
            await desk.done("create_project", {"name": harbour.project})
            row = await _beside_run(desk, harbour)
            await desk.done("promote", _where(harbour))
            await desk.done("deploy_project", harbour.deploy(IMAGE))
            probed = await _switches(desk, harbour, "with its probes")
            _without_probes(desk)
            return [row, _switch_row(probed), _switch_row(await _switches(desk, harbour, "probes excluded"))]


@asynccontextmanager
async def _harbour(folder: Path, engine: DockerEngine) -> AsyncIterator[Harbour]:
    installation = f"{TEST}{os.getpid()}-{uuid.uuid4().hex}"
    try:
        async with a_harbour(folder, engine, installation, lambda name: ensure(engine, name)) as harbour:
            yield harbour
    finally:
        engine.clear(installation)


def _where(harbour: Harbour) -> dict[str, str]:
    return {"project": harbour.project}


# -- deploy


async def _beside_run(desk: Desk, harbour: Harbour) -> Row:
    """In turn: each into an empty place, until the application answers its health path."""
    await desk.done("deploy_project", harbour.deploy(IMAGE))

    async def deploy() -> Figures:
        plan = await desk.done("cleanup_slot", _where(harbour))
        await desk.done("cleanup_slot", {**_where(harbour), "plan_token": plan["plan_token"]})
        begun = time.perf_counter()
        done = await desk.done("deploy_project", harbour.deploy(IMAGE))
        took = time.perf_counter() - begun
        if done["status"] != "success":
            raise RuntimeError(done["error"])
        return figures("deploy_project", [took * 1000], took)

    async def run() -> Figures:
        took = await asyncio.to_thread(_run_once, harbour)
        return figures("run until healthy", [took * 1000], took)

    ours, theirs = await in_turn(ROUNDS, deploy, run)
    return Row(
        f"deploy_project into an empty slot, median of {ROUNDS} rounds in turn",
        f"{ours.p50:.0f} ms",
        f"{theirs.name} {theirs.p50:.0f} ms",
        round(ours.p50 / theirs.p50, 2),
    )


def _run_once(harbour: Harbour) -> float:
    """Seconds from the order to the engine until /health answers 200 through the published port."""
    with _free_port() as port:
        body = {
            "Image": harbour.image(IMAGE),
            "Labels": {"quaymaster.installation": harbour.owner.installation},
            "ExposedPorts": {"8080/tcp": {}},
            "HostConfig": {"PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}},
        }
        begun = time.perf_counter()
        container = harbour.engine.ask("POST", "/containers/create", body)["Id"]
        try:
            harbour.engine.ask("POST", f"/containers/{container}/start")
            while not _healthy(port):
                time.sleep(0.01)
            return time.perf_counter() - begun
        finally:
            harbour.engine.ask("DELETE", f"/containers/{container}?force=1")


@contextmanager
def _free_port() -> Iterator[int]:
    with ExitStack() as stack:
        claim = ReservedPort()
        stack.callback(claim.release)
        yield claim.number


def _healthy(port: int) -> bool:
    try:
        return get(port, "localhost", "/health").status == 200
    except (OSError, ValueError, EOFError):
        return False


# -- promote and rollback


async def _switches(desk: Desk, harbour: Harbour, how: str) -> Figures:
    """Whole calls, to and fro."""
    took: list[float] = []
    began = time.perf_counter()
    for _ in range(SWITCHES):
        for tool, extra in (("promote", {}), ("rollback", {"reason": "measured"})):
            begun = time.perf_counter()
            await desk.done(tool, {**_where(harbour), **extra})
            took.append((time.perf_counter() - begun) * 1000)
    return figures(how, took, time.perf_counter() - began)


def _without_probes(desk: Desk) -> None:
    """Everything but the requests: who is active is answered from the proxy's directory."""
    edge: Any = desk.house.hosting.edge

    async def answered(host: str, path: str = "/", *, count: int = 1) -> tuple[Probe, ...]:
        await asyncio.sleep(0)
        routes = await edge.routes()
        active: SlotName | None = next((one.active for one in routes if host in one.hosts), None)
        return tuple(Probe(status=200, slot=active, milliseconds=0.0) for _ in range(count))

    edge.probe = answered


def _switch_row(taken: Figures) -> Row:
    met = taken.p95 < SWITCH_MS if "excluded" in taken.name else None
    return Row(
        f"promote and rollback end to end, {taken.name}, {taken.calls} switches",
        f"p50 {taken.p50:.0f} ms, p95 {taken.p95:.0f} ms",
        "",
        None,
        f"p95 < {SWITCH_MS:.0f} ms" if met is not None else "",
        met,
        {"p50": taken.p50, "p95": taken.p95, "p99": taken.p99},
    )
