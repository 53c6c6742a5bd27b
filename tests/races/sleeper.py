"""A holder that is stopped while its lease runs out; run as a module by the test of that.

It locks a path for ten seconds, and then writes with what it held: a renewal through the use case, and the lock
itself as it was. It says what became of each on stdout, one JSON object a line.
"""

import asyncio
import json
import sys
from typing import Any

from mcp_server.domain.errors import QuaymasterError
from mcp_server.ports.store import Intent, Store
from tests.races.stores import opened
from tests.usecases.workshops import ANN, workshop_over

PATH = "a.py"
LEASE = 10


async def main() -> None:
    async with opened(sys.argv[1]) as store:
        workshop = workshop_over(store)
        granted = await workshop.lock(ANN, PATH, agent="sleeper", lease_seconds=LEASE)
        held = (await store.read(lambda tx: tx.locks.of_project("shop")))[0]
        say("granted", fence=granted.fence)
        if len(sys.argv) > 2:
            await asyncio.to_thread(sys.stdin.readline)
        renewed = await workshop.renew(ANN, agent="sleeper")
        say("renewed", fence=renewed.fence, notices=list(renewed.notices))
        say("written", code=await written(store, held))


async def written(store: Store, held: Any) -> str | None:
    try:
        await store.run(lambda tx: tx.locks.save(held), Intent("renew_locks", "k-ann"))
    except QuaymasterError as error:
        return error.code
    return None


def say(event: str, **what: Any) -> None:
    print(json.dumps({"event": event, **what}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
