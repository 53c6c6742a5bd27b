"""A home whose disk is full: what a person who looks is told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.wire import done, over_stdio, refused
from tests.services.engine import EngineMissing
from tests.services.missing import do_without
from tests.services.processes import run_quaymaster
from tests.services.spare_engine import mount, unmount


@pytest.fixture
def small_home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    try:
        mount(home, 2)
    except EngineMissing as missing:
        do_without(str(missing))
    yield home
    unmount(home)


def fill(filler: Path) -> None:
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def disk(status: dict[str, Any]) -> str:
    return str(next(part["condition"] for part in status["parts"] if part["name"] == "disk"))


async def test_while_no_write_is_taken_the_status_is_unhealthy_and_says_why(small_home: Path):
    filler = small_home / "filler"
    async with over_stdio(small_home) as client:
        await done(client, "create_project", name="shop")
        assert disk(await done(client, "infrastructure_status")) == "degraded"
        fill(filler)
        error = await refused(client, "create_task", project="shop", title="Basket", description="x" * 9000)
        assert error["code"] == "UNAVAILABLE"
        status = await done(client, "infrastructure_status")
        assert (status["status"], disk(status)) == ("unhealthy", "unhealthy")
        doctor = run_quaymaster("doctor", home=small_home)
        assert (doctor.returncode, "disk unhealthy" in doctor.stdout) == (1, True)
        assert "\n      disk: " in doctor.stdout, "why"
        filler.unlink()
        await done(client, "create_task", project="shop", title="Basket")
        assert (await done(client, "infrastructure_status"))["status"] != "unhealthy"
