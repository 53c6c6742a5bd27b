"""The table point x outcome: a server is killed at every named step, alone and together with PostgreSQL.

`python -m tests.failover.matrix [--whole] [--write]` prints it; `--write` puts it into docs/fault-matrix.md.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from tests.failover.homes import COMMIT, furnish, running, whole_and_equal, write
from tests.failover.processes import CHECKOUT, Worker
from tests.services.loops import run_apart
from tests.services.postgres import PostgresServer
from tests.services.proxy import TcpProxy
from tests.store.backends import emptied, migrated

ROOMS = ("registry", "postgres", "failover")
With = Literal["server", "server and PostgreSQL", "server, PostgreSQL being away"]

POINTS: dict[str, str] = {
    "registry.locked": "write",
    "registry.appended": "write",
    "registry.before_fsync": "write",
    "registry.fsynced": "write",
    "registry.applied": "write",
    "registry.before_unlock": "write",
    "registry.projected": "open",
    "registry.compact.audit": "open",
    "registry.compact.snapshot": "open",
    "registry.compact.segment": "open",
    "registry.compact.switched": "open",
    "registry.compact.removed": "open",
    "postgres.begun": "write",
    "postgres.before_log": "write",
    "postgres.before_commit": "write",
    "postgres.committed": "write",
    "failover.before_mirror": "write",
    "failover.mirrored": "write",
    "failover.degrade.before": "outage",
    "failover.degrade.after": "outage",
    "failover.replay.before": "return",
    "failover.replay.committed": "return",
    "failover.replay.settled": "return",
    "failover.mode.before": "return",
    "failover.mode.after": "return",
}
"""When a server passes the point: at a write, when it opens its home, when PostgreSQL goes, when it is back."""

AGAIN = {"write": (7, 1, 40), "open": (1,), "outage": (1,), "return": (1, 2, 23)}
"""At which passing the server is killed: the first is the sample."""
ONCE = {"failover.mode.before", "failover.mode.after", "registry.projected"}


def ways(point: str) -> tuple[With, ...]:
    """What dies at the point. Without PostgreSQL a write passes the registry's steps only."""
    both: tuple[With, ...] = ("server", "server and PostgreSQL")
    away = point.startswith("registry.") and POINTS[point] == "write"
    return (*both, "server, PostgreSQL being away") if away else both


def points_in_code() -> set[str]:
    """Every named step of the stores, as written in the source."""
    found: set[str] = set()
    for room in ROOMS:
        for path in (CHECKOUT / "mcp_server" / "adapters" / room).rglob("*.py"):
            found |= set(re.findall(r'faults\.at\(\s*"([^"]+)"', path.read_text()))
    return found


@dataclass(frozen=True)
class Outcome:
    """One line of the table. `acknowledged` were all found once on both sides; `unanswered` were found, too, but nobody
    had been told; `seconds` until the home was whole again."""

    what: str
    how: str
    acknowledged: int
    unanswered: int
    seconds: float

    def row(self) -> str:
        return f"| {self.what} | {self.how} | {self.acknowledged} | 0 | 0 | {self.unanswered} | {self.seconds:.1f} |"


HEADING = """| point | what is killed | acknowledged | lost | twice | applied unanswered | whole after (s) |
|---|---|---:|---:|---:|---:|---:|"""


async def killed_at(point: str, passing: int, how: With, server: PostgresServer, home: Path) -> Outcome:
    """Kill a server at the point, PostgreSQL too if so asked; bring both back and compare both sides."""
    moment = POINTS[point]
    acknowledged = await _prepare(moment, server, home)
    if how == "server, PostgreSQL being away":
        await asyncio.to_thread(server.kill)
    with Worker(home, server.url, "w", fault=f"{point}:KILL:{passing}") as worker:
        if moment == "outage":
            await asyncio.to_thread(worker.wait_for, 3)
            await asyncio.to_thread(server.kill)
        await asyncio.to_thread(worker.wait_killed)
        if how == "server and PostgreSQL":
            await asyncio.to_thread(server.kill)
        acknowledged |= worker.acknowledged
    if not server.running:
        acknowledged |= await _without_postgresql(home, server)
    await asyncio.to_thread(server.start)
    return await _compared(f"`{point}` #{passing}", how, acknowledged, server, home)


