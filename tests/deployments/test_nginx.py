"""The main road with nginx in its container in place of Caddy."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.deployments.conftest import Harbour
from tests.deployments.truth import told_truly


@pytest.mark.timeout(300)
async def test_deploy_promote_and_rollback_go_through_nginx_with_receipts_and_previews(
    harbour: Harbour, image: Callable[[str], str]
) -> None:
    async with harbour.server(edge="nginx", edge_image=image("nginx")) as desk:
        name = harbour.project
        await desk.done("create_project", {"name": name})
        await desk.done("deploy_project", harbour.deploy())
        first = await desk.done("promote", {"project": name})
        assert (first["slot"], first["receipt"]["failed"], first["next"]) == ("blue", 0, None)
        await desk.done("deploy_project", harbour.deploy("demo-v2"))
        preview = f"{name}-staging-green"
        assert harbour.version() == "v1"
        second = await desk.done("promote", {"project": name})
        assert second["receipt"]["after"] == {"green": 10}
        assert harbour.version() == "v2"
        await desk.done("rollback", {"project": name, "reason": "drill"})
        assert harbour.version() == "v1"
        status = await told_truly(desk, harbour)
        assert status["active"] == "blue"
        assert preview in status["green"]["preview_url"]
        assert await desk.house.hosting.edge.check() == ()
