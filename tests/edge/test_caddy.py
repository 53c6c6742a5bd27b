"""The edge on a real Caddy, old and new."""

import asyncio
import http.client
import shutil
import signal
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace

import anyio
import pytest

from mcp_server.adapters.edge.caddy.edge import CaddyEdge
from mcp_server.adapters.edge.caddy.host import HostCaddy
from mcp_server.adapters.edge.switch import SwitchDirectory
from mcp_server.domain.errors import Conflict, Unavailable
from mcp_server.domain.routes import Preview, Route
from mcp_server.domain.slots import SlotName
from tests.edge.conftest import Stage
from tests.services.edge import get
from tests.services.edge_load import Load, load
from tests.services.waiting import wait_until

ROUTE = "app.production"
HOST = "app.quay.test"
OTHER = "shop.production"
SLOTS: tuple[SlotName, SlotName] = ("blue", "green")
NEIGHBOUR = "shop.quay.test"


async def served(stage: Stage, slot: SlotName = "blue") -> None:
    await stage.edge.ensure()
    await stage.edge.attach(HOST, ROUTE)
    await stage.edge.point(ROUTE, slot, stage.target(slot))


async def test_a_host_goes_nowhere_until_its_route_is_pointed_and_then_to_each_slot_in_turn(
    stage: Stage,
) -> None:
    await stage.edge.ensure()
    await stage.edge.attach(HOST, ROUTE)
    assert get(stage.door.http_port, HOST).status == 404
    assert await stage.edge.active(ROUTE) is None
    for slot in (*SLOTS, *SLOTS):
        await stage.edge.point(ROUTE, slot, stage.target(slot))
        assert get(stage.door.http_port, HOST).body == slot
        assert await stage.edge.active(ROUTE) == slot


async def test_the_first_promoted_slot_may_be_green(stage: Stage) -> None:
    await served(stage, "green")
    assert get(stage.door.http_port, HOST).body == "green"
    await stage.edge.point(ROUTE, "blue", stage.target("blue"))
    assert get(stage.door.http_port, HOST).body == "blue"


async def test_one_switch_moves_all_host_names_of_a_route_and_none_of_another(stage: Stage) -> None:
    await served(stage)
    await stage.edge.attach("www.customer.test", ROUTE)
    await stage.edge.attach("app-admin.quay.test", "app-admin.production")
    await stage.edge.point("app-admin.production", "blue", stage.target("blue"))
    await stage.edge.point(ROUTE, "green", stage.target("green"))
    assert get(stage.door.http_port, HOST).body == "green"
    assert get(stage.door.http_port, "www.customer.test").body == "green"
    assert get(stage.door.http_port, "app-admin.quay.test").body == "blue"
    await stage.edge.forget(ROUTE)
    assert get(stage.door.http_port, HOST).status == 404
    assert get(stage.door.http_port, "www.customer.test").status == 404
    assert get(stage.door.http_port, "app-admin.quay.test").body == "blue"


async def test_a_preview_shows_its_slot_before_and_after_the_promote(stage: Stage) -> None:
    await served(stage)
    preview = Preview(host="app-production-green.quay.test", slot="green", target=stage.target("green"))
    await stage.edge.preview(ROUTE, preview)
    assert get(stage.door.http_port, preview.host).body == "green"
    await stage.edge.point(ROUTE, "green", stage.target("green"))
    assert get(stage.door.http_port, preview.host).body == "green"
    moved = preview.change(target=stage.target("blue"))
    await stage.edge.preview(ROUTE, moved)
    assert get(stage.door.http_port, preview.host).body == "blue"
    assert (await stage.edge.probe(preview.host))[0].slot == "green"
    await stage.edge.detach(preview.host)
    assert get(stage.door.http_port, preview.host).status == 404


async def test_probes_name_the_slot_and_nobody_else_learns_it(stage: Stage) -> None:
    await served(stage)
    probes = await stage.edge.probe(HOST, "/", count=3)
    assert [probe.slot for probe in probes] == ["blue"] * 3
    assert all(probe.answered_by("blue") and not probe.answered_by("green") for probe in probes)
    for word in ("", "0" * 32, "*"):
        reply = get(stage.door.http_port, HOST, X_Quaymaster_Probe=word)
        assert not [name for name in reply.headers if name.startswith("x-quaymaster")]


async def test_an_application_sees_no_word_of_a_probe_and_cannot_name_a_slot(stage: Stage) -> None:
    await served(stage)
    seen = get(stage.door.http_port, HOST, "/headers", X_Quaymaster_Probe=stage.door.token)
    assert seen.headers["x-quaymaster-slot"] == "blue"
    assert stage.door.token not in seen.body
    assert not [
        name for name in get(stage.door.http_port, HOST, "/forge").headers if name.startswith("x-quay")
    ]
    assert (await stage.edge.probe(HOST, "/forge"))[0].slot == "blue"


