"""The batch of audit rows: bounded, in order, and kept over a failing store."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from mcp_server.domain.audit import AuditRow
from mcp_server.domain.errors import Unavailable
from mcp_server.ports.store import Store
from mcp_server.services.trail import BATCH, CAPACITY, Trail
from tests.usecases.world import START


class Ledger:
    """A store that only records; `fault` is raised instead while it is set, and `gate` is waited for."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.used: dict[str, datetime] = {}
        self.fault: Exception | None = None
        self.gate = anyio.Event()
        self.gate.set()

    async def record(self, rows: Sequence[AuditRow], used: Mapping[str, datetime]) -> None:
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        self.batches.append([row.id for row in rows])
        self.used.update(used)

    @property
    def ids(self) -> list[str]:
        return [identifier for batch in self.batches for identifier in batch]


def row(number: int, **fields: Any) -> AuditRow:
    return AuditRow(id=f"a{number}", timestamp=START, action="get_team", **fields)


async def eventually(condition: Callable[[], bool], *, seconds: float) -> None:
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.01)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def trail(ledger: Ledger) -> Trail:
    return Trail(cast("Store", ledger), clock=lambda: START)


async def test_rows_are_written_in_order_and_in_batches(trail: Trail, ledger: Ledger):
    for number in range(BATCH + 1):
        trail.add(row(number), used="k1" if number == 0 else None)
    assert trail.waiting == BATCH + 1
    await trail.flush()
    assert [len(batch) for batch in ledger.batches] == [BATCH, 1]
    assert ledger.ids == [f"a{number}" for number in range(BATCH + 1)]
    assert ledger.used == {"k1": START}
    assert trail.waiting == 0


async def test_nothing_queued_writes_nothing(trail: Trail, ledger: Ledger):
    await trail.flush()
    assert ledger.batches == []


async def test_rows_wait_while_the_store_fails_and_are_written_in_order_when_it_is_back(
    trail: Trail, ledger: Ledger
):
    ledger.fault = Unavailable("away")
    trail.add(row(1), used="k1")
    await trail.flush()
    trail.add(row(2), used="k2")
    await trail.flush()
    assert (trail.waiting, trail.failing, ledger.ids) == (2, "away", [])
    ledger.fault = None
    await trail.flush()
    assert ledger.ids == ["a1", "a2"]
    assert set(ledger.used) == {"k1", "k2"}
    assert trail.failing is None


async def test_what_does_not_fit_is_dropped_and_counted(trail: Trail, ledger: Ledger):
    ledger.fault = Unavailable("away")
    for number in range(CAPACITY + 3):
        trail.add(row(number))
    await trail.flush()
    assert (trail.waiting, trail.dropped) == (CAPACITY, 3)
    ledger.fault = None
    await trail.flush()
    assert len(ledger.ids) == CAPACITY


async def test_a_row_is_written_within_a_second(trail: Trail, ledger: Ledger):
    async with anyio.create_task_group() as group:
        group.start_soon(trail.run)
        trail.add(row(1))
        await eventually(lambda: bool(ledger.ids), seconds=1)
        group.cancel_scope.cancel()


async def test_the_last_rows_are_written_when_it_is_stopped(trail: Trail, ledger: Ledger):
    async with anyio.create_task_group() as group:
        group.start_soon(trail.run)
        await anyio.lowlevel.checkpoint()
        trail.add(row(1))
        group.cancel_scope.cancel()
    assert ledger.ids == ["a1"]


async def test_rows_that_are_being_written_when_it_is_stopped_are_written_then(trail: Trail, ledger: Ledger):
    ledger.gate = anyio.Event()
    trail.add(row(1), used="k1")
    async with anyio.create_task_group() as group:
        group.start_soon(trail.run)
        await eventually(lambda: not trail.waiting, seconds=5)
        ledger.gate.set()
        group.cancel_scope.cancel()
    assert ledger.ids == ["a1"]
    assert set(ledger.used) == {"k1"}


async def test_a_fault_that_nobody_foresaw_does_not_end_the_writing(trail: Trail, ledger: Ledger):
    ledger.fault = ZeroDivisionError()
    trail.add(row(1))
    async with anyio.create_task_group() as group:
        group.start_soon(trail.run)
        await eventually(lambda: trail.failing is not None, seconds=5)
        ledger.fault = None
        await eventually(lambda: bool(ledger.ids), seconds=5)
        group.cancel_scope.cancel()
    assert ledger.ids == ["a1"]
