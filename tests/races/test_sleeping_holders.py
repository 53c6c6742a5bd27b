"""A process that is stopped while its lease runs out finds, when it goes on, that nothing is its own any more."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_server.domain.errors import Locked, QuaymasterError, Unavailable
from tests.races.sleeper import PATH
from tests.races.stores import opened
from tests.services.processes import CHECKOUT, quaymaster_environment
from tests.services.waiting import wait_until
from tests.usecases.workshops import BOB, a_workshop

SECONDS = 40


@pytest.mark.parametrize("kind", ["registry", "postgres"])
async def test_one_that_slept_between_two_calls_is_refused(
    request: pytest.FixtureRequest, home: Path, kind: str
) -> None:
    name = f"registry:{home}" if kind == "registry" else f"postgres:{request.getfixturevalue('database_url')}"
    await _sleep_through_a_lease(name, home)


async def test_one_that_slept_in_the_middle_of_its_renewal_is_refused(database_url: str, home: Path) -> None:
    """It has decided and written, and only the commit is missing: PostgreSQL has long let go of its rows."""
    await _sleep_through_a_lease(f"postgres:{database_url}", home, fault="postgres.before_commit:STOP:2")


async def _sleep_through_a_lease(store: str, home: Path, fault: str | None = None) -> None:
    async with opened(store) as opened_store:
        workshop = await a_workshop(opened_store)
        home.mkdir(exist_ok=True)
        sleepers = store if fault is None else f"home:{home}/quaymaster:{store.partition(':')[2]}"
        with sleeper(sleepers, home, fault) as process:
            first = await said(process)
            if fault is None:
                os.kill(process.pid, signal.SIGSTOP)
            await anyio.to_thread.run_sync(
                lambda: wait_until(lambda: stopped(process), seconds=SECONDS, what="it to sleep")
            )
            with pytest.raises(Locked if fault is None else Unavailable):
                await workshop.lock(BOB, PATH, agent="next")
            with anyio.fail_after(SECONDS):
                second = await _patiently_locked(workshop)
            os.kill(process.pid, signal.SIGCONT)
            if fault is None:
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
            renewed, written = await said(process), await said(process)
        assert (first["event"], renewed["event"], written["event"]) == ("granted", "renewed", "written")
        assert second > first["fence"]
        assert renewed["fence"] is None
        assert any(notice.startswith(f"lost: {PATH}") for notice in renewed["notices"])
        assert written["code"] == "CONFLICT"
        held = await opened_store.read(lambda tx: tx.locks.of_project("shop"))
        assert [(lock.holder, lock.fence) for lock in held] == [("k-bob/agent:next", second)]


async def _patiently_locked(workshop: Any) -> int:
    while True:
        try:
            return int((await workshop.lock(BOB, PATH, agent="next")).fence)
        except QuaymasterError:  # locked, or the sleeper's rows are not free yet
            await anyio.sleep(0.2)


@contextmanager
def sleeper(store: str, home: Path, fault: str | None) -> Iterator["subprocess.Popen[str]"]:
    settings = {} if fault is None else {"QUAYMASTER_FAULT": fault}
    waits = [] if fault else ["waits"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.races.sleeper", store, *waits],
        cwd=CHECKOUT,
        env=quaymaster_environment(home, settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


async def said(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None
    with anyio.fail_after(SECONDS):
        line = await anyio.to_thread.run_sync(process.stdout.readline, abandon_on_cancel=True)
    found: dict[str, Any] = json.loads(line)
    return found


def stopped(process: "subprocess.Popen[str]") -> bool:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
