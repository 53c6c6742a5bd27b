"""A second installation on the same engine, and what bears our names without being ours."""

from __future__ import annotations

import socket

from tests.deployments.conftest import Harbour
from tests.deployments.truth import told_truly


async def test_a_foreign_container_of_a_slots_name_is_left_alone_and_the_deploy_says_so(
    harbour: Harbour,
) -> None:
    name = f"quaymaster-{harbour.project}-staging-blue"
    other = {"quaymaster.installation": harbour.owner.installation, "quaymaster.home": "other"}
    body = {
        "Image": harbour.image("busybox"),
        "Cmd": ["sleep", "60"],
        "Labels": {**other, "quaymaster.project": "x"},
    }
    foreign = harbour.engine.ask("POST", f"/containers/create?name={name}", body)["Id"]
    async with harbour.server() as desk:
        await desk.done("create_project", {"name": harbour.project})
        failed = await desk.done("deploy_project", harbour.deploy())
        assert (failed["status"], "taken" in failed["error"]) == ("failed", True)
        await desk.house.hosting.recovery.run_once()
        assert harbour.engine.find(f"/containers/{foreign}/json") is not None
        harbour.engine.ask("DELETE", f"/containers/{foreign}?force=1")
        assert (await desk.done("deploy_project", harbour.deploy()))["status"] == "success"
        await told_truly(desk, harbour)


async def test_beside_a_foreign_network_of_the_projects_name_there_is_one_of_its_own(
    harbour: Harbour,
) -> None:
    plain = f"quaymaster-net-{harbour.project}"
    foreign = harbour.engine.ask("POST", "/networks/create", {"Name": plain})["Id"]
    try:
        async with harbour.server() as desk:
            await desk.done("create_project", {"name": harbour.project})
            assert (await desk.done("deploy_project", harbour.deploy()))["status"] == "success"
            await desk.done("promote", {"project": harbour.project})
            [own] = networks_of(harbour, plain)
            assert own.startswith(f"{plain}-")
            await desk.house.hosting.recovery.run_once()
            assert harbour.version() == "v1"
            plan = await desk.done("delete_project", {"name": harbour.project})
            await desk.done("delete_project", {"name": harbour.project, "plan_token": plan["plan_token"]})
            assert networks_of(harbour, plain) == []
        found = harbour.engine.find(f"/networks/{foreign}")
        assert (found["Name"], found["Containers"]) == (plain, {})
    finally:
        harbour.engine.ask("DELETE", f"/networks/{foreign}")


def networks_of(harbour: Harbour, name: str) -> list[str]:
    """Ours whose names begin so."""
    found = harbour.engine.networks(harbour.owner.installation)
    return [one["Name"] for one in found if one["Name"].startswith(name)]


async def test_a_port_that_somebody_else_listens_on_is_passed_over(harbour: Harbour) -> None:
    first = harbour.ports["staging"][0]
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", first))
        taken.listen()
        async with harbour.server(ports_staging=f"{first}-{first + 1}") as desk:
            await desk.done("create_project", {"name": harbour.project})
            up = await desk.done("deploy_project", harbour.deploy())
            assert up["status"] == "success"
            status = await desk.done("slot_status", {"project": harbour.project})
            assert status["blue"]["port"] == first + 1
            await desk.done("promote", {"project": harbour.project})
            refused = await desk.done("deploy_project", harbour.deploy())
            assert (refused["status"], "no port from" in refused["error"]) == ("failed", True)
            await told_truly(desk, harbour)


async def test_a_restart_between_any_two_calls_changes_nothing(harbour: Harbour) -> None:
    calls = [
        ("create_project", {"name": harbour.project}),
        ("deploy_project", harbour.deploy()),
        ("promote", {"project": harbour.project}),
        ("deploy_project", harbour.deploy("demo-v2")),
        ("promote", {"project": harbour.project}),
        ("rollback", {"project": harbour.project, "reason": "r"}),
    ]
    for tool, arguments in calls:
        async with harbour.server() as desk:
            await desk.done(tool, arguments)
    assert harbour.version() == "v1"
    async with harbour.server() as desk:
        await told_truly(desk, harbour)
