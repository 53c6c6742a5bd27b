"""What a deployment may use at most: as it was asked for, on the engine, and nothing that is not known."""

from __future__ import annotations

from typing import Any

import pytest

from tests.deployments.conftest import Harbour

MB = 1024 * 1024


def limits(harbour: Harbour, slot: str) -> tuple[int, float]:
    """Of a slot's container: megabytes, and cores."""
    found: Any = harbour.engine.ask("GET", f"/containers/quaymaster-{harbour.project}-staging-{slot}/json")
    return found["HostConfig"]["Memory"] // MB, found["HostConfig"]["NanoCpus"] / 1e9


@pytest.mark.timeout(200)
async def test_a_version_gets_the_resources_that_were_asked_for_and_a_cold_rollback_gives_them_again(
    harbour: Harbour,
) -> None:
    ann = {"project": harbour.project}
    async with harbour.server() as desk:
        await desk.done("create_project", {"name": harbour.project})
        small = harbour.deploy(resources={"memory": 64, "cpus": 0.5})
        await desk.done("deploy_project", small)
        assert limits(harbour, "blue") == (64, 0.5)
        await desk.done("promote", ann)
        await desk.done("deploy_project", harbour.deploy("demo-v2", resources={"cpus": 2}))
        assert limits(harbour, "green") == (512, 2.0)
        await desk.done("promote", ann)
        await desk.done("deploy_project", harbour.deploy("demo-v2"))
        assert limits(harbour, "blue") == (512, 1.0)
        back = await desk.done("rollback", {**ann, "reason": "smaller was enough"})
        assert (back["version"], back["cold"], limits(harbour, "blue")) == ("v1", True, (64, 0.5))


@pytest.mark.parametrize(
    ("resources", "field"),
    [
        ({"memory": 64, "swap": 1}, "resources.swap"),
        ({"memory": 15}, "resources.memory"),
        ({"memory": "much"}, "resources.memory"),
        ({"cpus": 0}, "resources.cpus"),
        ("64m", "resources"),
    ],
)
async def test_resources_that_are_not_known_or_out_of_bounds_are_refused_by_name(
    harbour: Harbour, resources: Any, field: str
) -> None:
    async with harbour.server() as desk:
        await desk.done("create_project", {"name": harbour.project})
        result = await desk.call("deploy_project", harbour.deploy(resources=resources))
        assert result.is_error
        refused = dict(result.structured_content or {})
        assert refused["code"] == "INVALID"
        assert field in str(refused["fields"])
        assert harbour.containers() == {}
