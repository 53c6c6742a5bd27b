"""Servers start a few at a time, whoever asks for them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from mcp_server.adapters.host.seats import HomeSeats
from mcp_server.domain.workloads import EngineStatus
from mcp_server.services.databases.options import Options
from mcp_server.services.databases.starts import Starts
from tests.databases.conftest import MakeYard
from tests.databases.yards import Yard


class Engine:
    """As far as it is asked here: how many cores it has."""

    async def detect(self, *, refresh: bool = False) -> EngineStatus:
        return EngineStatus(available=True, address="here", cpus=3)


def starts(home: Path, **options: Any) -> Starts:
    engine: Any = Engine()
    return Starts(HomeSeats(home), engine, Options(files="/nowhere", **options))


HOLDER = """
import sys
from pathlib import Path
from mcp_server.adapters.host.seats import HomeSeats
seat = HomeSeats(Path(sys.argv[1])).take(1)
print("taken" if seat else "full", flush=True)
sys.stdin.read()
"""


def holder(home: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "taken\n"
    return process


async def test_of_many_creations_over_two_servers_only_so_many_start_at_once(make_yard: MakeYard) -> None:
    under_way, most = Counter[str](), 0

    def step(name: str) -> None:
        nonlocal most
        under_way[name] += 1
        most = max(most, under_way["databases.create.created"] - under_way["databases.create.ready"])

    servers: list[Yard] = [await make_yard(starts=2, step=step) for _ in range(2)]
    names = [f"p{number}" for number in range(6)]
    for name in names:
        await servers[0].add_project(name)
    views = await asyncio.gather(
        *(
            servers[number % 2].create(name, engine="postgres", wait_seconds=100)
            for number, name in enumerate(names)
        )
    )
    assert [view.state for view in views] == ["running"] * 6
    assert most == 2


async def test_who_waits_for_a_turn_is_told_and_goes_in_the_order_of_coming(home: Path) -> None:
    line, order, told = starts(home, starts=1), list[int](), dict[int, list[str]]()
    let_go = asyncio.Event()

    async def start(number: int) -> None:
        async def tell(text: str) -> None:
            if not told.setdefault(number, []) or told[number][-1] != text:
                told[number].append(text)

        async with line.turn(tell):
            order.append(number)
            await let_go.wait()

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(start(number))
        while not ({1, 2} <= told.keys()):
            await asyncio.sleep(0.01)
        assert (order, told[1], told[2]) == (
            [0],
            ["waiting for 1 other to start first"],
            ["waiting for 2 others to start first"],
        )
        let_go.set()
    assert order == [0, 1, 2]


async def test_a_turn_that_is_cancelled_while_it_waits_leaves_the_line(home: Path) -> None:
    line = starts(home, starts=1)
    async with asyncio.timeout(20):
        async with line.turn():
            waiting = asyncio.create_task(line.turn().__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        async with line.turn():
            pass


async def test_without_a_setting_as_many_start_as_the_engine_has_cores(home: Path) -> None:
    line = starts(home)
    async with asyncio.timeout(20), line.turn(), line.turn(), line.turn():
        assert HomeSeats(home).take(3) is None
        assert HomeSeats(home).take(4) is not None


async def test_the_seat_of_a_killed_process_is_free_again(home: Path) -> None:
    process = holder(home)
    assert HomeSeats(home).take(1) is None
    process.kill()
    process.wait(10)
    async with asyncio.timeout(20), starts(home, starts=1).turn():
        pass


async def test_a_frozen_process_keeps_nobody_from_starting_for_ever(home: Path) -> None:
    process = holder(home)
    try:
        async with asyncio.timeout(20), starts(home, starts=1, seat_seconds=0.3).turn():
            pass
    finally:
        process.kill()
        process.wait(10)
