"""Whose address counts, and which hosts are answered."""

from __future__ import annotations

import pytest

from mcp_server.http.addresses import (
    answered_hosts,
    client_address,
    host_is_answered,
    is_loopback,
    networks,
    origin_is_answered,
)

TRUSTED = networks(["10.0.0.0/8", "::1"])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", None, "192.0.2.1"),
        ("192.0.2.1", "203.0.113.9", "192.0.2.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("::1", "[2001:db8::1]:443", "2001:db8::1"),
        ("10.0.0.1", "203.0.113.9:55", "203.0.113.9"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9, unknown", "10.0.0.1"),
        (None, "203.0.113.9", None),
    ],
)
def test_the_client_is_the_nearest_address_that_is_no_trusted_proxy(peer, forwarded, client):
    assert client_address(peer, forwarded, TRUSTED) == client


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("127.0.0.1", True),
        ("LOCALHOST:8787", True),
        ("[::1]:8787", True),
        ("quay.example", True),
        ("quay.example:443", True),
        ("quay.example:80", False),
        ("any.example:9", True),
        ("one.example:81", True),
        ("one.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost:", True),
        ("localhost:8787, evil.example", False),
        ("localhost, evil.example:80", False),
        ("localhost:8787@evil.example", False),
        ("[::1]evil.example", False),
        ("any.example:9:evil.example", False),
        ("", False),
        (None, False),
    ],
)
def test_a_host_is_answered_when_it_was_allowed(host, answered):
    hosts = answered_hosts(["any.example:*", "one.example:81"], "https://quay.example/path")
    assert host_is_answered(host, hosts) == answered


def test_a_page_may_call_from_an_answered_host_over_http_only():
    hosts = answered_hosts([], "https://quay.example")
    assert origin_is_answered(None, hosts)
    assert origin_is_answered("https://quay.example", hosts)
    assert not origin_is_answered("null", hosts)
    assert not origin_is_answered("chrome-extension://quay.example", hosts)
    assert not origin_is_answered("http://localhost:x@evil.example", hosts)


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://localhost\uff0fevil.example"])
def test_an_origin_that_is_no_address_is_refused_and_no_failure(origin):
    assert not origin_is_answered(origin, answered_hosts([], None))


def test_loopback_is_told_from_other_addresses():
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "::", "192.0.2.1", "localhost.example", ""))
