"""The edge in a container of its own, on a real engine."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest

from mcp_server.adapters.docker.orchestrator import DockerOrchestrator
from mcp_server.adapters.edge.caddy.config import CaddySettings
from mcp_server.adapters.edge.caddy.container import ADMIN, STORAGE, ContainerCaddy, container
from mcp_server.adapters.edge.caddy.edge import CaddyEdge
from mcp_server.adapters.edge.container import INSIDE, alias
from mcp_server.adapters.edge.probes import Door
from mcp_server.adapters.edge.switch import SwitchDirectory
from mcp_server.domain.errors import Conflict
from mcp_server.domain.workloads import Attachment, Owner, Workload
from tests.services.edge import get
from tests.services.ports import ReservedPort

ROUTE, HOST = "app.production", "app.quay.test"
SETTINGS = CaddySettings(
    installation="one",
    token="0" * 32,
    switch=f"{INSIDE}/switch",
    storage=STORAGE,
    admin=ADMIN,
    permission="ask",
)


def test_the_container_is_this() -> None:
    owner = Owner(installation="one", home="here")
    wanted = container(SETTINGS, owner, "caddy:2", Path("/home/edge"), (80, 443), public=True)
    assert wanted.command == ("caddy", "run", "--config", "/etc/quaymaster-edge.json")
    assert [(port.container, port.host, port.public) for port in wanted.ports] == [(80, 80, True)]
    assert [(mount.target, mount.read_only) for mount in wanted.mounts] == [("/edge", True), ("/data", False)]
    assert wanted.capabilities == ("NET_BIND_SERVICE",)
    assert SETTINGS.token not in str(wanted.extra_labels)
    other = container(SETTINGS, owner, "caddy:3", Path("/home/edge"), (80, 443), public=True)
    assert other.extra_labels != wanted.extra_labels
    assert other.name == wanted.name


def test_another_installation_has_other_names() -> None:
    one = container(
        SETTINGS, Owner(installation="one", home="a"), "caddy:2", Path("/x"), (80, 443), public=False
    )
    two = container(
        SETTINGS, Owner(installation="two", home="a"), "caddy:2", Path("/x"), (80, 443), public=False
    )
    assert {one.name, *(mount.source for mount in one.mounts[1:])}.isdisjoint({two.name})


def test_a_name_that_dns_would_not_take_gets_a_short_alias_and_the_others_keep_theirs() -> None:
    assert alias("quaymaster-app-production-blue") == "quaymaster-app-production-blue"
    long = "quaymaster-" + "x" * 60 + "-production-blue"
    assert len(alias(long)) <= 63
    assert alias(long) != alias(long + "x")


@pytest.fixture
async def edge(
    orchestrator: DockerOrchestrator, owner: Owner, image: Callable[[str], str], tmp_path: Path
) -> AsyncIterator[CaddyEdge]:
    port = ReservedPort()
    directory = SwitchDirectory(tmp_path / "edge", owner.installation)
    directory.claim()
    token = directory.token()
    settings = SETTINGS.model_copy(update={"installation": owner.installation, "token": token})
    caddy = ContainerCaddy(
        orchestrator, owner, image("caddy"), directory.root, (port.number, 0), public=False
    )
    yield CaddyEdge(directory, settings, Door("127.0.0.1", port.number, 0, "off", token), caddy)
    port.release()


async def test_the_container_is_started_left_alone_and_survives_a_restart_with_its_slot(
    edge: CaddyEdge, orchestrator: DockerOrchestrator, owner: Owner, image: Callable[[str], str]
) -> None:
    await edge.ensure()
    assert edge.network is not None
    first = await orchestrator.inspect(edge.network)
    assert first is not None
    await edge.attach(HOST, ROUTE)
    port = edge._door.http_port
    for slot in ("blue", "green"):
        workload = Workload(
            name=f"qt-{owner.installation[-8:]}-{slot}",
            owner=owner,
            image=image("demo"),
            networks=(Attachment(network=edge.network),),
        )
        await orchestrator.create(workload)
        await orchestrator.start(workload.ref)
        target = edge.target(workload.name, 8080, 0)
        with anyio.fail_after(20):
            await edge.point(ROUTE, "blue" if slot == "blue" else "green", target)
            while get(port, HOST).status != 200:
                await anyio.sleep(0.1)
        assert (await edge.probe(HOST))[0].slot == slot
        assert await edge.connections(target) >= 1
        with anyio.fail_after(10):
            while await edge.connections(target):
                await anyio.sleep(0.1)
    await edge.ensure()
    again = await orchestrator.inspect(edge.network)
    assert again is not None
    assert (again.id, again.started_at) == (first.id, first.started_at)
    await orchestrator.stop(edge._caddy.ref)  # type: ignore[attr-defined]
    await edge.ensure()
    with anyio.fail_after(20):
        while (await edge.probe(HOST))[0].slot != "green":
            await anyio.sleep(0.1)
    assert await edge.check() == ()


async def test_a_changed_configuration_makes_another_container_on_the_same_storage(
    edge: CaddyEdge, orchestrator: DockerOrchestrator
) -> None:
    await edge.ensure()
    assert edge.network is not None
    first = await orchestrator.inspect(edge.network)
    edge._settings = edge._settings.model_copy(update={"email": "a@quay.test"})
    await edge.ensure()
    second = await orchestrator.inspect(edge.network)
    assert first is not None
    assert second is not None
    assert second.id != first.id
    assert second.volumes == first.volumes


async def test_of_several_that_bring_it_up_at_one_time_one_makes_it_and_none_fails(
    edge: CaddyEdge, orchestrator: DockerOrchestrator, owner: Owner
) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(edge.ensure)
    assert edge.network is not None
    first = await orchestrator.inspect(edge.network)
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(edge.ensure)
    second = await orchestrator.inspect(edge.network)
    assert first is not None
    assert second is not None
    assert (second.id, second.started_at) == (first.id, first.started_at)


async def test_a_foreign_container_of_that_name_is_not_touched(
    edge: CaddyEdge, orchestrator: DockerOrchestrator, owner: Owner, image: Callable[[str], str]
) -> None:
    assert edge.network is not None
    foreign = Workload(
        name=edge.network, owner=owner.change(home="home-b"), image=image("busybox"), command=("sleep", "60")
    )
    await orchestrator.create(foreign)
    with pytest.raises(Conflict, match="not this installation's"):
        await edge.ensure()
    found = await orchestrator.inspect(edge.network)
    assert found is not None
    assert found.owner == foreign.owner
