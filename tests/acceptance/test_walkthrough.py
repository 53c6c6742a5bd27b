"""The first day that README shows: exactly its commands, on a real engine and a real proxy, and what appears is the same."""

from __future__ import annotations

import re
import secrets
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from mcp_server.adapters.registry.mirror import RegistryMirror
from mcp_server.domain.workloads import Owner
from tests.services.engine import DockerEngine
from tests.services.ports import ReservedBlock, ReservedPort
from tests.services.processes import CHECKOUT, quaymaster_environment

SHOWN = re.compile(r"<!-- walkthrough: .*?-->\n```\n(.*?)```", re.DOTALL)
SET_UP = "make setup"
PYTHON = ".venv/bin/python"


def block() -> list[tuple[str, list[str]]]:
    """Each command of README's block with the lines that appear under it."""
    [text] = SHOWN.findall((CHECKOUT / "README.md").read_text())
    steps: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], []))
        else:
            steps[-1][1].append(line)
    return steps


@pytest.fixture
def project() -> str:
    return f"t{secrets.token_hex(5)}"


@pytest.fixture
async def environ(
    project: str, home: Path, engine: DockerEngine, owner: Owner, image: Callable[[str], str]
) -> AsyncIterator[dict[str, str]]:
    """What a newcomer's shell does not have: a home and a project of this test's own, ports, and local images."""
    mirror = await RegistryMirror.open(home, home=owner.installation)
    mirror.close()
    with ExitStack() as stack:
        edge, slots, databases = ReservedPort(), ReservedBlock(10), ReservedBlock(10)
        for claim in (edge, slots, databases):
            stack.callback(claim.release)
        settings = {
            "DOCKER_HOST": engine.address,
            "QUAYMASTER_ENV": "development",
            "QUAYMASTER_EDGE_HTTP_PORT": str(edge.number),
            "QUAYMASTER_EDGE_IMAGE": image("caddy"),
            "QUAYMASTER_POSTGRES_IMAGE": image("postgres"),
            "QUAYMASTER_PORTS_PRODUCTION": f"{slots.ports[0]}-{slots.ports[-1]}",
            "QUAYMASTER_DATABASE_PORTS": f"{databases.ports[0]}-{databases.ports[-1]}",
            "QUAYMASTER_WARM_POOL": "0",
            "WALKTHROUGH_BASE": image("demo-plain"),
            "WALKTHROUGH_PROJECT": project,
        }
        yield quaymaster_environment(home, settings)


def appears(command: str, environ: dict[str, str]) -> list[str]:
    words = shlex.split(command)
    assert words[0] == PYTHON
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=CHECKOUT, env=environ, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def shape(lines: list[str], project: str = "shop") -> list[str]:
    """Without what differs from one machine to another: the project's name, its port, the number of probes."""
    return [
        re.sub(r"sent=\d+", "sent=N", re.sub(r"(\.localhost):\d+", r"\1", line.replace(project, "shop")))
        for line in lines
    ]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "restarted",
    [
        pytest.param(False, id="one server"),
        pytest.param(True, id="a server for each call", marks=pytest.mark.soak),
    ],
)
def test_what_the_readme_shows_is_what_appears(
    restarted: bool, environ: dict[str, str], project: str, engine: DockerEngine, owner: Owner
) -> None:
    (first, nothing), (walk, walked), (remove, removed) = block()
    assert (first, nothing) == (SET_UP, [])
    assert shape(appears(walk + " --restart" * restarted, environ), project) == shape(walked)
    assert shape(appears(remove + " --restart" * restarted, environ), project) == shape(removed)
    assert not [thing for thing in engine.things(owner.installation) if project in thing]
