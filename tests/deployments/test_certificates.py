"""Certificates of a project's own host names, through the real Caddy in its container, old and new."""

from __future__ import annotations

import http.client
import socket
import ssl
from pathlib import Path

import pytest

from tests.deployments.conftest import Harbour, authority, reserved
from tests.services.edge import get

BASE = "quay.test"


def over_tls(trust: ssl.SSLContext, port: int, host: str) -> str:
    """The first word of the answer; the chain is checked."""
    with socket.create_connection(("127.0.0.1", port), 20) as plain:
        connection = http.client.HTTPConnection(host)
        connection.sock = trust.wrap_socket(plain, server_hostname=host)
        connection.request("GET", "/")
        text = connection.getresponse().read().decode()
        connection.close()
        return text.partition(" ")[0]


@pytest.mark.timeout(300)
async def test_a_projects_host_and_its_preview_get_certificates_and_lose_the_right_to_them_when_they_go(
    harbour: Harbour, caddy_image: str, tmp_path: Path
) -> None:
    with reserved() as https:
        tls = {
            "base_domain": BASE,
            "edge_tls": "internal",
            "edge_https_port": str(https),
            "edge_image": caddy_image,
        }
        async with harbour.server(**tls) as desk:
            name = harbour.project
            host, preview = f"{name}.{BASE}", f"{name}-production-blue.{BASE}"
            await desk.done("create_project", {"name": name})
            deployed = await desk.done("deploy_project", harbour.deploy(environment="production"))
            assert deployed["preview_url"] == f"https://{preview}:{https}"
            trust = await authority(desk, tmp_path)
            assert over_tls(trust, https, preview) == "v1"
            with pytest.raises(ssl.SSLError):
                over_tls(trust, https, host)
            promoted = await desk.done("promote", {"project": name, "environment": "production"})
            assert promoted["receipt"]["certificate"] is True
            assert promoted["receipt"]["failed"] == 0
            assert promoted["next"] is None
            assert promoted["url"] == f"https://{host}:{https}"
            assert over_tls(trust, https, host) == "v1"
            redirected = get(harbour.port, host, "/a?b=c")
            assert (redirected.status, redirected.headers["location"]) == (
                308,
                f"https://{host}:{https}/a?b=c",
            )
            for never in (f"{name}-staging.{BASE}", f"www.{host}", BASE, "elsewhere.test"):
                with pytest.raises(ssl.SSLError):
                    over_tls(trust, https, never)

            permissions = harbour.home / "edge" / "switch" / "tls"
            assert {one.name for one in permissions.iterdir()} == {host, preview}
            (permissions / host).unlink()
            await desk.house.hosting.recover()
            assert over_tls(trust, https, host) == "v1"

            plan = await desk.done("delete_project", {"name": name})
            await desk.done("delete_project", {"name": name, "plan_token": plan["plan_token"]})
            await desk.house.hosting.recover()
            assert list(permissions.iterdir()) == []
            assert get(harbour.port, host).status == 404
