"""What a team's channels hear of deployments: from a server of its own, over HTTPS, to a service that speaks their API."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.acceptance import wire
from tests.deployments.conftest import Harbour
from tests.notifications.hooks import Hooks, hooks


@pytest.mark.timeout(300)
async def test_slack_and_discord_hear_of_deploy_promote_rollback_and_failure_and_keep_nobody_waiting(
    harbour: Harbour, tmp_path: Path
) -> None:
    async with hooks(tmp_path) as service:
        settings = {
            **harbour.environ,
            "DOCKER_HOST": harbour.engine.address,
            "QUAYMASTER_WEBHOOK_NETWORKS": "127.0.0.0/8,::1/128",
            "SSL_CERT_FILE": str(tmp_path / "hooks.pem"),
            "LOGNAME": "ann",
        }
        channels = {name: f"{service.address}/{name}" for name in ("slack", "discord")}
        ann, where = {"project": harbour.project}, f"{harbour.project} (staging)"
        address = f"http://{harbour.host()}:{harbour.port}"
        async with wire.over_stdio(harbour.home, **settings) as client:
            await wire.done(client, "create_project", name=harbour.project)
            await wire.done(client, "update_team", settings={"notifications": channels})

            await wire.done(client, "deploy_project", **harbour.deploy())
            await heard(service, f"📦 {where}: v1 deployed by ann")
            await wire.done(client, "promote", **ann)
            await heard(service, f"✅ {where}: v1 promoted by ann - {address}")
            await wire.done(client, "deploy_project", **harbour.deploy("demo-v2"))
            await heard(service, f"📦 {where}: v2 deployed by ann")
            await wire.done(client, "promote", **ann)
            await heard(service, f"✅ {where}: v2 promoted by ann - {address}")
            await wire.done(client, "rollback", **ann, reason="it is <slow> & loud")
            await heard(service, f"↩️ {where}: v1 rolled back by ann - it is <slow> & loud - {address}")

            hasty = harbour.deploy("demo-plain", health_path="/no", health_timeout=2)
            await wire.done(client, "deploy_project", **hasty)
            await heard(service, f"❌ {where}: plain deploy failed by ann - not healthy within 2 s")
            await wire.done(client, "set_environment", **ann, variables={"PORT": "8080"})
            await wire.done(client, "deploy_project", **harbour.deploy("demo-checked", container_port=9999))
            await heard(service, f"📦 {where}: checked deployed by ann")
            await wire.refused(client, "promote", **ann)
            await heard(
                service, f"❌ {where}: checked promote failed by ann - green did not answer through the proxy"
            )

            service.answers = ["hang"] * 4
            with anyio.fail_after(25):
                up = await wire.done(client, "deploy_project", **harbour.deploy("demo-v2"))
            assert up["status"] == "success"


async def heard(service: Hooks, sentence: str) -> None:
    """Both channels have got exactly one message since the last look, and it begins like this."""
    with anyio.fail_after(20):
        while len(service.got) < 2:
            await anyio.sleep(0.05)
    got, service.got = dict(service.got), []
    assert got["/discord"]["content"].startswith(sentence), got
    assert got["/discord"]["allowed_mentions"] == {"parse": []}
    escaped = sentence.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert got["/slack"]["text"].startswith(escaped), got
