"""The proxy's state beside the store: compared, told, and made good."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mcp_server.domain.domains import DomainName
from mcp_server.domain.workloads import Ref
from mcp_server.ports.store import Intent, Transaction
from tests.deployments.conftest import Harbour
from tests.services.processes import run_quaymaster
from tests.tools.desk import Desk

MANY = 250


def check(harbour: Harbour) -> tuple[int, list[str]]:
    """`quaymaster edge check`: its exit code and what it says."""
    settings = {**harbour.environ, "DOCKER_HOST": harbour.engine.address}
    done = run_quaymaster("edge", "check", home=harbour.home, settings=settings, seconds=60)
    return done.returncode, done.stdout.splitlines()


async def promoted(desk: Desk, harbour: Harbour) -> None:
    await desk.done("create_project", {"name": harbour.project})
    await desk.done("deploy_project", harbour.deploy())
    await desk.done("promote", {"project": harbour.project})


async def give_domains(desk: Desk, harbour: Harbour, count: int) -> set[str]:
    """So many names that DNS leads here, as `verify_domain` leaves them."""
    names = {f"n{number:03}.customer.test" for number in range(count)}

    async def keep(tx: Transaction) -> None:
        now = await tx.now()
        for name in sorted(names):
            await tx.domains.add(
                DomainName(
                    domain=name,
                    project=harbour.project,
                    environment="staging",
                    type="custom",
                    status="active",
                    created_at=now,
                    updated_at=now,
                )
            )

    await desk.house.store.run(keep, Intent("add_domain", "test"))
    return names


@pytest.mark.timeout(300)
async def test_what_differs_between_store_directory_and_proxy_is_told_and_nothing_is_changed(
    harbour: Harbour,
) -> None:
    async with harbour.server() as desk:
        await promoted(desk, harbour)
        host = harbour.host()
        assert check(harbour) == (0, [])
        switch = harbour.home / "edge" / "switch"
        route = switch / "routes" / f"{harbour.project}.staging"
        (switch / "hosts" / host).unlink()
        (switch / "hosts" / "else.where.test").symlink_to(f"../routes/{harbour.project}.staging")
        (route / "green").mkdir()
        (route / "green" / "nowhere:80").touch()
        (route / "green").rename(route / "on-green")
        (switch / "notes.txt").touch()
        before = sorted(switch.rglob("*"))
        code, said = check(harbour)
        assert code == 1
        for part in (
            "switch/notes.txt in the edge's directory is none of Quaymaster's files",
            f"The route {harbour.project}.staging leads to green at nowhere:80, and should lead to blue",
            f"The host name {host} is missing or wrong.",
            "The host name else.where.test should not be there.",
            "else.where.test should go to green, but the answer is 502.",
        ):
            assert [line for line in said if part in line], (part, said)
        assert sorted(switch.rglob("*")) == before
        (switch / "notes.txt").unlink()
        await desk.house.hosting.recover()
        assert check(harbour) == (0, [])
        assert harbour.version() == "v1"


async def test_a_proxy_that_is_gone_is_told_once_and_comes_back_by_itself(harbour: Harbour) -> None:
    async with harbour.server() as desk:
        await promoted(desk, harbour)
        hosting = desk.house.hosting
        assert hosting.edge.network is not None
        await hosting.engine.remove(Ref(name=hosting.edge.network, owner=hosting.site.owner()))
        code, said = check(harbour)
        assert (code, len(said)) == (1, 1)
        assert "does not answer on its port" in said[0]
        await hosting.recover()
        assert harbour.version() == "v1"
        assert check(harbour) == (0, [])


async def test_where_the_person_routes_nothing_is_compared_and_nothing_mended(harbour: Harbour) -> None:
    harbour.settings["edge"] = "off"
    async with harbour.server() as desk:
        await promoted(desk, harbour)
        assert (await desk.house.hosting.recovery.run_once()).nothing
        assert check(harbour) == (0, [])


@pytest.mark.timeout(300)
async def test_all_of_many_domains_are_answered_and_survive_the_loss_of_the_directory(
    harbour: Harbour,
) -> None:
    async with harbour.server() as desk:
        await promoted(desk, harbour)
        names = await give_domains(desk, harbour, MANY)
        await desk.house.hosting.recover()
        switch = harbour.home / "edge" / "switch"
        assert hosts(switch) == {*names, harbour.host(), f"{harbour.project}-staging-blue.localhost"}
        assert check(harbour) == (0, [])
        shutil.rmtree(switch)
        await desk.house.hosting.recover()
        assert {*names, harbour.host()} < hosts(switch)
        await desk.done("deploy_project", harbour.deploy("demo-v2"))
        await desk.done("promote", {"project": harbour.project})
        assert check(harbour) == (0, [])
        assert harbour.version() == "v2"


def hosts(switch: Path) -> set[str]:
    return {one.name for one in (switch / "hosts").iterdir()}
