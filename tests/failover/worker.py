"""A server as a process: `python -m tests.failover.worker HOME URL NAME COUNT`.

Prints `+ ID MS NOTICE` for each write after it returned, `! ID CODE` for each that was refused, and goes on.
"""

import asyncio
import sys
import time
from pathlib import Path

from mcp_server.domain.errors import QuaymasterError
from tests.failover.homes import running, write

PAUSE = 0.01


async def main(home: str, url: str, name: str, count: str) -> None:
    async with running(url, Path(home)) as store:
        print("open", flush=True)
        for number in range(int(count)):
            task_id = f"{name}-{number}"
            began = time.monotonic()
            try:
                committed = await write(store, task_id)
            except QuaymasterError as error:
                print(f"! {task_id} {error.code} {error.message}", flush=True)
                continue
            took = (time.monotonic() - began) * 1000
            notice = committed.notices[0].split()[0].rstrip(":") if committed.notices else "-"
            print(f"+ {task_id} {took:.0f} {notice}", flush=True)
            await asyncio.sleep(PAUSE)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
