"""Passwords that were being changed, or had to be, when a database is started."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from mcp_server.domain.errors import Unavailable
from mcp_server.domain.workloads import Ref
from tests.databases.conftest import MakeYard
from tests.databases.yards import Yard, run_on


def broken_off_at(point: str) -> Callable[[str], None]:
    """Once."""
    left = [point]

    def step(name: str) -> None:
        if name in left:
            left.clear()
            raise Unavailable("broken off here")

    return step


@pytest.mark.parametrize("isolation", ["container", "shared"])
@pytest.mark.parametrize(
    "point", [pytest.param("databases.rotate.noted", marks=pytest.mark.soak), "databases.rotate.altered"]
)
async def test_a_start_ends_a_rotation_that_was_broken_off_instead_of_waiting_with_the_old_password(
    make_yard: MakeYard, tmp_path: Path, isolation: str, point: str
) -> None:
    yard: Yard = await make_yard(isolation=isolation, step=broken_off_at(point))
    project = tmp_path / "web"
    project.mkdir()
    await yard.add_project("web", str(project))
    await yard.create("web", engine="postgres")
    with pytest.raises(Unavailable, match="broken off"):
        await yard.ask("rotate_database_password", project="web")
    await yard.ask("stop_database", project="web")
    started = await yard.ask("start_database", project="web")
    assert started.state == "running"
    record = await yard.record("web")
    assert record is not None
    assert (record.next_access, record.worker, record.rotated_at is None) == (None, None, False)
    url = await yard.url("web")
    assert await run_on(url, "SELECT 1")
    assert url in (project / ".env").read_text()


async def test_a_database_that_is_made_anew_has_its_new_password_in_the_file_of_its_project(
    make_yard: MakeYard, tmp_path: Path
) -> None:
    yard: Yard = await make_yard()
    project = tmp_path / "web"
    project.mkdir()
    await yard.add_project("web", str(project))
    await yard.create("web", engine="postgres")
    before = await yard.url("web")
    record = await yard.record("web")
    assert record is not None
    assert record.place is not None
    await yard.databases.parts.engine.remove(Ref(name=record.place.container, owner=record.place.owner))
    await yard.ask("start_database", project="web")
    url = await yard.url("web")
    assert url != before
    assert url in (project / ".env").read_text()


async def test_two_who_end_one_rotation_at_the_same_time_do_not_fail_at_each_other(yard: Yard) -> None:
    await yard.create(engine="postgres")
    record = await yard.record()
    assert record is not None
    assert record.place is not None
    assert record.access is not None
    script = f"ALTER ROLE {record.access.role} CONNECTION LIMIT -1;\n" * 200
    servers = yard.databases.parts.servers
    await asyncio.gather(*(servers.run_sql_when_up(record.place.ref, script) for _ in range(4)))
