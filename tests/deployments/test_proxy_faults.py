"""A proxy that is killed or removed while traffic moves: settled, told truly, and answering again."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_server.adapters.edge.switch import SwitchDirectory
from mcp_server.domain.errors import Conflict
from tests.deployments.conftest import Harbour, own_ports, reserved
from tests.deployments.test_faults import points, two_versions
from tests.deployments.truth import told_truly
from tests.services.edge import get
from tests.tools.desk import Desk, opened

STEPS = [
    f"{how} {step}"
    for how in ("kill", "remove")
    for step in ("switch.running", "switch.before_point", "switch.pointed", "switch.probed", "switch.settled")
]


def proxy_of(desk: Desk) -> str:
    name = desk.house.hosting.edge.network
    assert name is not None
    return name


def meddling(desk: Desk, harbour: Harbour, how: str, step: str) -> Callable[[str], None]:
    """Passed at every step; once, at this one, the proxy is taken away."""
    left = [step]

    def passing(point: str) -> None:
        if left == [point]:
            left.clear()
            path = f"/containers/{proxy_of(desk)}"
            if how == "kill":
                harbour.engine.ask("POST", f"{path}/kill?signal=KILL")
            else:
                harbour.engine.ask("DELETE", f"{path}?force=1")

    return passing


@pytest.mark.timeout(900)
async def test_a_proxy_that_is_taken_away_at_any_step_is_brought_back_and_the_outcome_is_what_it_does(
    harbour: Harbour, soak: bool, rng: random.Random
) -> None:
    async with harbour.server() as desk:
        await two_versions(desk, harbour)
        for step in points(STEPS, soak, rng, 4):
            for tool, version, more in (("promote", "v2", {}), ("rollback", "v1", {"reason": "drill"})):
                meddled(desk, meddling(desk, harbour, *step.split()))
                moved = await desk.call(tool, {"project": harbour.project, **more})
                status = await told_truly(desk, harbour)
                assert not moved.is_error, (step, moved.structured_content)
                assert status[status["active"]]["version"] == version, step
                assert harbour.version() == version, step
                await proxied_again(desk, harbour)


def meddled(desk: Desk, step: Callable[[str], None]) -> None:
    for part in (desk.house.hosting.switching, desk.house.hosting.moves, desk.house.hosting.switch_ends):
        part._step = step


async def proxied_again(desk: Desk, harbour: Harbour) -> None:
    """As it is after the next look, whoever had taken it away, and when."""
    await desk.house.hosting.recover()
    assert await desk.house.hosting.edge.check() == ()
    assert await desk.house.hosting.recovery.routing.differences() == ()


async def test_a_proxy_that_cannot_be_had_back_leaves_the_traffic_where_it_was_and_says_so(
    harbour: Harbour, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with harbour.server() as desk:
        await two_versions(desk, harbour)
        hosting = desk.house.hosting
        meddled(desk, meddling(desk, harbour, "remove", "switch.pointed"))
        came_back = hosting.edge.ensure

        async def refuse(*_: Any) -> None:
            raise Conflict("the engine has no such image")

        with monkeypatch.context() as meanwhile:
            meanwhile.setattr(hosting.edge, "ensure", join_only(refuse, came_back))
            moved = await desk.call("promote", {"project": harbour.project})
            silent = await desk.done("slot_status", {"project": harbour.project})
        assert moved.is_error
        assert "visitors reach nothing" in silent["warnings"][0]
        said = moved.structured_content or {}
        assert "nothing listens on the proxy's port" in said["message"]
        assert "traffic is where it was" in said["message"]
        await hosting.recover()
        status = await told_truly(desk, harbour)
        assert (status["active"], status["green"]["state"]) == ("blue", "deployed")
        assert harbour.version() == "v1"


def join_only(refuse: Callable[..., Any], ensure: Callable[[], Any]) -> Callable[[], Any]:
    """The first call, before traffic moves, is served."""
    calls: list[int] = []

    async def called() -> None:
        calls.append(1)
        await (ensure() if len(calls) == 1 else refuse())

    return called


@pytest.mark.timeout(300)
async def test_a_second_home_on_the_same_engine_never_touches_the_firsts_proxy(
    harbour: Harbour, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    third_home = tmp_path / "third"
    other.mkdir()
    third_home.mkdir()
    async with harbour.server() as desk:
        await two_versions(desk, harbour)
        await desk.done("promote", {"project": harbour.project})
        before = picture(harbour, desk)
        with reserved() as port, own_ports() as ports:
            settings = {
                **harbour.settings,
                **{f"ports_{name}": f"{those[0]}-{those[-1]}" for name, those in ports.items()},
                "edge_http_port": str(port),
            }
            async with opened(other, harbour.engine.address, **settings) as second:
                try:
                    name = f"{harbour.project}x"
                    await second.done("create_project", {"name": name})
                    await second.done("deploy_project", {**harbour.deploy("demo-v2"), "project": name})
                    await second.done("promote", {"project": name})
                    await second.house.hosting.recover()
                    assert proxy_of(second) != proxy_of(desk)
                    assert get(port, f"{name}-staging.localhost").body.split()[0] == "v2"
                    assert get(port, harbour.host()).status == 404
                    assert get(harbour.port, f"{name}-staging.localhost").status == 404
                finally:
                    harbour.engine.clear(second.house.hosting.site.installation)
            taken = {**settings, "edge_http_port": str(harbour.port)}
            async with opened(third_home, harbour.engine.address, **taken) as third:
                try:
                    name = f"{harbour.project}y"
                    await third.done("create_project", {"name": name})
                    deployed = await third.call("deploy_project", {**harbour.deploy(), "project": name})
                    assert (deployed.structured_content or {})["status"] == "failed"
                finally:
                    harbour.engine.clear(third.house.hosting.site.installation)
        await desk.house.hosting.recover()
        assert picture(harbour, desk) == before
        assert harbour.version() == "v2"


@pytest.mark.timeout(300)
async def test_of_two_homes_of_one_postgresql_each_has_its_own_proxy_and_moves_its_own_projects_only(
    harbour: Harbour, tmp_path: Path, database_url: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    installations = set()
    try:
        async with harbour.server(database_url=database_url) as desk:
            await two_versions(desk, harbour)
            await desk.done("promote", {"project": harbour.project})
            before = picture(harbour, desk)
            with reserved() as port, own_ports() as ports:
                settings = {
                    **harbour.settings,
                    **{f"ports_{name}": f"{those[0]}-{those[-1]}" for name, those in ports.items()},
                    "edge_http_port": str(port),
                    "database_url": database_url,
                }
                async with opened(other, harbour.engine.address, **settings) as second:
                    installations = {one.house.hosting.site.installation for one in (desk, second)}
                    assert len(installations) == 1
                    name = f"{harbour.project}x"
                    await admitted(second, name)
                    await second.done("deploy_project", {**harbour.deploy("demo-v2"), "project": name})
                    await second.done("promote", {"project": name})
                    for tool, more in (("promote", {}), ("rollback", {"reason": "drill"})):
                        refused = await second.call(tool, {"project": harbour.project, **more})
                        assert (refused.structured_content or {})["code"] == "WRONG_HOST"
                    await second.house.hosting.recover()
                    assert await second.house.hosting.recovery.routing.differences() == ()
                    assert get(port, f"{name}-staging.localhost").body.split()[0] == "v2"
                    assert get(port, harbour.host()).status == 404
            await desk.house.hosting.recover()
            assert picture(harbour, desk) == before
            assert harbour.version() == "v2"
    finally:
        for installation in installations:
            harbour.engine.clear(installation)


async def admitted(desk: Desk, project: str) -> None:
    """The project is made once the home that was there first has let this one in."""
    with anyio.fail_after(60):
        while (await desk.call("create_project", {"name": project})).is_error:
            await anyio.sleep(0.2)


def picture(harbour: Harbour, desk: Desk) -> tuple[Any, list[str]]:
    """The proxy's container, as it runs, and everything that it reads."""
    found = harbour.engine.find(f"/containers/{proxy_of(desk)}/json")
    return (found["Id"], found["State"]["StartedAt"]), sorted(
        str(path.relative_to(harbour.home)) for path in (harbour.home / "edge").rglob("*")
    )


def test_two_homes_of_one_installation_do_not_share_a_directory(tmp_path: Path) -> None:
    SwitchDirectory(tmp_path / "edge", "installation", home="one").claim()
    other = SwitchDirectory(tmp_path / "edge", "installation", home="two")
    for act in (other.claim, other.token, lambda: other.forget("app.production")):
        with pytest.raises(Conflict, match="another installation or home"):
            act()
    SwitchDirectory(tmp_path / "edge", "renamed", home="one").claim()
    assert (tmp_path / "edge" / "installation").read_text() == "renamed one\n"