async def _prepare(moment: str, server: PostgresServer, home: Path) -> set[str]:
    """An empty database with what the workers need, and a home in the state in which the point is passed."""
    if moment == "open":
        other = home.with_name(f"{home.name}-other")
        async with running(server.url, other) as store:
            await furnish(store)
        return set()
    async with running(server.url, home) as store:
        await furnish(store)
        if moment != "return":
            return set()
        await asyncio.to_thread(server.kill)
        names = {f"p{number}" for number in range(30)}
        for name in sorted(names):
            await write(store, name)
    await asyncio.to_thread(server.start)
    return names


async def _without_postgresql(home: Path, server: PostgresServer) -> set[str]:
    """The next server starts while PostgreSQL is away; it can only do so with a mirror."""
    try:
        async with running(server.url, home) as store:
            await write(store, "meanwhile")
            return {"meanwhile"}
    except Exception as error:
        if "no mirror" in str(error):
            return set()
        raise


async def _compared(
    what: str, how: str, acknowledged: set[str], server: PostgresServer, home: Path
) -> Outcome:
    began = time.monotonic()
    both = await whole_and_equal(server.url, home, acknowledged)
    seconds = time.monotonic() - began
    written = {key for noun, key in both.primary if noun == "tasks"} - {"counter"}
    return Outcome(what, how, len(acknowledged), len(written - acknowledged), seconds)


# -- PostgreSQL's own faults, under a server that goes on


async def killed_under_it(server: PostgresServer, proxy: TcpProxy) -> None:
    await asyncio.to_thread(server.kill)


async def frozen_under_it(server: PostgresServer, proxy: TcpProxy) -> None:
    await asyncio.to_thread(server.freeze)


async def cut_under_it(server: PostgresServer, proxy: TcpProxy) -> None:
    for _ in range(20):
        await asyncio.to_thread(proxy.cut)
        await asyncio.sleep(0.02)


async def swallowed_under_it(server: PostgresServer, proxy: TcpProxy) -> None:
    await asyncio.to_thread(proxy.silence)


async def refused_under_it(server: PostgresServer, proxy: TcpProxy) -> None:
    await asyncio.to_thread(proxy.refuse)


async def answer_lost_and_alive(server: PostgresServer, proxy: TcpProxy) -> None:
    trap = proxy.trap(COMMIT, moment="after", effect="cut")
    await asyncio.to_thread(trap.wait)


async def answer_lost_and_away(server: PostgresServer, proxy: TcpProxy) -> None:
    trap = proxy.trap(COMMIT, moment="after", effect="refuse")
    await asyncio.to_thread(trap.wait)


async def commit_lost_and_away(server: PostgresServer, proxy: TcpProxy) -> None:
    trap = proxy.trap(COMMIT, moment="before", effect="refuse")
    await asyncio.to_thread(trap.wait)


async def answer_lost_and_silent(server: PostgresServer, proxy: TcpProxy) -> None:
    trap = proxy.trap(COMMIT, moment="after", effect="silent")
    await asyncio.to_thread(trap.wait)


Fault = Callable[[PostgresServer, TcpProxy], Awaitable[None]]
OUTAGES: dict[str, Fault] = {
    "PostgreSQL killed (SIGKILL)": killed_under_it,
    "PostgreSQL stopped (SIGSTOP)": frozen_under_it,
    "connections cut, again and again": cut_under_it,
    "network swallows everything": swallowed_under_it,
    "connections refused": refused_under_it,
    "answer of a commit lost, PostgreSQL alive": answer_lost_and_alive,
    "answer of a commit lost, PostgreSQL away": answer_lost_and_away,
    "commit lost on its way, PostgreSQL away": commit_lost_and_away,
    "answer of a commit lost, then silence": answer_lost_and_silent,
}


