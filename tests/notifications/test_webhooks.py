"""Where a webhook may lead, and how one POST ends."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from mcp_server.adapters.webhooks.posting import HttpsWebhook, reachable
from mcp_server.domain.errors import Invalid, QuaymasterError, RateLimited, Unavailable
from tests.notifications.hooks import Hooks, hooks

LOOPBACK = ("127.0.0.0/8", "::1/128")


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Hooks]:
    async with hooks(tmp_path) as running:
        yield running


async def post(
    service: Hooks, address: str, allowed: tuple[str, ...] = LOOPBACK, timeout: float = 5.0
) -> None:
    await HttpsWebhook(allowed, trust=service.trust, timeout=timeout).post(SecretStr(address), {"text": "hi"})


async def test_a_post_arrives_as_json(service: Hooks):
    await post(service, f"{service.address}/hook/secret")
    assert service.got == [("/hook/secret", {"text": "hi"})]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "255.255.255.255", "198.18.0.1", "::", "::1", "fe80::1", "fd00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1", "2001:0:1::1",
        "::127.0.0.1", "::ffff:0:7f00:1", "64:ff9b:1::7f00:1", "fec0::1", "192.0.0.8", "192.88.99.1",
    ],
)  # fmt: skip
def test_an_internal_address_is_not_reached_however_it_is_written(address: str):
    assert not reachable(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_a_public_address_is_reached(address: str):
    assert reachable(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::1]", "2130706433", "0x7f000001", "127.1", "[::ffff:127.0.0.1]"]
)
async def test_nothing_is_posted_to_an_internal_target_by_any_of_its_names(service: Hooks, host: str):
    port = service.address.rpartition(":")[2]
    with pytest.raises(QuaymasterError) as caught:
        await post(service, f"https://{host}:{port}/secret-path", allowed=())
    assert isinstance(caught.value, Invalid)
    assert service.got == []
    assert "secret-path" not in f"{caught.value.payload()}"


@pytest.mark.parametrize(
    "host", ["127。0。0。1", "①②⑦.0.0.1", "\uff11\uff12\uff17.0.0.1", "[::ffff:7f00:1%25lo]"]
)
async def test_an_internal_address_in_the_digits_of_another_script_is_not_even_connected_to(host: str):
    met: list[str] = []

    async def meet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        met.append(host)
        writer.close()

    async with await asyncio.start_server(meet, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        with pytest.raises(Invalid, match="public internet"):
            await HttpsWebhook().post(SecretStr(f"https://{host}:{port}/x"), {})
    assert met == []


async def test_a_name_that_leads_to_one_internal_address_among_public_ones_is_refused(
    service: Hooks, monkeypatch: pytest.MonkeyPatch
):
    async def mixed(*_: Any, **__: Any) -> list[Any]:
        places = [("1.1.1.1", 443), ("127.0.0.1", 443)]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", mixed)
    with pytest.raises(Invalid, match="public internet"):
        await post(service, "https://hooks.example.org/x", allowed=())


@pytest.mark.parametrize(
    "address", ["http://localhost:1/x", "https://u:p@localhost/x", "https://", "ftp://h", "x"]
)
async def test_only_https_without_a_user_is_posted_to(service: Hooks, address: str):
    with pytest.raises(Invalid):
        await post(service, address)


async def test_a_redirect_is_not_followed(service: Hooks):
    service.answers = [302]
    with pytest.raises(Invalid, match="302"):
        await post(service, f"{service.address}/a")
    assert [path for path, _ in service.got] == ["/a"]


@pytest.mark.parametrize(("status", "kind"), [(404, Invalid), (500, Unavailable), (429, RateLimited)])
async def test_an_answer_says_whether_another_try_may_help(
    service: Hooks, status: int, kind: type[QuaymasterError]
):
    service.answers = [status]
    with pytest.raises(kind) as caught:
        await post(service, f"{service.address}/secret-path")
    assert "secret-path" not in f"{caught.value.payload()}"


async def test_silence_and_a_strange_certificate_are_unavailable_and_name_no_address(
    service: Hooks, tmp_path: Path
):
    service.answers = ["hang"]
    with pytest.raises(Unavailable) as silent:
        await post(service, f"{service.address}/secret-path", timeout=0.3)
    with pytest.raises(Unavailable) as untrusted:
        await HttpsWebhook(LOOPBACK).post(SecretStr(f"{service.address}/secret-path"), {})
    for error in (silent.value, untrusted.value):
        assert "secret-path" not in f"{error.payload()} {error.__cause__}"