async def test_a_probe_of_a_dead_slot_is_a_failure_and_no_exception(stage: Stage) -> None:
    await served(stage)
    stage.blue.stop()
    (probe,) = await stage.edge.probe(HOST)
    assert not probe.answered_by("blue")
    stage.caddy.stop()
    (probe,) = await stage.edge.probe(HOST)
    assert probe.status is None
    assert probe.error == "nothing listens on the proxy's port"


@pytest.mark.parametrize(
    "host",
    [
        *("*", "..", ".", "a*", "ap?.quay.test", "[a]pp.quay.test", "APP.quay.test", "app.quay.test."),
        *(
            "{env.PATH}",
            "{http.request.header.X}",
            "../hosts/app.quay.test",
            "app.quay.test/../shop.quay.test",
        ),
        *("127.0.0.1", ".new-1"),
    ],
)
async def test_a_hostile_host_header_meets_no_project(stage: Stage, host: str) -> None:
    await served(stage)
    reply = get(stage.door.http_port, host, X="app.quay.test")
    assert reply.status in (400, 404)


async def test_nothing_is_lost_when_traffic_is_switched_under_load(
    stage: Stage, rounds: Callable[[int, int], int]
) -> None:
    await served(stage)
    await stage.edge.attach(NEIGHBOUR, OTHER)
    await stage.edge.point(OTHER, "blue", stage.target("blue"))
    switched = []
    async with load(stage.door.http_port, HOST, NEIGHBOUR) as run:
        for i in range(rounds(10, 100)):
            slot = SLOTS[(i + 1) % 2]
            await stage.edge.point(ROUTE, slot, stage.target(slot))
            begun = run.now()
            await run.more_answers(rounds(200, 550))
            switched.append((begun, run.now(), slot))
    assert run.lost == []
    assert [run.wrong(HOST, *switch) for switch in switched] == [[]] * len(switched)
    assert len(run.answers) >= rounds(2000, 50_000)
    assert run.echoes > 0


async def test_the_open_websockets_of_many_other_projects_outlive_promotes(
    stage: Stage, rounds: Callable[[int, int], int]
) -> None:
    await served(stage)
    projects = 20
    hosts = [f"other-{number}.quay.test" for number in range(projects)]
    for number, host in enumerate(hosts):
        await stage.edge.attach(host, f"other-{number}.production")
        await stage.edge.point(f"other-{number}.production", "green", stage.target("green"))
    run, sockets = Load(stage.door.http_port), rounds(100, 1000)
    tasks = []
    async with asyncio.timeout(300):
        for number in range(sockets):
            tasks.append(asyncio.create_task(run.websocket(hosts[number % projects], pause=1)))
            while run.sockets + len(run.lost) < number - 20:
                await asyncio.sleep(0.01)
        while run.sockets + len(run.lost) < sockets:
            await asyncio.sleep(0.01)
        assert await stage.edge.connections(stage.target("green")) >= sockets
        for i in range(rounds(10, 100)):
            slot = SLOTS[(i + 1) % 2]
            await stage.edge.point(ROUTE, slot, stage.target(slot))
            assert get(stage.door.http_port, HOST).body == slot
            await asyncio.sleep(0.1)
        echoes = run.echoes
        run.stop()
        await asyncio.gather(*tasks)
    assert run.lost == []
    assert run.echoes >= echoes + sockets


async def test_the_slot_survives_a_restart_and_a_kill_of_the_proxy(stage: Stage) -> None:
    await served(stage)
    await stage.edge.point(ROUTE, "green", stage.target("green"))
    for how in (signal.SIGTERM, signal.SIGKILL):
        stage.caddy.restart(how)
        assert get(stage.door.http_port, HOST).body == "green"
        await stage.edge.ensure()


async def test_connections_fall_to_nought_once_the_last_request_of_the_old_slot_ends(stage: Stage) -> None:
    await served(stage)
    async with load(stage.door.http_port, HOST, HOST) as run:
        await run.more_answers(50)
        assert await stage.edge.connections(stage.target("blue")) >= 20
        assert await stage.edge.connections(stage.target("green")) == 0
        await stage.edge.point(ROUTE, "green", stage.target("green"))
        assert await stage.edge.connections(stage.target("blue")) >= 20  # the websockets stay where they are
    with anyio.fail_after(10):
        while await stage.edge.connections(stage.target("blue")):
            await anyio.sleep(0.1)


