"""Notifications: told at once, sent later, each channel by itself, bounded in every way."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from mcp_server.adapters.webhooks.posting import HttpsWebhook
from mcp_server.domain.errors import Unavailable
from mcp_server.domain.happenings import Happening, message, sentence
from mcp_server.domain.teams import Notifications as Addresses
from mcp_server.ports.store import Transaction
from mcp_server.services.notifications import MOST_WAITING, Notifications
from tests.notifications.hooks import Hooks, hooks
from tests.usecases.conftest import make_world as make_world
from tests.usecases.world import SETUP, World

EVENT = Happening(what="promoted", project="shop", environment="production", version="1.2", by="ann")


@pytest.fixture
async def world(make_world: Callable[..., Awaitable[World]]) -> World:
    return await make_world()


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Hooks]:
    async with hooks(tmp_path) as running:
        yield running


async def set_addresses(world: World, team: str, **addresses: str | None) -> None:
    async def write(tx: Transaction) -> None:
        held = await tx.teams.hold(team)
        assert held is not None
        await tx.teams.save(held.change(settings=held.settings.change(notifications=Addresses(**addresses))))

    await world.store.run(write, SETUP)


def sender(world: World, service: Hooks, **options: Any) -> Notifications:
    webhook = HttpsWebhook(("127.0.0.0/8", "::1/128"), trust=service.trust, timeout=1.0)
    return Notifications(world.store, webhook, **{"pause": 0.01, **options})


async def test_a_team_is_told_on_each_of_its_channels_and_no_other_team_is(world: World, service: Hooks):
    await set_addresses(world, "red", slack=f"{service.address}/slack", discord=f"{service.address}/discord")
    await set_addresses(world, "blue", slack=f"{service.address}/blue")
    notifications = sender(world, service)
    async with notifications.open():
        await notifications.tell("red", EVENT)
        await notifications.idle()
    text = "✅ shop (production): 1.2 promoted by ann"
    assert sorted(service.got, key=lambda one: one[0]) == [
        ("/discord", {"content": text, "allowed_mentions": {"parse": []}}),
        ("/slack", {"text": text, "unfurl_links": False}),
    ]


async def test_what_fails_for_a_while_is_tried_again_and_what_is_refused_is_not(world: World, service: Hooks):
    await set_addresses(world, "red", slack=f"{service.address}/slack")
    notifications = sender(world, service)
    async with notifications.open():
        service.answers = [500, 429, 503]
        await notifications.tell("red", EVENT)
        await notifications.idle()
        assert len(service.got) == 4
        service.answers = [404, 404]
        await notifications.tell("red", EVENT)
        await notifications.idle()
        assert len(service.got) == 5


async def test_tries_end_and_the_log_names_no_address(
    world: World, service: Hooks, caplog: pytest.LogCaptureFixture
):
    await set_addresses(world, "red", slack=f"{service.address}/secret-path")
    notifications = sender(world, service)
    service.answers = [500] * 50
    with caplog.at_level(logging.DEBUG, logger="mcp_server"):
        async with notifications.open():
            await notifications.tell("red", EVENT)
            await notifications.idle()
    assert len(service.got) == 4
    assert "given up" in caplog.text
    assert "secret-path" not in caplog.text


class Stuck:
    """A webhook that answers nobody before it is told to."""

    def __init__(self) -> None:
        self.go = anyio.Event()
        self.bodies: list[dict[str, Any]] = []

    async def post(self, address: object, body: dict[str, Any]) -> None:
        await self.go.wait()
        self.bodies.append(body)


async def test_telling_never_waits_and_a_full_line_drops_its_oldest(world: World):
    await set_addresses(world, "red", slack="https://x.example/")
    stuck = Stuck()
    notifications = Notifications(world.store, stuck)
    async with notifications.open():
        with anyio.fail_after(5):
            for number in range(1000):
                await notifications.tell("red", EVENT.change(version=f"v{number}"))
        stuck.go.set()
        await notifications.idle()
    versions = [body["text"].split(": ")[1].split()[0] for body in stuck.bodies]
    assert len(versions) <= MOST_WAITING + 1
    assert versions[-1] == "v999"


async def test_a_dead_channel_delays_no_other(world: World, service: Hooks):
    await set_addresses(world, "red", slack=f"{service.address}/dead", discord="https://[::1]:1/dead")
    await set_addresses(world, "blue", slack=f"{service.address}/alive")
    notifications = sender(world, service, pause=60.0)
    async with notifications.open():
        service.answers = [500]
        await notifications.tell("red", EVENT)
        while not service.got:
            await anyio.sleep(0.01)
        await notifications.tell("blue", EVENT)
        with anyio.fail_after(5):
            while ("/alive", message("slack", EVENT)) not in service.got:
                await anyio.sleep(0.01)
        notifications_left = anyio.current_time()
    assert anyio.current_time() - notifications_left < 6


async def test_before_the_start_after_the_end_and_without_a_store_nothing_is_raised(
    world: World, service: Hooks, monkeypatch: pytest.MonkeyPatch
):
    notifications = sender(world, service)
    await notifications.tell("red", EVENT)

    async def away(_: object) -> None:
        raise Unavailable("away")

    async with notifications.open():
        monkeypatch.setattr(type(world.store), "read", lambda self, fn: away(fn))
        await notifications.tell("red", EVENT)
        await notifications.idle()
    await notifications.tell("red", EVENT)


def test_a_sentence_hides_secrets_and_calls_nobody_by_name():
    event = EVENT.change(
        what="failed",
        action="promote",
        detail="<!channel> password=hunter2\nat postgresql://u:hunter2@h/db",
        by="@everyone",
    )
    text = sentence(event)
    assert "promote failed" in text
    assert "hunter2" not in text
    assert "\n" not in text
    assert "<" not in message("slack", event)["text"]
    assert message("discord", event)["allowed_mentions"] == {"parse": []}
