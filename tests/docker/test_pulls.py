"""Images from a real registry: pulled with progress, and what is said when it fails."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator

import pytest

from mcp_server.adapters.docker import images
from mcp_server.adapters.docker.orchestrator import DockerOrchestrator
from mcp_server.domain.errors import NotFound, Unavailable
from tests.services.engine import DockerEngine
from tests.services.proxy import TcpProxy
from tests.services.registry import ImageRegistry

Name = Callable[[str], str]
NowhereElse = Callable[..., str]


@pytest.fixture
def slow_line(registry: ImageRegistry) -> Iterator[TcpProxy]:
    """A way to the registry on which each piece takes its time."""
    with TcpProxy(registry.port) as proxy:
        proxy.delay(0.03)
        yield proxy


class Told:
    def __init__(self) -> None:
        self.lines: list[str] = []

    async def __call__(self, line: str) -> None:
        self.lines.append(line)

    async def some_bytes(self) -> None:
        async with asyncio.timeout(30):
            while not any(re.search(r"[1-9]\d* of \d+ MB", line) for line in self.lines):
                await asyncio.sleep(0.02)


async def test_a_pull_tells_layers_and_bytes_and_the_image_has_its_digest(
    orchestrator: DockerOrchestrator, registry: ImageRegistry, slow_line: TcpProxy,
    image: Name, nowhere_else: NowhereElse, engine: DockerEngine,
) -> None:  # fmt: skip
    name = registry.name(nowhere_else(image("busybox"), megabytes=6), slow_line.port)
    told = Told()
    found = await orchestrator.ensure_image(name, told)
    shown = engine.ask("GET", f"/images/{name}/json")
    assert (found.id, [found.digest]) == (shown["Id"], shown["RepoDigests"])
    assert found.digest is not None
    assert found.digest.startswith(f"{name.removesuffix(':1')}@sha256:")
    pattern = rf"pulling {re.escape(name)}: \d of \d layers(, \d of 6 MB)?"
    assert [line for line in told.lines if not re.fullmatch(pattern, line)] == []
    assert len({line for line in told.lines if line.endswith(" of 6 MB")}) > 1
    told.lines.clear()
    assert await orchestrator.ensure_image(name, told) == found
    assert told.lines == []


async def test_a_digest_brings_the_same_content_back(
    orchestrator: DockerOrchestrator, registry: ImageRegistry,
    image: Name, nowhere_else: NowhereElse, engine: DockerEngine,
) -> None:  # fmt: skip
    name = registry.name(nowhere_else(image("busybox")))
    found = await orchestrator.ensure_image(name)
    engine.ask("DELETE", f"/images/{found.id}?force=1")
    assert found.digest is not None
    again = await orchestrator.ensure_image(found.digest)
    assert (again.id, again.digest) == (found.id, found.digest)


async def test_an_image_that_the_registry_does_not_have_is_not_found(
    orchestrator: DockerOrchestrator, registry: ImageRegistry, image: Name, nowhere_else: NowhereElse
) -> None:
    other = registry.name(nowhere_else(image("busybox")).removesuffix(":1") + ":2")
    for name in (other, registry.name("nobody/nothing:1")):
        with pytest.raises(NotFound, match="registry does not know it") as refused:
            await orchestrator.ensure_image(name)
        assert name in refused.value.message


async def test_a_registry_that_falls_silent_is_given_up_and_the_pull_can_be_begun_again(
    orchestrator: DockerOrchestrator, registry: ImageRegistry, slow_line: TcpProxy,
    image: Name, nowhere_else: NowhereElse, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(images, "SILENCE", 2.0)
    name = registry.name(nowhere_else(image("busybox"), megabytes=6), slow_line.port)
    told = Told()
    pulling = asyncio.create_task(orchestrator.ensure_image(name, told))
    await told.some_bytes()
    slow_line.silence()
    began = time.monotonic()
    with pytest.raises(Unavailable, match="could not be pulled") as refused:
        await pulling
    assert time.monotonic() - began < 20
    assert "2 s" in refused.value.message
    slow_line.forward()
    slow_line.delay(0)
    assert (await orchestrator.ensure_image(name)).digest


async def test_a_registry_that_breaks_off_is_told_and_the_pull_goes_on(
    orchestrator: DockerOrchestrator, registry: ImageRegistry, slow_line: TcpProxy,
    image: Name, nowhere_else: NowhereElse,
) -> None:  # fmt: skip
    name = registry.name(nowhere_else(image("busybox"), megabytes=6), slow_line.port)
    told = Told()
    pulling = asyncio.create_task(orchestrator.ensure_image(name, told))
    await told.some_bytes()
    slow_line.cut()
    assert (await pulling).digest
    assert any(line.endswith("the registry broke off, it is tried again") for line in told.lines)


@pytest.mark.soak  # the engine tries again for more than a minute
async def test_a_registry_that_stays_away_is_an_error_in_the_end(
    orchestrator: DockerOrchestrator, registry: ImageRegistry, slow_line: TcpProxy,
    image: Name, nowhere_else: NowhereElse,
) -> None:  # fmt: skip
    name = registry.name(nowhere_else(image("busybox"), megabytes=6), slow_line.port)
    told = Told()
    pulling = asyncio.create_task(orchestrator.ensure_image(name, told))
    await told.some_bytes()
    slow_line.refuse()
    with pytest.raises(Unavailable, match="could not be pulled") as refused:
        await pulling
    assert name in refused.value.message
    assert "connection refused" in refused.value.message
