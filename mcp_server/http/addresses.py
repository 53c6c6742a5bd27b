"""Who a request comes from and which host it asks for: pure functions over header values."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

_WITH_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]]*):[0-9]{0,5}")
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
Headers = Iterable[tuple[bytes, bytes]]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def header(headers: Headers, name: bytes) -> str | None:
    """The header's value, several joined by commas as HTTP reads them; None when it does not come."""
    found = [value.decode("latin-1").strip() for each, value in headers if each.lower() == name]
    return ", ".join(found) if found else None


def is_loopback(host: str) -> bool:
    """Whether listening on this host reaches this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def answered_hosts(allowed: Iterable[str], public_url: str | None) -> frozenset[str]:
    """The `Host` headers that are answered, each `name`, `name:port` or `name:*`.

    Loopback on any port, what the settings allow, and the public address.
    """
    names = {*LOOPBACK, *(f"{name}:*" for name in LOOPBACK), *(each.lower() for each in allowed)}
    if public_url is not None:
        parts = urlsplit(public_url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        names |= {parts.netloc.lower(), f"{_bare(parts.netloc.lower())}:{port}"}
    return frozenset(names)


def host_is_answered(host: str | None, answered: frozenset[str]) -> bool:
    """Whether a `Host` header is among the answered ones; a request without one is not."""
    if not host:
        return False
    host = host.lower()
    return host in answered or f"{_bare(host)}:*" in answered


def origin_is_answered(origin: str | None, answered: frozenset[str]) -> bool:
    """Whether a browser's page may call: no `Origin` at all, or one whose host is answered."""
    if origin is None:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and host_is_answered(parts.netloc, answered)


def client_address(peer: str | None, forwarded_for: str | None, trusted: Sequence[Network]) -> str | None:
    """The address of the client: the nearest one on the way that is not a trusted proxy.

    A forwarding header counts only where a trusted proxy says it, and only back to the first stranger.
    """
    address = peer
    way = [part.strip() for part in (forwarded_for or "").split(",") if part.strip()]
    while address is not None and way and _within(address, trusted):
        said = _address(way.pop())
        if said is None:
            return address
        address = said
    return address


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


def _within(address: str, trusted: Sequence[Network]) -> bool:
    try:
        return any(ipaddress.ip_address(address) in network for network in trusted)
    except ValueError:
        return False


def _address(text: str) -> str | None:
    """An address out of a forwarding header, without port; None for what is not one."""
    bare = text.strip('"')
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return None


def _bare(host: str) -> str:
    """A `Host` without its port; what is more than a name and a port stays as it is."""
    found = _WITH_PORT.fullmatch(host)
    return found[1] if found else host
