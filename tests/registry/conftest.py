"""A home of its own for each test."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mcp_server.adapters.registry.mirror import RegistryMirror
from tests.registry.samples import Clock, add, project, task, team

Opener = Callable[..., Awaitable[RegistryMirror]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def open_mirror(root: Path, clock: Clock) -> AsyncIterator[Opener]:
    """Opens the home again, as another process would."""
    opened: list[RegistryMirror] = []

    async def opener(**options: Any) -> RegistryMirror:
        mirror = await RegistryMirror.open(root, **{"clock": clock, **options})
        opened.append(mirror)
        return mirror

    yield opener
    for mirror in opened:
        mirror.close()


@pytest.fixture
async def mirror(open_mirror: Opener) -> RegistryMirror:
    """A home with a team and a project."""
    mirror = await open_mirror()
    await add(mirror, team(), project())
    return mirror


@pytest.fixture
async def other(mirror: RegistryMirror, open_mirror: Opener) -> RegistryMirror:
    """A second opening of the same home."""
    return await open_mirror()


@pytest.fixture
async def with_task(mirror: RegistryMirror) -> RegistryMirror:
    await add(mirror, task())
    return mirror
