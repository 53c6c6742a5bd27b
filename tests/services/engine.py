"""A real Docker engine for tests, and nothing of a test left on it.

Fixtures (this module is a pytest plugin): `engine`, `image`, `owner`, `orchestrator`. The harness
asks the engine by itself, without the product's adapter, so that a test compares two views.
"""

import base64
import contextlib
import http.client
import json
import os
import socket
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from mcp_server.adapters.docker.orchestrator import DockerOrchestrator
from mcp_server.domain.workloads import Owner

from .images import ImageMissing, ensure
from .missing import do_without

SOCKET = "/var/run/docker.sock"
INSTALLATION = "quaymaster.installation"
TEST = "test-"
START = Path(__file__).resolve().parents[2] / "scripts" / "start-engine"
DOCKER_FIXTURES = {"engine", "image", "owner", "orchestrator"}


class EngineMissing(Exception):
    """There is no Docker engine; the text says what was tried."""


class EngineError(Exception):
    """The engine refused a request of the harness."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class DockerEngine:
    """The engine's API, plainly. Every call is bounded."""

    def __init__(self, path: str) -> None:
        self._path = path

    @property
    def address(self) -> str:
        return f"unix://{self._path}"

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        seconds: float = 60,
        headers: Mapping[str, str] = {},
    ) -> Any:
        """The JSON of the answer (text when it is none, None when empty). EngineError for a refusal."""
        raw = isinstance(body, bytes)
        data = body if raw or body is None else json.dumps(body).encode()
        connection = _UnixConnection(self._path, seconds)
        try:
            kind = "application/x-tar" if raw else "application/json"
            connection.request(method, path, body=data, headers={"Content-Type": kind, **headers})
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            connection.close()
        if answer.status >= 400:
            raise EngineError(answer.status, text)
        try:
            return json.loads(text) if text.strip() else None
        except ValueError:
            return text

    def find(self, path: str) -> Any:
        """What GET answers, None when there is no such thing."""
        try:
            return self.ask("GET", path)
        except EngineError as error:
            if error.status == 404:
                return None
            raise

    def push(self, name: str) -> None:
        """To the registry that the name names; the engine wants to be told who pushes, be it nobody."""
        repository, _, tag = name.rpartition(":")
        nobody = {"X-Registry-Auth": base64.b64encode(b"{}").decode()}
        told = self.ask("POST", f"/images/{repository}/push?tag={tag}", seconds=120, headers=nobody)
        if "errorDetail" in str(told):
            raise EngineError(500, str(told)[-500:])

    def load_image(self, archive: bytes) -> None:
        self.ask("POST", "/images/load", archive)

    def containers(self, installation: str) -> list[dict[str, Any]]:
        return list(self.ask("GET", f"/containers/json?all=1&filters={_labelled(installation)}"))

    def networks(self, installation: str) -> list[dict[str, Any]]:
        return list(self.ask("GET", f"/networks?filters={_labelled(installation)}"))

    def volumes(self, installation: str) -> list[dict[str, Any]]:
        return list(self.ask("GET", f"/volumes?filters={_labelled(installation)}")["Volumes"] or ())

    def images(self, installation: str) -> list[dict[str, Any]]:
        return list(self.ask("GET", f"/images/json?filters={_labelled(installation)}"))

    def things(self, installation: str) -> list[str]:
        """Everything that carries the label of this installation, images left out, as `kind name`."""
        return sorted(
            [f"container {one['Names'][0].lstrip('/')}" for one in self.containers(installation)]
            + [f"network {one['Name']}" for one in self.networks(installation)]
            + [f"volume {one['Name']}" for one in self.volumes(installation)]
        )

    def clear(self, installation: str) -> None:
        """Remove everything of this installation, as far as it lets itself be removed."""
        with contextlib.suppress(EngineError):
            for one in self.containers(installation):
                self._drop(f"/containers/{one['Id']}?force=1&v=1")
            for one in self.networks(installation):
                self._drop(f"/networks/{one['Id']}")
            for one in self.volumes(installation):
                self._drop(f"/volumes/{one['Name']}?force=1")
            for one in self.images(installation):
                self._drop(f"/images/{one['Id']}?force=1")

    def clear_left_overs(self) -> None:
        """Remove what test runs left that were killed before they could do it."""
        found = self.ask("GET", f"/containers/json?all=1&filters={_labelled()}")
        found += self.ask("GET", f"/networks?filters={_labelled()}")
        found += self.ask("GET", f"/volumes?filters={_labelled()}")["Volumes"] or []
        found += self.ask("GET", f"/images/json?filters={_labelled()}")
        for installation in {thing["Labels"][INSTALLATION] for thing in found}:
            pid = installation.removeprefix(TEST).partition("-")[0]
            if installation.startswith(TEST) and pid.isdigit() and not psutil.pid_exists(int(pid)):
                self.clear(installation)

    def _drop(self, path: str) -> None:
        with contextlib.suppress(EngineError):
            self.ask("DELETE", path)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("docker", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def find_engine() -> DockerEngine:
    """The engine of DOCKER_HOST or the usual socket; CI starts one where there is none. EngineMissing."""
    address = os.environ.get("DOCKER_HOST") or f"unix://{SOCKET}"
    if not address.startswith("unix://"):
        raise EngineMissing(f"the tests need an engine behind a unix socket, not {address}")
    engine = DockerEngine(address.removeprefix("unix://"))
    if _answers(engine):
        return engine
    if os.environ.get("CI"):
        done = subprocess.run([START], capture_output=True, text=True, timeout=300, check=False)
        if done.returncode == 0 and _answers(engine):
            return engine
        raise EngineMissing(f"scripts/start-engine did not bring one up: {done.stderr[-500:]}")
    raise EngineMissing(f"no Docker engine answers at {address} (scripts/start-engine starts one, as root)")


def _answers(engine: DockerEngine) -> bool:
    try:
        engine.ask("GET", "/_ping", seconds=5)
    except (OSError, EngineError, http.client.HTTPException):
        return False
    return True


def _labelled(installation: str | None = None) -> str:
    label = f"{INSTALLATION}={installation}" if installation else INSTALLATION
    return quote(json.dumps({"label": [label]}))


# -- fixtures ------------------------------------------------------------------------------------------


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if DOCKER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("docker")


@pytest.fixture(scope="session")
def engine() -> DockerEngine:
    """The engine that all tests share: never to be stopped, and only what a test made is to be touched."""
    try:
        found = find_engine()
    except EngineMissing as missing:
        do_without(str(missing))
    found.clear_left_overs()
    return found


@pytest.fixture(scope="session")
def image(engine: DockerEngine) -> Callable[[str], str]:
    """`image("postgres")`: the full name of that stand-in image, which is on the engine."""

    def named(name: str) -> str:
        try:
            return ensure(engine, name)
        except ImageMissing as missing:
            do_without(str(missing))

    return named


@pytest.fixture
def owner(engine: DockerEngine) -> Iterator[Owner]:
    """An installation of this test's own; whatever carries its label is removed at the end."""
    installation = f"{TEST}{os.getpid()}-{uuid.uuid4().hex}"
    yield Owner(installation=installation, home="home-a", project="p1")
    engine.clear(installation)


@pytest.fixture
async def orchestrator(engine: DockerEngine) -> AsyncIterator[DockerOrchestrator]:
    adapter = DockerOrchestrator(engine.address)
    yield adapter
    await adapter.close()
