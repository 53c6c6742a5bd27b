"""One of several processes that grab overlapping paths as fast as they can; run as a module by the races.

It writes what it saw to stdout, one JSON object a line. Beside the locks it keeps marks of its own in a
directory that all of them share: for each file that it edits one that only it may have made.
"""

import asyncio
import json
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mcp_server.domain.errors import Locked
from mcp_server.domain.locks import LockMode
from mcp_server.services.lock_views import LocksResult
from tests.races.stores import opened
from tests.usecases.workshops import ANN, Workshop, workshop_over

FILES_OF = {
    "a.py": ["a.py"],
    "*.py": ["a.py", "b.py"],
    "src/": ["src-x.ts", "src-lib-y.ts", "src-lib-z.ts"],
    "src/lib": ["src-lib-y.ts", "src-lib-z.ts"],
    "src/lib/y.ts": ["src-lib-y.ts"],
    "src/*/z.ts": ["src-lib-z.ts"],
    "src/x.ts": ["src-x.ts"],
    "**/lib/*": ["src-lib-y.ts", "src-lib-z.ts"],
    "b.py": ["b.py"],
}
"""Patterns, and for each the files that it stands for, said without the code under test."""
SPELLINGS = ["race/{}", "./race//{}", "race/{}/", "race/{}/**", "race/x/../{}/*", "r*/{}/"]
"""Any two of these overlap."""


async def main() -> None:
    order = json.loads(sys.argv[1])
    rng = random.Random(f"{order['seed']}:{order['name']}")
    async with opened(order["store"]) as store:
        workshop = workshop_over(store)
        for number in range(order["rounds"]):
            await race_for_one(workshop, order["name"], number, rng)
            await grab_some(workshop, order["name"], Path(order["marks"]), rng)


async def race_for_one(workshop: Workshop, name: str, number: int, rng: random.Random) -> None:
    """All processes ask for this round's path, in some spelling, and nobody ever releases it."""
    result = await asked(workshop, name, [rng.choice(SPELLINGS).format(number)], "editing")
    say(kind="race", number=number, fence=None if result is None else result.fence)


async def grab_some(workshop: Workshop, name: str, marks: Path, rng: random.Random) -> None:
    mode: LockMode = rng.choice(["editing", "editing", "reviewing"])
    patterns = rng.sample(sorted(FILES_OF), rng.randint(1, 3))
    result = await asked(workshop, name, patterns, mode)
    if result is None:
        say(kind="refused")
        return
    files = sorted({file for pattern in patterns for file in FILES_OF[pattern]})
    with editing(marks, files, result) if mode == "editing" else reviewing(marks, files, name):
        for _ in range(rng.randint(0, 3)):
            await workshop.check(ANN, *patterns, agent=name)
    say(kind="granted", mode=mode, fence=result.fence)
    released = await workshop.release(ANN, *patterns, agent=name)
    if sorted(released.released) != sorted(patterns):
        say(kind="wrong", what=f"held {patterns}, released {released.released}")


async def asked(workshop: Workshop, name: str, paths: list[str], mode: LockMode) -> LocksResult | None:
    try:
        result: LocksResult = await workshop.lock(ANN, *paths, agent=name, mode=mode)
    except Locked:
        return None
    return result


@contextmanager
def editing(marks: Path, files: list[str], result: LocksResult) -> Iterator[None]:
    """Make each file's mark, which must not be there; look for reviewers; see that the fence is highest."""
    made = []
    for file in files:
        try:
            os.close(os.open(marks / f"{file}.edited", os.O_CREAT | os.O_EXCL))
            made.append(marks / f"{file}.edited")
        except FileExistsError:
            say(kind="wrong", what=f"two editors of {file}")
        if list(marks.glob(f"{file}.reviewed-*")):
            say(kind="wrong", what=f"an editor among reviewers of {file}")
        fence = marks / f"{file}.fence"
        if fence.exists() and int(fence.read_text()) >= (result.fence or 0):
            say(kind="wrong", what=f"fence {result.fence} after {fence.read_text()} on {file}")
        fence.write_text(str(result.fence))
    yield
    for mark in made:
        mark.unlink()


@contextmanager
def reviewing(marks: Path, files: list[str], name: str) -> Iterator[None]:
    made = [marks / f"{file}.reviewed-{name}" for file in files]
    for file, mark in zip(files, made, strict=True):
        mark.touch()
        if (marks / f"{file}.edited").exists():
            say(kind="wrong", what=f"a reviewer beside the editor of {file}")
    yield
    for mark in made:
        mark.unlink()


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
