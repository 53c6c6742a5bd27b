"""A server killed at every named step, alone and with PostgreSQL; and servers that go on through every kind of outage."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.failover.matrix import AGAIN, ONCE, OUTAGES, POINTS, killed_at, points_in_code, under_outage, ways
from tests.services.postgres import PostgresServer
from tests.store.backends import emptied


def test_every_named_step_of_the_stores_is_in_the_table() -> None:
    assert points_in_code() == set(POINTS)


@pytest.mark.parametrize("point", POINTS)
async def test_every_acknowledged_write_survives_the_death_of_its_server_at_any_step(
    point: str, rough: PostgresServer, home: Path, soak: bool, rng: random.Random
) -> None:
    """The sample: alone or with PostgreSQL, as the dice fall."""
    passings = (1,) if point in ONCE else AGAIN[POINTS[point]][: None if soak else 1]
    for passing in passings:
        for turn, how in enumerate(ways(point) if soak else (rng.choice(ways(point)),)):
            print((await killed_at(point, passing, how, rough, home / f"{passing}-{turn}")).row())
            if soak:
                rough.start()
                await emptied(rough.url)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.soak), 2])
@pytest.mark.parametrize("name", OUTAGES)
async def test_servers_go_on_through_an_outage_and_nothing_is_lost(
    name: str, workers: int, rough: PostgresServer, home: Path, soak: bool
) -> None:
    if workers == 2 and not soak and name not in ("PostgreSQL killed (SIGKILL)", "connections refused"):
        pytest.skip("with --soak")
    outcome, slowest, degraded = await under_outage(name, workers, rough, home)
    print(outcome.row(), f"slowest call {slowest} ms, {degraded} without PostgreSQL")
