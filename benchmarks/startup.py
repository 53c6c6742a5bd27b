"""From the start of the process to the first answered `tools/list`, over stdio."""

from __future__ import annotations

import time
from collections.abc import Mapping

from benchmarks.measure import Row, figures
from benchmarks.servers import environment, new_home, stdio_client

ROUNDS = 7


async def measure() -> list[Row]:
    ours: list[float] = []
    theirs: list[float] = []
    with new_home() as home:
        settings = environment(home, None) | {"QUAYMASTER_TOOLSETS": "default"}
        await _once(["-m", "mcp_server", "stdio"], settings)
        for _ in range(ROUNDS):
            theirs.append(await _once(["-m", "benchmarks.yardstick", "stdio"], {}))
            ours.append(await _once(["-m", "mcp_server", "stdio"], settings))
    mine, bare = figures("quaymaster", ours, 1), figures("bare SDK server", theirs, 1)
    ratio = mine.p50 / bare.p50
    value, beside = f"{mine.p50:.0f} ms", f"bare SDK server {bare.p50:.0f} ms"
    return [Row("start to first tools/list, stdio", value, beside, round(ratio, 2), "<= 1.5 x", ratio <= 1.5)]


async def _once(arguments: list[str], settings: Mapping[str, str]) -> float:
    began = time.perf_counter()
    async with stdio_client(arguments, settings):
        return (time.perf_counter() - began) * 1000
