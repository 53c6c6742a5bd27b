"""A real image registry on loopback, to which engines speak without TLS, and images that are nowhere else.

A pytest plugin: the fixtures `registry` (a registry of the test's own) and `nowhere_else`.
"""

import io
import json
import os
import secrets
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .engine import INSTALLATION, TEST, DockerEngine
from .missing import do_without
from .ports import ReservedPort, is_open
from .processes import CHECKOUT
from .waiting import wait_until

PROGRAM = CHECKOUT / ".cache" / "registry" / "docker-registry"
MB = 1024 * 1024


class RegistryMissing(Exception):
    """The program is not here; the text says how to get it."""


class ImageRegistry:
    """A process of its own with its files in `folder`; `port` stays the same over restarts."""

    def __init__(self, folder: Path) -> None:
        self._reserved = ReservedPort()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self._reserved.number

    def start(self) -> None:
        if not PROGRAM.exists():
            raise RegistryMissing("there is no docker-registry; run scripts/registry-program")
        config = self._folder / "registry.json"
        config.write_text(json.dumps(self._config()))
        with (self._folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [PROGRAM, "serve", config],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"PATH": os.environ.get("PATH", os.defpath), "OTEL_TRACES_EXPORTER": "none"},
                cwd=self._folder,
            )
        wait_until(lambda: is_open(self.port), seconds=20, what="the registry to listen")

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(15)
        self._reserved.release()

    def name(self, repository: str, port: int | None = None) -> str:
        """As an engine asks for it here, or through a proxy on `port`."""
        return f"127.0.0.1:{port or self.port}/{repository}"

    def _config(self) -> dict[str, Any]:
        return {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self._folder / "images")}},
            "http": {"addr": f"127.0.0.1:{self.port}"},
        }


class NowhereElse:
    """Images that only the registry has: `base` with a layer that nothing compresses on top."""

    def __init__(self, engine: DockerEngine, registry: ImageRegistry, installation: str) -> None:
        self._engine = engine
        self._registry = registry
        self._installation = installation

    def __call__(
        self, base: str, *, megabytes: int = 1, version: str = "", repository: str | None = None
    ) -> str:
        """Its repository and tag, and none of it is left on the engine. `repository`: one whose tag it takes over."""
        repository = repository or f"{self._installation[-12:]}/{secrets.token_hex(4)}:1"
        name = self._registry.name(repository)
        lines = [f"FROM {base}", "COPY ballast /ballast", f"LABEL {INSTALLATION}={self._installation}"]
        if version:
            lines.append(f"ENV VERSION={version}")
        self._engine.ask("POST", f"/build?t={name}&rm=1&forcerm=1", _context("\n".join(lines), megabytes))
        self._engine.push(name)
        self._engine.ask("DELETE", f"/images/{name}?force=1")
        assert self._engine.find(f"/images/{name}/json") is None
        return repository


def _context(dockerfile: str, megabytes: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in (("Dockerfile", dockerfile.encode()), ("ballast", os.urandom(megabytes * MB))):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[ImageRegistry]:
    folder = tmp_path / "registry"
    folder.mkdir()
    served = ImageRegistry(folder)
    try:
        served.start()
        yield served
    except RegistryMissing as missing:
        do_without(str(missing))
    finally:
        served.close()


@pytest.fixture
def nowhere_else(engine: DockerEngine, registry: ImageRegistry, pulled_label: str) -> Callable[..., str]:
    return NowhereElse(engine, registry, pulled_label)


@pytest.fixture
def pulled_label(engine: DockerEngine) -> Iterator[str]:
    """An installation that only images carry; whatever of it the engine has goes with the test."""
    installation = f"{TEST}{os.getpid()}-{secrets.token_hex(16)}"
    yield installation
    engine.clear(installation)
