"""A database whose image only a registry has: pulled while the caller is told, or nothing is left."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from mcp.types import CallToolResult

from tests.databases.test_faults import Berth, berth, nothing
from tests.databases.test_progress import Listener, listening
from tests.services.proxy import TcpProxy
from tests.services.registry import ImageRegistry

__all__ = ["berth"]

NowhereElse = Callable[..., str]


async def refused(listener: Listener, **arguments: object) -> dict[str, object]:
    result = await listener.client.call_tool("create_database", arguments)
    assert isinstance(result, CallToolResult)
    assert result.is_error
    return dict(result.structured_content or {})


async def nothing_is_left(listener: Listener, berth: Berth) -> None:
    assert berth.things() == []
    shown, _ = await listener.asks("list_databases")
    assert shown["items"] == []
    assert not list((berth.home / "databases").rglob("*.db*"))


@pytest.mark.parametrize("transport", [pytest.param("http", marks=pytest.mark.soak), "stdio"])
async def test_a_missing_image_is_pulled_and_the_caller_hears_layers_and_bytes(
    berth: Berth,
    registry: ImageRegistry,
    image: Callable[[str], str],
    nowhere_else: NowhereElse,
    transport: str,
) -> None:
    repository = nowhere_else(image("postgres"), megabytes=4)
    with TcpProxy(registry.port) as slow_line:
        slow_line.delay(0.03)
        name = berth.settings["QUAYMASTER_POSTGRES_IMAGE"] = registry.name(repository, slow_line.port)
        async with listening(berth, transport) as listener:
            await listener.asks("create_project", name=berth.shop)
            made, heard = await listener.asks("create_database", project=berth.shop, engine="postgres")
    assert made["state"] == "running"
    pulled = [line for line in heard if line.startswith(f"pulling {name}: ")]
    assert heard == [*pulled, "starting PostgreSQL", "waiting until it answers", "ready"]
    assert all(re.search(r": \d+ of \d+ layers(, \d of 4 MB)?$", line) for line in pulled)
    assert any(re.search(r"[123] of 4 MB$", line) for line in pulled)


async def test_an_image_that_cannot_be_pulled_is_an_error_or_a_fallback_and_leaves_nothing(
    berth: Berth, registry: ImageRegistry
) -> None:
    berth.settings["QUAYMASTER_POSTGRES_IMAGE"] = unknown = registry.name("nobody/nothing:1")
    async with listening(berth, "stdio") as listener:
        await listener.asks("create_project", name=berth.shop)
        error = await refused(listener, project=berth.shop, engine="postgres")
        assert error["code"] == "NOT_FOUND"
        assert unknown in str(error["message"])
        await nothing_is_left(listener, berth)
        made, heard = await listener.asks("create_database", project=berth.shop)
        assert (made["engine"], unknown in made["fallback"]) == ("sqlite", True)
        assert "falling back to SQLite" in heard
        assert berth.things() == []


async def test_a_server_that_stops_amid_a_pull_leaves_nothing_for_the_next_one(
    berth: Berth, registry: ImageRegistry, image: Callable[[str], str], nowhere_else: NowhereElse
) -> None:
    repository = nowhere_else(image("postgres"), megabytes=4)
    with TcpProxy(registry.port) as slow_line:
        slow_line.delay(0.03)
        berth.settings["QUAYMASTER_POSTGRES_IMAGE"] = registry.name(repository, slow_line.port)
        async with listening(berth, "stdio") as listener:
            await listener.asks("create_project", name=berth.shop)
            made, _ = await listener.asks(
                "create_database", project=berth.shop, engine="postgres", wait_seconds=1
            )
            assert (made["state"], bool(made["next"])) == ("creating", True)
        with berth.server() as server:
            berth.settled(server, lambda: nothing(berth, server), "nothing to be left")
