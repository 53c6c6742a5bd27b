"""What belongs to a deployed version: the project's database by name, and the domains that lead to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from tests.deployments.conftest import Harbour
from tests.deployments.truth import told_truly
from tests.domains.cloudflare import TOKEN, CloudflareService, cloudflare
from tests.domains.dns_server import Names, dns_server
from tests.services.edge import get
from tests.tools.desk import Desk

HERE = "192.0.2.7"
DATABASE = "app\n"


@pytest.fixture
async def names() -> AsyncIterator[Names]:
    async with dns_server() as running:
        yield running


@pytest.fixture
async def provider() -> AsyncIterator[CloudflareService]:
    async with cloudflare("example.org") as running:
        yield running


async def answers(harbour: Harbour, path: str, body: str) -> None:
    """Through the proxy, within seconds: a container's server may be a moment later than its name."""
    with anyio.fail_after(20):
        while harbour.ask(path).body != body:
            await anyio.sleep(0.1)


@pytest.mark.timeout(300)
async def test_a_deployed_version_reaches_its_projects_database_by_name_and_a_rotation_says_who_cannot_any_more(
    harbour: Harbour,
) -> None:
    ann = {"project": harbour.project}
    async with harbour.server(postgres_image=harbour.image("postgres")) as desk:
        await desk.done("create_project", {"name": harbour.project})
        await desk.done("create_database", ann)
        await desk.done("deploy_project", harbour.deploy())
        await desk.done("promote", ann)
        address = harbour.ask("/env/DATABASE_URL").body.strip()
        assert (address.startswith("postgresql://app:"), "127.0.0.1" in address) == (True, False)
        await answers(harbour, "/database", DATABASE)
        await desk.done("deploy_project", harbour.deploy("demo-v2"))

        rotated = await desk.done("rotate_database_password", ann)
        assert rotated["still_old"] == ["staging blue (active)", "staging green (deployed)"]
        assert harbour.ask("/database").status != 200, "it still has the old password"
        assert harbour.ask().status == 200

        await desk.done("deploy_project", harbour.deploy("demo-v2"))
        await desk.done("promote", ann)
        await answers(harbour, "/database", DATABASE)
        assert harbour.ask("/env/DATABASE_URL").body.strip() not in ("", address)
        password = address.split(":")[2].split("@")[0]
        told = [
            await desk.done("slot_status", ann),
            await desk.done("deployment_logs", ann),
            await desk.done("list_deployments", ann),
        ]
        assert password not in str(told)
        await told_truly(desk, harbour)


@pytest.mark.timeout(300)
async def test_a_rollback_keeps_every_domain(
    harbour: Harbour, names: Names, provider: CloudflareService
) -> None:
    custom, owned = f"{harbour.project}.example.net", f"{harbour.project}.example.org"
    settings = {
        "dns_servers": names.address,
        "edge_address": HERE,
        "cloudflare_token": TOKEN,
        "cloudflare_zones": "example.org",
        "cloudflare_url": provider.address,
    }
    async with harbour.server(**settings) as desk:
        await desk.done("create_project", {"name": harbour.project})
        await desk.done("deploy_project", harbour.deploy())
        await desk.done("promote", {"project": harbour.project})
        names.records[custom] = names.records[owned] = [f"A {HERE}"]
        for domain in (custom, owned):
            await lead_here(desk, harbour, domain)
        hosts = (harbour.host(), custom, owned)
        assert versions(harbour, hosts) == {"v1"}
        await desk.done("deploy_project", harbour.deploy("demo-v2"))
        await desk.done("promote", {"project": harbour.project})
        assert versions(harbour, hosts) == {"v2"}
        before = await desk.done("list_domains", {"project": harbour.project})
        await desk.done("rollback", {"project": harbour.project, "reason": "v1 was better"})
        assert versions(harbour, hosts) == {"v1"}
        assert await desk.done("list_domains", {"project": harbour.project}) == before
        assert provider.at(owned) == {("A", HERE)}
        await told_truly(desk, harbour)
        assert versions(harbour, hosts) == {"v1"}
        await desk.done("promote", {"project": harbour.project})
        assert versions(harbour, hosts) == {"v2"}


async def lead_here(desk: Desk, harbour: Harbour, domain: str) -> None:
    where: dict[str, Any] = {"project": harbour.project, "environment": "staging"}
    await desk.done("add_domain", {**where, "domain": domain})
    view = await desk.done("verify_domain", {"domain": domain})
    assert (view["status"], view["answers"]) == ("active", True), view


def versions(harbour: Harbour, hosts: tuple[str, ...]) -> set[str]:
    return {get(harbour.port, host).body.partition(" ")[0] for host in hosts}
