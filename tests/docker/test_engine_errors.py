"""Detection and the meaning of errors, with engines that are absent, refuse, or never answer."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mcp_server.adapters.docker.detection import Detection
from mcp_server.adapters.docker.engine import Engine, meaning
from mcp_server.adapters.docker.orchestrator import DockerOrchestrator
from mcp_server.domain.errors import Conflict, Invalid, NotFound, QuaymasterError, Unavailable
from mcp_server.domain.workloads import Owner, Ref

OWNER = Owner(installation="i", home="h")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "docker.sock"


@pytest.fixture
def silent(place: Path) -> Iterator[str]:
    """An engine that takes connections and never says a word."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen(64)
        yield f"unix://{place}"


@pytest.fixture
def deaf(place: Path) -> str:
    """A socket file that nobody listens on any more."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
    return f"unix://{place}"


class Answering:
    """An engine of which only the version is known; it counts how often it was asked."""

    def __init__(self, place: Path) -> None:
        self.address = f"unix://{place}"
        self.asked = 0
        self.system = "linux"
        self.free = asyncio.Event()
        self.free.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        await self.free.wait()
        self.asked += "/v1.41/version" in head
        body = f'{{"Version": "20.1", "ApiVersion": "1.41", "Os": "{self.system}", "MemTotal": 7, "NCPU": 2}}'
        answer = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"{answer}Connection: close\r\n\r\n{body}".encode())
        writer.close()


@pytest.fixture
async def answering(place: Path) -> AsyncIterator[Answering]:
    fake = Answering(place)
    server = await asyncio.start_unix_server(fake.serve, str(place))
    yield fake
    server.close()


@contextmanager
def powerless() -> Iterator[None]:
    """As a user to whom no socket of the administrator is open."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("installed", "said", "remedy"),
    [
        (False, "Docker is not installed.", "Install"),
        (True, "Docker is installed, but not started.", "Start it"),
    ],
)
async def test_an_absent_socket_is_named(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool, said: str, remedy: str
) -> None:
    monkeypatch.setattr("mcp_server.adapters.docker.engine.PROGRAMS", str(tmp_path))
    if installed:
        (tmp_path / "dockerd").touch(mode=0o755)
    adapter = DockerOrchestrator(f"unix://{place}")
    status = await adapter.detect()
    assert not status.available
    assert status.reason == f"There is no Docker socket at {place}: {said}"
    assert str(status.remedy).startswith(remedy)
    with pytest.raises(Unavailable, match="no Docker socket"):
        await adapter.inspect("x")
    await adapter.close()


async def test_a_socket_without_an_engine_says_that_it_is_not_running(deaf: str) -> None:
    adapter = DockerOrchestrator(deaf)
    status = await adapter.detect()
    assert "not running" in str(status.reason)
    assert str(status.remedy).startswith("Start it")
    await adapter.close()


async def test_a_user_without_the_group_is_told_to_join_it_and_not_to_install_anything(
    silent: str, place: Path
) -> None:
    place.chmod(0)
    adapter = DockerOrchestrator(silent)
    adapter._engine.load()
    with powerless():
        status = await adapter.detect()
    assert "not in the group docker" in str(status.reason)
    assert "usermod -aG docker" in str(status.remedy)
    assert "nstall" not in f"{status.reason} {status.remedy}"
    await adapter.close()


async def test_a_silent_engine_is_given_up_in_time_and_not_asked_again_at_once(silent: str) -> None:
    adapter = DockerOrchestrator(silent)
    began = time.monotonic()
    status = await adapter.detect()
    first = time.monotonic() - began
    assert not status.available
    assert "did not answer within 2 seconds" in str(status.reason)
    assert first < 2.5
    again = await asyncio.gather(*(adapter.detect() for _ in range(20)))
    assert set(map(id, again)) == {id(status)}
    assert time.monotonic() - began < first + 0.3
    await adapter.close()


async def test_that_an_engine_was_silent_is_forgotten_soon_because_it_may_have_been_busy(
    answering: Answering,
) -> None:
    now = 0.0
    engine = Engine(answering.address)
    detection = Detection(engine, clock=lambda: now)
    answering.free.clear()
    status = await detection.status(refresh=False)
    assert (status.available, status.silent, "busy" in str(status.reason)) == (False, True, True)
    answering.free.set()
    now = 4.9
    assert await detection.status(refresh=False) is status
    now = 5.0
    assert (await detection.status(refresh=False)).available
    await engine.close()


