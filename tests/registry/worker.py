"""A process that works on a home: `python -m tests.registry.worker HOME WHAT NAME COUNT`.

It prints a word for each acknowledged step.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from mcp_server.adapters.registry.keyring import RegistryKeyRing
from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.domain.keys import digest
from tests.registry.samples import INTENT, add, key, row, task


async def write(mirror: RegistryMirror, name: str, count: str) -> None:
    """Adds `count` tasks and counts them in a record; prints the id of each acknowledged one."""
    for number in range(int(count)):
        task_id = f"{name}-{number}"

        async def fn(tx: Any, task_id: str = task_id) -> None:
            counter = await tx.tasks.hold("counter")
            await tx.tasks.save(counter.change(pr_number=(counter.pr_number or 0) + 1))
            await tx.tasks.add(task(task_id))
            await tx.audit.add(row(task_id))

        await mirror.run(fn, INTENT, line_id=task_id, pending=name.startswith("pending"))
        print(task_id, flush=True)


async def compact(mirror: RegistryMirror, name: str, count: str) -> None:
    for number in range(int(count)):
        await add(mirror, task(f"{name}-{number}"), audit=(row(f"{name}-{number}"),))
        print(f"{name}-{number}", flush=True)
        await mirror.compact()
        print(f"compacted-{number}", flush=True)


async def keys(mirror: RegistryMirror, name: str, count: str) -> None:
    for number in range(int(count)):
        await add(mirror, key(f"{name}-{number}", text=f"{name}-{number}"))
        print(f"{name}-{number}", flush=True)


async def work(mirror: RegistryMirror, name: str, count: str) -> None:
    """Holds the mode shared, again and again, overlapping with itself."""

    async def hold() -> None:
        while True:
            async with mirror.working():
                await asyncio.sleep(0.01)

    print("working", flush=True)
    await asyncio.gather(*(hold() for _ in range(int(count))))


async def lead(mirror: RegistryMirror, name: str, count: str) -> None:
    async with mirror.leading() as leads:
        print(leads, flush=True)
        await asyncio.sleep(60)


async def find(root: Path, text: str, count: str) -> None:
    ring = RegistryKeyRing(root)
    for _ in range(int(count)):
        if await ring.find(digest(text)) is None:
            raise SystemExit("a key was gone")
    print("read", flush=True)


async def main(home: str, what: str, name: str, count: str) -> None:
    if what == "find":
        return await find(Path(home), name, count)
    mirror = await RegistryMirror.open(Path(home), patience=60)
    steps = {"write": write, "compact": compact, "keys": keys, "work": work, "lead": lead}
    await steps[what](mirror, name, count)
    return None


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
