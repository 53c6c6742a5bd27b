"""A version whose image only a registry has: pulled while the caller is told, and brought back by its digest."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.deployments.conftest import Harbour
from tests.services.proxy import TcpProxy
from tests.services.registry import ImageRegistry

NowhereElse = Callable[..., str]


async def test_a_deployed_image_is_pulled_while_the_caller_is_told_and_comes_back_by_its_digest(
    harbour: Harbour, registry: ImageRegistry, nowhere_else: NowhereElse
) -> None:
    first = nowhere_else(harbour.image("demo"), megabytes=4, version="first")
    with TcpProxy(registry.port) as slow_line:
        slow_line.delay(0.03)
        name = registry.name(first, slow_line.port)
        heard: list[str] = []

        async def heard_of(progress: float, total: float | None, message: str | None) -> None:
            heard.append(message or "")

        async with harbour.server() as desk:
            await desk.done("create_project", {"name": harbour.project})
            async with desk.client() as client:
                deploy = harbour.deploy() | {"image": name}
                result = await client.call_tool("deploy_project", deploy, progress_callback=heard_of)
                up = dict(result.structured_content or {})
            assert up["status"] == "success", up
            pulled = [line for line in heard if line.startswith(f"image: pulling {name}: ")]
            assert any(re.search(r"[123] of 4 MB$", line) for line in pulled), heard
            shown = harbour.engine.ask("GET", f"/images/{name}/json")
            kept = await desk.house.store.read(lambda tx: tx.deployments.get(up["id"]))
            assert kept is not None
            assert kept.release is not None
            assert (kept.release.image_id, [kept.release.image_digest]) == (shown["Id"], shown["RepoDigests"])

            await desk.done("promote", {"project": harbour.project})
            for _ in range(2):
                await desk.done("deploy_project", harbour.deploy("demo-v2"))
                if harbour.version() == "first":
                    await desk.done("promote", {"project": harbour.project})
            # The name means something else by now, and this engine has forgotten what it meant.
            harbour.engine.ask("DELETE", f"/images/{shown['Id']}?force=1")
            other = nowhere_else(harbour.image("demo-v2"), version="other", repository=first)
            assert other == first
            slow_line.delay(0)
            back = await desk.done("rollback", {"project": harbour.project, "reason": "the first was better"})
            assert (back["cold"], harbour.version()) == (True, "first")
            assert (
                harbour.engine.ask("GET", f"/images/{shown['Id']}/json")["RepoDigests"]
                == shown["RepoDigests"]
            )


async def test_a_deployment_whose_image_cannot_be_pulled_fails_and_leaves_no_container(
    harbour: Harbour, registry: ImageRegistry
) -> None:
    unknown = registry.name("nobody/nothing:1")
    async with harbour.server() as desk:
        await desk.done("create_project", {"name": harbour.project})
        result = await desk.call("deploy_project", harbour.deploy() | {"image": unknown})
        assert unknown in str(result.structured_content)
        assert harbour.containers() == {}
        status = await desk.done("slot_status", {"project": harbour.project, "environment": "staging"})
        assert {status["blue"]["state"], status["green"]["state"]} == {"empty"}