async def test_an_address_that_means_nothing_is_a_reason_and_no_crash() -> None:
    adapter = DockerOrchestrator("gopher://x")
    assert not (await adapter.detect()).available
    await adapter.close()


async def test_an_answer_is_kept_for_a_minute_and_refreshed_on_request(answering: Answering) -> None:
    now = 0.0
    engine = Engine(answering.address)
    detection = Detection(engine, clock=lambda: now)
    status = await detection.status(refresh=False)
    assert (status.available, status.version, status.memory, status.cpus) == (True, "20.1", 7, 2)
    now = 59.9
    await detection.status(refresh=False)
    assert answering.asked == 1
    now = 60.0
    await detection.status(refresh=False)
    assert answering.asked == 2
    await detection.status(refresh=True)
    assert answering.asked == 3
    await engine.close()


async def test_callers_at_one_time_share_one_question(answering: Answering) -> None:
    adapter = DockerOrchestrator(answering.address)
    found = await asyncio.gather(*(adapter.detect() for _ in range(50)))
    assert all(status.available for status in found)
    assert answering.asked == 1
    await adapter.close()


async def test_an_engine_for_other_systems_is_none_for_us(answering: Answering) -> None:
    answering.system = "windows"
    adapter = DockerOrchestrator(answering.address)
    assert "windows" in str((await adapter.detect()).reason)
    await adapter.close()


async def test_an_engine_that_a_call_found_lost_is_asked_for_again(answering: Answering, place: Path) -> None:
    adapter = DockerOrchestrator(answering.address)
    assert (await adapter.detect()).available
    place.unlink()
    with pytest.raises(Unavailable):
        await adapter.inspect("x")
    assert not (await adapter.detect()).available
    await adapter.close()


async def test_docker_contexts_do_not_choose_the_engine(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONTEXT", "elsewhere")
    adapter = DockerOrchestrator(f"unix://{place}")
    assert str(place) in str((await adapter.detect()).reason)
    await adapter.close()


async def test_a_name_that_is_a_path_reaches_no_engine(answering: Answering) -> None:
    adapter = DockerOrchestrator(answering.address)
    for name in ("../images/json", "a/b", "", "x?y=1"):
        with pytest.raises(Invalid):
            await adapter.inspect(name)
    for image in ("../containers/json", "a/../../x", "a b", "UPPER/x", "x:", "x@sha256:12", "-x", "a" * 501):
        with pytest.raises(Invalid):
            await adapter.ensure_image(image)
    assert answering.asked == 0
    await adapter.close()


BUSY = "driver failed programming: Bind for 127.0.0.1:5432 failed: port is already allocated"
LISTENING = "Error starting userland proxy: listen tcp4 127.0.0.1:5433: bind: address already in use"


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (404, "No such image: x", NotFound),
        (409, "name is already in use", Conflict),
        (500, BUSY, Conflict),
        (500, LISTENING, Conflict),
        (403, "network x has active endpoints", Conflict),
        (403, "Pool overlaps with other one on this address space", Conflict),
        (400, "executable file not found", Invalid),
        (403, "something else", Invalid),
        (500, "server error", Unavailable),
        (400, "write /x: no space left on device", Unavailable),
        (0, "in the middle", Unavailable),
    ],
)
def test_the_engines_refusals_become_what_the_caller_can_act_on(
    status: int, message: str, kind: type[QuaymasterError]
) -> None:
    assert type(meaning(status, message)) is kind


def test_a_taken_port_is_named_as_a_number() -> None:
    assert meaning(500, BUSY).details == {"port": 5432}
    assert meaning(500, LISTENING).details == {"port": 5433}


def test_a_password_in_the_engines_words_is_hidden() -> None:
    error = meaning(500, "cannot reach postgres://shop:canary-2@db/x")
    assert "canary-2" not in error.message


async def test_a_silent_engine_makes_a_call_fail_and_not_hang(
    silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(silent)
    with pytest.raises(Unavailable, match="in time"):
        await engine.send("GET", "version", seconds=0.2)
    await engine.close()


def test_a_ref_needs_an_owner_whole() -> None:
    labels = OWNER.labels()
    assert OWNER.owns(labels)
    assert OWNER.owns({**labels, "other": "x"})
    for name in labels:
        assert not OWNER.owns({**labels, name: "another"})
        assert not OWNER.owns({key: value for key, value in labels.items() if key != name})
    assert Ref(name="x", owner=OWNER).owner.project == "-"
