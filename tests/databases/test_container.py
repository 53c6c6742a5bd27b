"""Databases with a server of their own, on a real engine."""

from __future__ import annotations

from mcp_server.domain.workloads import Owner
from tests.databases.yards import Yard, run_on
from tests.services.engine import DockerEngine


async def test_a_created_database_takes_a_login_and_a_deleted_one_leaves_nothing(
    yard: Yard, engine: DockerEngine, owner: Owner
) -> None:
    made = await yard.create()
    assert (made.engine, made.state, made.isolation) == ("postgres", "running", "container")
    assert "********" in made.url
    url = await yard.url()
    assert [tuple(row) for row in await run_on(url, "SELECT current_user, current_database()")] == [
        ("app", "app")
    ]
    done = await yard.delete()
    assert done.status == "done"
    assert engine.things(owner.installation) == []
    assert await yard.records() == []
    assert await yard.ports() == []
    assert await yard.servers() == []
