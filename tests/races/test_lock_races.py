"""Several processes grab overlapping paths on one store: one winner each time, never two editors."""

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.races.stores import opened
from tests.services.processes import CHECKOUT, quaymaster_environment
from tests.usecases.workshops import a_workshop

PROCESSES = 4
SECONDS_A_ROUND = 7


async def test_processes_on_one_registry_never_edit_the_same_file(
    home: Path, tmp_path: Path, rounds: Callable[[int, int], int], rng: random.Random
):
    await race(f"registry:{home}", tmp_path, rounds(15, 300), rng)


async def test_processes_on_one_postgresql_never_edit_the_same_file(
    database_url: str, tmp_path: Path, rounds: Callable[[int, int], int], rng: random.Random
):
    await race(f"postgres:{database_url}", tmp_path, rounds(15, 300), rng)


async def race(store: str, tmp_path: Path, rounds: int, rng: random.Random) -> None:
    async with opened(store) as opened_store:
        await a_workshop(opened_store)
    marks = tmp_path / "marks"
    marks.mkdir()

    seen = grab_at_once(store, marks, rounds, rng.randrange(1 << 32))

    by_name = list(seen.values())
    everything = [event for events in by_name for event in events]
    assert [event for event in everything if event["kind"] == "wrong"] == []
    winners = Counter(
        event["number"] for event in everything if event["kind"] == "race" and event["fence"] is not None
    )
    assert winners == dict.fromkeys(range(rounds), 1), "each race has one winner"
    fences = [event["fence"] for event in everything if event.get("fence") is not None]
    assert len(fences) == len(set(fences)), "a fence is granted once"
    for events in by_name:
        own = [event["fence"] for event in events if event.get("fence") is not None]
        assert own == sorted(own), "what one process is granted has ever higher fences"
    assert {event["kind"] for event in everything} >= {"granted", "refused"}, "they met, and they got through"
    assert list(marks.glob("*.edited")) == []


def grab_at_once(store: str, marks: Path, rounds: int, seed: int) -> dict[str, list[dict[str, Any]]]:
    """What each process said; all of them have ended by themselves in time and without an error."""
    orders = {
        f"agent-{number}": {
            "name": f"agent-{number}",
            "store": store,
            "marks": str(marks),
            "rounds": rounds,
            "seed": seed,
        }
        for number in range(PROCESSES)
    }
    running = {name: started(order, marks) for name, order in orders.items()}
    try:
        said = {
            name: process.communicate(timeout=rounds * SECONDS_A_ROUND) for name, process in running.items()
        }
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    for name, process in running.items():
        assert process.returncode == 0, said[name][1]
    return {name: [json.loads(line) for line in out.splitlines()] for name, (out, _) in said.items()}


def started(order: dict[str, Any], marks: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.races.grabber", json.dumps(order)],
        cwd=CHECKOUT,
        env=quaymaster_environment(marks),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