async def under_outage(
    name: str, workers: int, server: PostgresServer, home: Path
) -> tuple[Outcome, int, int]:
    """Workers go on through the outage and afterwards. Also: the slowest call (ms), calls done without PostgreSQL."""
    async with running(server.url, home) as store:
        await furnish(store)
    with TcpProxy(server.port) as proxy:
        url = server.url_of("quaymaster", port=proxy.port)
        started = [Worker(home, url, f"w{number}") for number in range(workers)]
        try:
            for worker in started:
                await asyncio.to_thread(worker.wait_for, 10)
            await OUTAGES[name](server, proxy)
            for worker in started:
                await asyncio.to_thread(worker.wait_for, 10)
            await _repair(server, proxy)
            await _back(home)
            for worker in started:
                await asyncio.to_thread(worker.wait_for, 10)
                worker.kill()
                assert worker.refused == []
        finally:
            for worker in started:
                worker.close()
    acknowledged = set().union(*(worker.acknowledged for worker in started))
    how = f"{workers} server{'s' * (workers > 1)}, going on"
    outcome = await _compared(name, how, acknowledged, server, home)
    assert outcome.unanswered <= workers
    return (
        outcome,
        max(worker.slowest for worker in started),
        sum(worker.degraded for worker in started),
    )


async def _repair(server: PostgresServer, proxy: TcpProxy) -> None:
    await asyncio.to_thread(server.thaw)
    await asyncio.to_thread(server.start)
    await asyncio.to_thread(proxy.forward)


async def _back(home: Path, seconds: float = 75) -> None:
    """Until the workers have brought the home back."""
    from mcp_server.adapters.registry.mirror import RegistryMirror

    mirror = await RegistryMirror.open(home)
    deadline = time.monotonic() + seconds
    try:
        while True:
            facts = await mirror.refresh()
            if facts.mode == "primary" and not facts.pending:
                return
            assert time.monotonic() < deadline, f"the home is still {facts.mode}: {facts.reason}"
            await asyncio.sleep(0.02)
    finally:
        mirror.close()


# -- printing


@contextmanager
def _fresh_home() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="qm-faults-", dir="/tmp"))
    try:
        yield base / "home"
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _ready(server: PostgresServer) -> None:
    server.thaw()
    server.start()
    run_apart(emptied(server.url))


def table(*, thorough: bool) -> Iterator[str]:
    """The lines of the page, as they come."""
    with PostgresServer() as server:
        run_apart(migrated(server.url))
        yield HEADING
        for point, moment in POINTS.items():
            passings = AGAIN[moment] if thorough and point not in ONCE else (1,)
            for passing in passings:
                for how in ways(point):
                    _ready(server)
                    with _fresh_home() as home:
                        yield asyncio.run(killed_at(point, passing, how, server, home)).row()
        yield ""
        yield "| outage | servers | acknowledged | lost | twice | of these without PostgreSQL | slowest call (ms) |"
        yield "|---|---|---:|---:|---:|---:|---:|"
        for name in OUTAGES:
            for workers in (1, 2):
                _ready(server)
                with _fresh_home() as home:
                    outcome, slowest, degraded = asyncio.run(under_outage(name, workers, server, home))
                yield f"| {name} | {workers} | {outcome.acknowledged} | 0 | 0 | {degraded} | {slowest} |"


PAGE = CHECKOUT / "docs" / "fault-matrix.md"
TEXT = """# What survives what

Made by `python -m tests.failover.matrix --whole --write` on {day}, PostgreSQL {version}. Nothing is simulated: a server
is a process that ends itself with SIGKILL at the named step (at its n-th passing, `#n`), PostgreSQL is killed or stopped
by a signal to all of its processes, connections go through a proxy that cuts, refuses or swallows. After each line both
are brought back, and the records in PostgreSQL and in the home's registry are compared one by one, revisions and all.

*acknowledged*: writes whose call had returned; *lost* and *twice* count those of them that were missing or applied more
than once (a line with another number than 0 would have ended the run). *applied unanswered*: a write whose caller was
never told, because its server died in between; it is there whole, and once.

{table}
"""


def main() -> None:
    thorough, to_page = "--whole" in sys.argv, "--write" in sys.argv
    lines = []
    for line in table(thorough=thorough):
        print(line, flush=True)
        lines.append(line)
    if to_page:
        PAGE.write_text(
            TEXT.format(day=f"{datetime.now(UTC):%Y-%m-%d}", version=_version(), table="\n".join(lines))
        )


def _version() -> str:
    with PostgresServer() as server:
        return str(server.run_as_admin("SHOW server_version")).split()[0]


if __name__ == "__main__":
    main()
