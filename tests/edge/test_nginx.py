"""The edge on a real nginx, and the file that it is given."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mcp_server.adapters.edge.nginx import config, master
from mcp_server.adapters.edge.nginx.config import Location, NginxSettings, Site
from mcp_server.adapters.edge.nginx.edge import AGREED_FOR, NginxEdge
from mcp_server.adapters.edge.nginx.host import HostNginx
from mcp_server.adapters.edge.probes import Door
from mcp_server.adapters.edge.switch import SwitchDirectory
from mcp_server.domain.errors import Unavailable
from mcp_server.domain.routes import Preview, Route, Target
from mcp_server.domain.slots import SlotName
from tests.edge.conftest import proxy_program
from tests.services.edge import App, NginxProcess, get
from tests.services.edge_load import Load, load
from tests.services.ports import ReservedPort

ROUTE, HOST = "app.production", "app.quay.test"
OTHER, NEIGHBOUR = "shop.production", "shop.quay.test"
TOKEN = "0123456789abcdef0123456789abcdef"
SLOTS: tuple[SlotName, SlotName] = ("blue", "green")


@dataclass
class Stage:
    settings: NginxSettings
    edge: NginxEdge
    door: Door
    nginx: NginxProcess
    apps: dict[SlotName, App]

    def target(self, slot: SlotName) -> Target:
        return Target(host="127.0.0.1", port=self.apps[slot].port)


@pytest.fixture
def make_stage(tmp_path: Path) -> Iterator[Callable[[], Stage]]:
    with ExitStack() as stack:

        def make() -> Stage:
            port = ReservedPort()
            stack.callback(port.release)
            directory = SwitchDirectory(tmp_path / "edge", "one")
            directory.claim()
            settings = NginxSettings(
                installation="one", token=directory.token(), address="127.0.0.1", http_port=port.number
            )
            door = Door("127.0.0.1", port.number, 0, "off", directory.token())
            first = tmp_path / "edge" / "nginx.conf"
            first.write_text(config.text(settings, ()))
            nginx = NginxProcess(proxy_program("nginx"), first, [port.number], tmp_path)
            stack.enter_context(nginx)
            apps = {slot: stack.enter_context(App(slot, tmp_path)) for slot in SLOTS}
            return Stage(
                settings, NginxEdge(directory, settings, door, HostNginx(nginx.command)), door, nginx, apps
            )

        yield make


@pytest.fixture
def stage(make_stage: Callable[[], Stage]) -> Stage:
    return make_stage()


async def served(stage: Stage) -> None:
    await stage.edge.ensure()
    await stage.edge.attach(HOST, ROUTE)
    await stage.edge.point(ROUTE, "blue", stage.target("blue"))


# -- the edge ------------------------------------------------------------------------------------------------


async def test_a_switch_has_happened_when_point_returns(stage: Stage) -> None:
    await served(stage)
    for slot in (*SLOTS, *SLOTS):
        await stage.edge.point(ROUTE, slot, stage.target(slot))
        assert [get(stage.door.http_port, HOST).body for _ in range(5)] == [slot] * 5
        assert {probe.slot for probe in await stage.edge.probe(HOST, count=3)} == {slot}
    assert await stage.edge.check() == ()


async def test_new_connections_lose_nothing_at_a_switch(
    stage: Stage, rounds: Callable[[int, int], int]
) -> None:
    """What nginx may lose are idle kept connections; clients that open their own lose nothing."""
    await served(stage)
    run = Load(stage.door.http_port)
    clients = [asyncio.create_task(run.fresh(HOST)) for _ in range(4)]
    for i in range(rounds(5, 50)):
        await stage.edge.point(ROUTE, SLOTS[(i + 1) % 2], stage.target(SLOTS[(i + 1) % 2]))
        begun = run.now()
        await run.more_answers(100)
        assert run.wrong(HOST, begun, run.now(), SLOTS[(i + 1) % 2]) == []
    run.stop()
    await asyncio.gather(*clients)
    assert run.lost == []


async def test_the_websockets_of_a_neighbour_live_through_a_switch(stage: Stage) -> None:
    await served(stage)
    await stage.edge.attach(NEIGHBOUR, OTHER)
    await stage.edge.point(OTHER, "blue", stage.target("blue"))
    async with load(stage.door.http_port, HOST, NEIGHBOUR) as run:
        await run.more_answers(100)
        await stage.edge.point(ROUTE, "green", stage.target("green"))
        echoes = run.echoes
        while run.echoes < echoes + 40:
            await run.more_answers(5)
    assert [lost for lost in run.lost if "websocket" in lost] == []


async def test_a_switch_closes_the_idle_connections_of_every_project_and_takes_half_a_second(
    stage: Stage,
) -> None:
    """What the documentation says is lost, lest it be said longer than it is true."""
    await served(stage)
    await stage.edge.attach(NEIGHBOUR, OTHER)
    await stage.edge.point(OTHER, "blue", stage.target("blue"))
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.door.http_port)
    writer.write(f"GET / HTTP/1.1\r\nHost: {NEIGHBOUR}\r\n\r\n".encode())
    async with asyncio.timeout(20):
        assert b"200 OK" in await reader.readuntil(b"blue")
        begun = time.monotonic()
        await stage.edge.point(ROUTE, "green", stage.target("green"))
        assert time.monotonic() - begun >= AGREED_FOR
        assert await reader.read() == b""
    writer.close()


async def test_a_preview_and_a_probe_name_their_slot_and_an_application_cannot(stage: Stage) -> None:
    await served(stage)
    preview = Preview(host="app-production-green.quay.test", slot="green", target=stage.target("green"))
    await stage.edge.preview(ROUTE, preview)
    assert get(stage.door.http_port, preview.host).body == "green"
    assert (await stage.edge.probe(preview.host))[0].slot == "green"
    assert (await stage.edge.probe(HOST, "/forge"))[0].slot == "blue"
    assert not [
        name for name in get(stage.door.http_port, HOST, "/forge").headers if name.startswith("x-quay")
    ]
    seen = get(stage.door.http_port, HOST, "/headers", X_Quaymaster_Probe=stage.door.token)
    assert stage.door.token not in seen.body
    for host in ("nobody.test", "*", "..", "[a]pp.quay.test", "$host", ""):
        assert get(stage.door.http_port, host).status in (400, 404)


async def test_targets_that_are_not_up_yet_stop_neither_start_nor_reload(stage: Stage) -> None:
    await served(stage)
    stage.apps["blue"].stop()
    await stage.edge.attach(NEIGHBOUR, OTHER)
    await stage.edge.point(OTHER, "green", stage.target("green"))
    assert get(stage.door.http_port, NEIGHBOUR).body == "green"
    assert get(stage.door.http_port, HOST).status == 502
    stage.nginx.restart()
    assert get(stage.door.http_port, NEIGHBOUR).body == "green"
    stage.apps["blue"].start()
    assert get(stage.door.http_port, HOST).body == "blue"


async def test_a_file_that_nginx_refuses_is_taken_back_and_said(stage: Stage) -> None:
    await served(stage)
    before = stage.edge.file.read_text()
    broken = stage.edge.file.with_name("nginx.conf-other")
    broken.write_text("nonsense;")
    with pytest.raises(Unavailable, match="nothing was changed") as refused:
        await stage.edge.point(ROUTE, "green", stage.target("green"))
    assert "'nginx -t'" in refused.value.next
    broken.unlink()
    assert stage.edge.file.read_text() == before
    assert await stage.edge.active(ROUTE) == "blue"
    assert get(stage.door.http_port, HOST).body == "blue"


async def test_a_pid_file_that_was_left_behind_hits_no_stranger_who_has_the_number_by_now(
    stage: Stage,
) -> None:
    await served(stage)
    stage.nginx.stop()
    with stranger() as other:
        (stage.nginx.errors.parent / "pid").write_text(f"{other.pid}\n")
        with pytest.raises(
            Unavailable, match=f"nginx does not run: .*/pid names process {other.pid}, which is"
        ):
            await stage.edge.ensure()
        assert other.poll() is None
    with pytest.raises(Unavailable, match=r"nginx does not run: .*/pid names no process"):
        await stage.edge.ensure()
    stage.nginx.start()
    await stage.edge.ensure()
    await stage.edge.point(ROUTE, "green", stage.target("green"))
    assert get(stage.door.http_port, HOST).body == "green"


async def test_another_nginx_is_a_stranger_too(stage: Stage, tmp_path: Path) -> None:
    await served(stage)
    with reserved_port() as port:
        (tmp_path / "other.conf").write_text(f"server {{ listen 127.0.0.1:{port.number}; }}\n")
        folder = tmp_path / "beside"
        folder.mkdir()
        with NginxProcess(proxy_program("nginx"), tmp_path / "other.conf", [port.number], folder) as other:
            own = stage.nginx.errors.parent / "pid"
            before = own.read_text()
            own.write_text((other.errors.parent / "pid").read_text())
            with pytest.raises(Unavailable, match="nginx does not run"):
                await stage.edge.point(ROUTE, "green", stage.target("green"))
            own.write_text(before)
            await stage.edge.point(ROUTE, "green", stage.target("green"))
    assert get(stage.door.http_port, HOST).body == "green"


@contextmanager
def reserved_port() -> Iterator[ReservedPort]:
    port = ReservedPort()
    try:
        yield port
    finally:
        port.release()


@contextmanager
def stranger() -> Iterator[subprocess.Popen[str]]:
    """A program that SIGHUP would end."""
    other = subprocess.Popen(
        [sys.executable, "-c", "print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout is not None
        other.stdout.readline()
        yield other
    finally:
        other.kill()
        other.communicate()


@pytest.mark.parametrize(
    ("command", "dump", "named"),
    [
        (("nginx",), "", "/run/nginx.pid"),
        (("nginx",), "# pid /x;\nevents { pid /y; }\nhttp { server { pid /z; } }", "/run/nginx.pid"),
        (("nginx",), "user root;\npid  /run/n.pid; # why\nevents {}", "/run/n.pid"),
        (("nginx",), "pid 'logs/n.pid';", "/usr/share/nginx/logs/n.pid"),
        (("nginx", "-p", "/srv/"), 'pid "n.pid";', "/srv/n.pid"),
    ],
)
def test_the_pid_file_is_found_by_the_configuration(command: tuple[str, ...], dump: str, named: str) -> None:
    version = (
        "configure arguments: --prefix=/usr/share/nginx --conf-path=/etc/n.conf --pid-path=/run/nginx.pid"
    )
    assert str(master.pid_file(dump, command, master.built(version))) == named


@pytest.mark.parametrize("point", ["edge.nginx.written", "edge.nginx.tested", "edge.nginx.reloaded"])
async def test_a_kill_between_the_steps_is_settled_by_the_next_ensure(stage: Stage, point: str) -> None:
    await served(stage)
    root, command = stage.edge.file.parent, stage.nginx.command
    program = (
        "import anyio\nfrom pathlib import Path\n"
        "from mcp_server.adapters.edge.nginx.config import NginxSettings\n"
        "from mcp_server.adapters.edge.nginx.edge import AGREED_FOR, NginxEdge\n"
        "from mcp_server.adapters.edge.nginx.host import HostNginx\n"
        "from mcp_server.adapters.edge.probes import Door\n"
        "from mcp_server.adapters.edge.switch import SwitchDirectory\n"
        "from mcp_server.domain.routes import Target\n"
        f"edge = NginxEdge(SwitchDirectory(Path({str(root)!r}), 'one'),\n"
        f"  NginxSettings.model_validate_json({stage.settings.model_dump_json()!r}),\n"
        f"  {stage.door!r}, HostNginx({command!r}))\n"
        f"anyio.run(edge.point, {ROUTE!r}, 'green', Target.parse({str(stage.target('green'))!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": os.getcwd(), "PATH": os.defpath, "QUAYMASTER_FAULT": f"{point}:KILL"},
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert get(stage.door.http_port, HOST).status == 200
    await stage.edge.ensure()
    assert await stage.edge.active(ROUTE) == "green"
    assert get(stage.door.http_port, HOST).body == "green"
    assert await stage.edge.check() == ()


async def test_a_rebuild_restores_what_was_lost(stage: Stage) -> None:
    await served(stage)
    wanted = [Route(name=ROUTE, active="green", target=stage.target("green"), hosts=(HOST,))]
    assert [repair.kind for repair in await stage.edge.rebuild(wanted)] == ["route"]
    assert get(stage.door.http_port, HOST).body == "green"


# -- the file ----------------------------------------------------------------------------------------------

SETTINGS = NginxSettings(installation="one", token=TOKEN, http_port=8080, resolver="127.0.0.11")
APP = Target(host="app", port=3000)
SITE = Site(
    hosts=("quay.test",),
    slot="blue",
    secure_headers=True,
    locations=(
        Location(targets=(APP,)),
        Location(path="/api/", targets=(APP, Target(host="api", port=8000)), strip=True, rate=10),
        Location(path="/static/", files="/srv/static"),
    ),
)


def test_a_site_with_several_locations_is_written_like_this() -> None:
    written = config.text(SETTINGS, [SITE])
    assert written.count("location ") == 4
    assert (
        written.index("location /static/ {")
        < written.index("location /api/ {")
        < written.rindex("location / {")
    )
    for line in (
        'split_clients $request_id $quaymaster_target_0_1 { 50.00% "app:3000"; * ',
        '"api:8000"; }',
        "limit_req_zone $binary_remote_addr zone=quaymaster_0_1:1m rate=10r/s;",
        "    resolver 127.0.0.11 valid=1s ipv6=off;",
        "        rewrite ^/api/(.*)$ /$1 break;",
        "        set $quaymaster_upstream app:3000;",
        "        set $quaymaster_upstream $quaymaster_target_0_1;",
        "        alias /srv/static/;",
        "    add_header X-Content-Type-Options nosniff always;",
    ):
        assert line in written.split("\n")


def test_every_shape_is_valid_for_nginx_and_routes_as_it_says(tmp_path: Path) -> None:
    with ExitStack() as stack:
        blue, green = (stack.enter_context(App(name, tmp_path)) for name in SLOTS)
        port = ReservedPort()
        files = tmp_path / "files"
        files.mkdir()
        (files / "a.txt").write_text("a file")
        one, two = (Target(host="127.0.0.1", port=app.port) for app in (blue, green))
        site = Site(
            hosts=("quay.test", "www.quay.test"),
            secure_headers=True,
            locations=(
                Location(targets=(one,)),
                Location(path="/api/", targets=(two,), strip=True),
                Location(path="/llm/", targets=(two,)),
                Location(path="/mcp/", targets=(one, two)),
                Location(path="/slow/", targets=(one,), rate=1),
                Location(path="/static/", files=str(files)),
            ),
        )
        settings = SETTINGS.model_copy(update={"address": "127.0.0.1", "http_port": port.number})
        (tmp_path / "edge.conf").write_text(config.text(settings, [site]))
        stack.enter_context(
            NginxProcess(proxy_program("nginx"), tmp_path / "edge.conf", [port.number], tmp_path)
        )
        assert get(port.number, "quay.test").body == "blue"
        assert get(port.number, "www.quay.test").headers["x-content-type-options"] == "nosniff"
        assert get(port.number, "quay.test", "/api/headers?x=1").body.startswith("GET /headers?x=1 HTTP/1.1")
        assert get(port.number, "quay.test", "/llm/x").body == "green"
        assert {get(port.number, "quay.test", "/mcp/").body for _ in range(40)} == {"blue", "green"}
        assert 429 in {get(port.number, "quay.test", "/slow/").status for _ in range(8)}
        assert get(port.number, "quay.test", "/static/a.txt").body == "a file"
        assert get(port.number, "quay.test", "/static/../edge.conf").status in (400, 404, 200)
        assert "include" not in get(port.number, "quay.test", "/static/../edge.conf").body
        port.release()


WORDS = st.text() | st.text(alphabet="a/.-;{}$\"'\\ \n#*", max_size=12)


@given(host=WORDS, path=WORDS, files=WORDS, name=WORDS)
def test_whatever_is_taken_adds_no_word_of_nginxs_language(
    host: str, path: str, files: str, name: str
) -> None:
    plain = shape(config.text(SETTINGS, [Site(hosts=("a.b",), locations=(Location(targets=(APP,)),))]))
    makers: list[Callable[[], Site]] = [
        lambda: Site(hosts=(host,), locations=(Location(targets=(APP,)),)),
        lambda: Site(hosts=("a.b",), locations=(Location(targets=(Target(host=name, port=1),)),)),
        lambda: Site(hosts=("a.b",), locations=(Location(path=path, targets=(APP,)),)),
    ]
    for maker in makers:
        try:
            site = maker()
        except (ValidationError, ValueError):
            continue
        assert shape(config.text(SETTINGS, [site])) == plain
    try:
        Location(files=files)
    except ValidationError:
        return
    assert not set(files) & set(";{}$\"'\\ \n#*")


def shape(text: str) -> tuple[int, ...]:
    return tuple(text.count(mark) for mark in ("{", "}", ";", "$", '"', "\n", "#", "\\"))