async def test_ensure_says_what_to_run_and_whose_proxy_it_met(
    stage: Stage, make_stage: Callable[..., Stage]
) -> None:
    await stage.edge.ensure()
    assert await stage.edge.check() == ()
    other = make_stage(installation="another", name="other")
    foreign = CaddyEdge(
        other.directory, other.settings, replace(stage.door, token=other.door.token), HostCaddy()
    )
    with pytest.raises(Unavailable, match="No Caddy of this installation"):
        await foreign.ensure()
    newer = stage.settings.model_copy(update={"email": "a@quay.test"})
    with pytest.raises(Unavailable, match="older configuration"):
        await CaddyEdge(stage.directory, newer, stage.door, HostCaddy()).ensure()
    stage.caddy.stop()
    with pytest.raises(Unavailable, match="No Caddy") as raised:
        await stage.edge.ensure()
    assert "quaymaster edge config" in raised.value.next


async def test_two_installations_do_not_meet(stage: Stage, make_stage: Callable[..., Stage]) -> None:
    await served(stage)
    other = make_stage(installation="another", name="other")
    await served(other, "green")
    await other.edge.rebuild([])
    assert get(other.door.http_port, HOST).status == 404
    assert get(stage.door.http_port, HOST).body == "blue"
    before = sorted(stage.root.rglob("*"))
    thief = SwitchDirectory(stage.root, "another")
    for act in (thief.claim, thief.token, lambda: thief.rebuild([]), lambda: thief.forget(ROUTE)):
        with pytest.raises(Conflict):
            act()
    assert sorted(stage.root.rglob("*")) == before


async def test_a_lost_directory_is_rebuilt_while_the_proxy_runs(stage: Stage) -> None:
    await served(stage, "green")
    wanted = await stage.edge.routes()
    assert wanted == (Route(name=ROUTE, active="green", target=stage.target("green"), hosts=(HOST,)),)
    shutil.rmtree(stage.root / "switch")
    assert get(stage.door.http_port, HOST).status == 404
    repaired = await stage.edge.rebuild(wanted)
    assert [repair.kind for repair in repaired] == ["route", "host"]
    assert get(stage.door.http_port, HOST).body == "green"
    assert await stage.edge.rebuild(wanted) == ()


async def test_certificates_are_made_for_allowed_hosts_only_and_plain_requests_are_sent_there(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(tls="internal")
    await served(stage)
    assert get(stage.door.http_port, HOST).body == "blue"  # nobody is sent to a certificate that is not there
    with pytest.raises(ssl.SSLError):
        over_tls(stage)
    await stage.edge.allow_tls(HOST)
    wait_until(lambda: handshake(stage), seconds=10, what="the certificate")
    assert over_tls(stage) == "blue"
    reply = get(stage.door.http_port, HOST, "/a?b=c")
    assert (reply.status, reply.headers["location"]) == (308, f"https://{HOST}:{stage.door.https_port}/a?b=c")
    await stage.edge.point(ROUTE, "green", stage.target("green"))
    assert over_tls(stage) == "green"
    assert [probe.slot for probe in await stage.edge.probe(HOST, count=2)] == ["green", "green"]
    stage.caddy.restart(signal.SIGKILL)
    assert over_tls(stage) == "green"
    assert stage.edge.url(HOST) == f"https://{HOST}:{stage.door.https_port}"


async def test_probes_judge_the_slot_while_no_certificate_can_be_had(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(tls="internal")
    await served(stage)
    (stage.root.parent / "storage" / "certificates").write_text("no folder, so no certificate can be kept")
    await stage.edge.allow_tls(HOST)
    answers = await stage.edge.probe(HOST, count=3)
    assert [(probe.slot, probe.secure) for probe in answers] == [("blue", False)] * 3
    assert get(stage.door.http_port, HOST).status == 308
    (stage.root.parent / "storage" / "certificates").unlink()
    wait_until(lambda: handshake(stage), seconds=30, what="the certificate")
    assert [probe.secure for probe in await stage.edge.probe(HOST, count=2)] == [True, True]


def handshake(stage: Stage) -> bool:
    try:
        return over_tls(stage) != ""
    except ssl.SSLError:
        return False


def over_tls(stage: Stage) -> str:
    """What a client that trusts the internal authority is answered."""
    root = stage.root.parent / "storage" / "pki" / "authorities" / "local" / "root.crt"
    context = ssl.create_default_context(cafile=str(root))
    with socket.create_connection(("127.0.0.1", stage.door.https_port), 10) as plain:
        connection = http.client.HTTPConnection(HOST)
        connection.sock = context.wrap_socket(plain, server_hostname=HOST)
        connection.request("GET", "/")
        text = connection.getresponse().read().decode()
        connection.close()
        return text
