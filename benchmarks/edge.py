"""The proxy: how soon a switch has happened, whether it costs more with a thousand projects, how long a drain takes."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.measure import Figures, Row, figures, median, timed
from mcp_server.adapters.edge.caddy.config import CaddySettings
from mcp_server.adapters.edge.caddy.edge import CaddyEdge
from mcp_server.adapters.edge.caddy.host import HostCaddy
from mcp_server.adapters.edge.probes import Door
from mcp_server.adapters.edge.switch import SwitchDirectory
from mcp_server.domain.routes import Route, Target
from mcp_server.domain.slots import SlotName
from tests.services.edge import App, CaddyProcess, find_proxy
from tests.services.edge_load import Load
from tests.services.ports import ReservedPort

ROUTE, HOST = "app.production", "app.quay.test"
SLOTS: tuple[SlotName, SlotName] = ("blue", "green")
SWITCHES, REQUESTS, PROJECTS, DRAINS = 100, 1000, 1000, 5
LAST_OLD_MS, RATIO, SLEEP_SECONDS = 25.0, 1.2, 1.0


@dataclass
class Stage:
    edge: CaddyEdge
    port: int
    targets: dict[SlotName, Target]
    version: str


async def measure() -> list[Row]:
    with _stage() as stage:
        await stage.edge.attach(HOST, ROUTE)
        await stage.edge.point(ROUTE, "blue", stage.targets["blue"])
        return [await _last_old(stage), *await _growth(stage), await _drain(stage)]


async def _last_old(stage: Stage) -> Row:
    """Clients on kept and on new connections; a request counts from when it was sent."""
    run = Load(stage.port)
    clients = [asyncio.create_task(run.keep_alive(HOST)) for _ in range(8)]
    clients += [asyncio.create_task(run.fresh(HOST)) for _ in range(2)]
    command, last = [], []
    for number in range(SWITCHES):
        slot = SLOTS[(number + 1) % 2]
        await run.more_answers(50)
        begun = run.now()
        await stage.edge.point(ROUTE, slot, stage.targets[slot])
        command.append((run.now() - begun) * 1000)
        await run.more_answers(50)
        old = [one.received for one in run.answers if one.received > begun and one.text != slot]
        last.append((max(old, default=begun) - begun) * 1000)
    run.stop()
    await asyncio.gather(*clients)
    worst = max(last)
    return Row(
        f"switch to the last old answer, {len(run.answers)} requests, {len(run.lost)} lost, Caddy {stage.version}",
        f"median {median(last):.1f} ms, worst {worst:.1f} ms",
        f"the call itself {median(command):.1f} ms",
        None,
        f"<= {LAST_OLD_MS:.0f} ms, 0 lost",
        worst <= LAST_OLD_MS and not run.lost,
        {"last_old_ms": last, "command_ms": command, "lost": run.lost[:5]},
    )


async def _growth(stage: Stage) -> list[Row]:
    one = await _both(stage)
    more = [
        Route(
            name=f"other-{number}.production",
            active="blue",
            target=stage.targets["blue"],
            hosts=(f"other-{number}.quay.test",),
        )
        for number in range(PROJECTS - 1)
    ]
    await stage.edge.rebuild([*await stage.edge.routes(), *more])
    many = await _both(stage)
    names = ("a request on a new connection", "a switch")
    return [_grown(name, few, full) for name, few, full in zip(names, one, many, strict=True)]


async def _both(stage: Stage) -> tuple[Figures, Figures]:
    async def request(_: int) -> None:
        (found,) = await stage.edge.probe(HOST)
        if found.status != 200:
            raise RuntimeError(found.error or str(found.status))

    async def switch(number: int) -> None:
        slot = SLOTS[(number + 1) % 2]
        await stage.edge.point(ROUTE, slot, stage.targets[slot])

    requests = await timed("request", request, calls=REQUESTS)
    return requests, await timed("switch", switch, calls=SWITCHES)


def _grown(name: str, few: Figures, full: Figures) -> Row:
    ratio = full.p50 / few.p50
    return Row(
        f"{name}: 1 -> {PROJECTS:,} projects on one proxy",
        f"{full.p50:.2f} ms",
        f"{few.p50:.2f} ms",
        round(ratio, 2),
        f"<= {RATIO} x",
        ratio <= RATIO,
        {"one": asdict(few), "many": asdict(full)},
    )


async def _drain(stage: Stage) -> Row:
    """From the switch to no connection, while requests of a second and idle kept connections are there."""
    took, lost = [], []
    for number in range(DRAINS):
        old, new = SLOTS[number % 2], SLOTS[(number + 1) % 2]
        await stage.edge.point(ROUTE, old, stage.targets[old])
        while await stage.edge.connections(stage.targets[new]):
            await asyncio.sleep(0.05)
        run = Load(stage.port)
        slow = [asyncio.create_task(run.keep_alive(HOST, path=f"/sleep/{SLEEP_SECONDS:g}")) for _ in range(4)]
        idle = [asyncio.create_task(run.keep_alive(HOST, idle=0.5)) for _ in range(20)]
        await run.more_answers(20)
        begun = time.monotonic()
        await stage.edge.point(ROUTE, new, stage.targets[new])
        while await stage.edge.connections(stage.targets[old]):
            await asyncio.sleep(0.02)
        took.append((time.monotonic() - begun) * 1000)
        run.stop()
        await asyncio.gather(*slow, *idle)
        lost += run.lost
    found = figures("drain", took, sum(took) / 1000)
    return Row(
        "drain: from the switch to no connection to the old slot",
        f"median {found.p50 / 1000:.1f} s, worst {max(took) / 1000:.1f} s, {len(lost)} lost",
        f"requests of {SLEEP_SECONDS:g} s, idle connections kept 2 s",
        None,
        "0 lost",
        not lost,
        {"drain_ms": took},
    )


@contextmanager
def _stage() -> Iterator[Stage]:
    program = find_proxy("caddy-2.11")
    said = subprocess.run([str(program), "version"], capture_output=True, text=True, check=True).stdout
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qm-bench-edge-")))
        port = ReservedPort()
        stack.callback(port.release)
        directory = SwitchDirectory(folder / "root", "benchmark")
        directory.claim()
        settings = CaddySettings(
            installation="benchmark",
            token=directory.token(),
            switch=str(folder / "root" / "switch"),
            storage=str(folder / "storage"),
            address="127.0.0.1",
            http_port=port.number,
        )
        door = Door("127.0.0.1", port.number, 0, "off", directory.token())
        stack.enter_context(CaddyProcess(program, settings, folder))
        apps = {slot: stack.enter_context(App(slot, folder)) for slot in SLOTS}
        yield Stage(
            CaddyEdge(directory, settings, door, HostCaddy()),
            port.number,
            {slot: Target(host="127.0.0.1", port=app.port) for slot, app in apps.items()},
            said.split()[0],
        )
