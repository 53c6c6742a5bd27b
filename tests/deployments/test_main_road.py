"""Deploy, promote, deploy again, promote, roll back: through the tools, on a real engine and a real proxy."""

from __future__ import annotations

from tests.deployments.conftest import Harbour


async def test_a_version_is_deployed_promoted_replaced_and_rolled_back(harbour: Harbour) -> None:
    async with harbour.server() as desk:
        await desk.done("create_project", {"name": harbour.project})
        first = await desk.done("deploy_project", harbour.deploy())
        assert (first["status"], first["slot"], first["error"]) == ("success", "blue", None)
        assert harbour.ask().status == 404, "nothing is promoted yet"

        up = await desk.done("promote", {"project": harbour.project})
        assert (up["status"], up["slot"], up["receipt"]["failed"]) == ("done", "blue", 0)
        assert harbour.version() == "v1"

        second = await desk.done("deploy_project", harbour.deploy("demo-v2"))
        assert (second["status"], second["slot"]) == ("success", "green")
        assert harbour.version() == "v1", "a deploy moves no traffic"

        up = await desk.done("promote", {"project": harbour.project})
        assert (up["from_slot"], up["slot"], up["receipt"]["after_failed"]) == ("blue", "green", 0)
        assert harbour.version() == "v2"

        back = await desk.done("rollback", {"project": harbour.project, "reason": "it is slow"})
        assert (back["slot"], back["version"], back["cold"]) == ("blue", "v1", False)
        assert harbour.version() == "v1"
        listed = (await desk.done("list_deployments", {"project": harbour.project}))["deployments"]
        assert [bool(one["rolled_back_at"]) for one in listed] == [True, False]
