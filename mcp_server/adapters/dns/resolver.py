"""Where a name leads, asked of the configured DNS servers or of the machine's own."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import anyio

from mcp_server.domain.errors import Unavailable

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

LIFETIME = 5.0
"""Seconds for all tries of one question."""


class DnsResolver:
    """`ports.dns.Resolver`. `servers`: `address` or `address:port`, IPv6 with a port in brackets; none: the machine's.

    The machine's hosts file is not looked at: it says nothing about what visitors see.
    """

    def __init__(self, servers: Sequence[str] = (), *, lifetime: float = LIFETIME) -> None:
        self._servers = tuple(servers)
        self._lifetime = lifetime

    async def addresses(self, host: str) -> frozenset[str]:
        asking = self._resolver()
        found: dict[str, frozenset[str]] = {}

        async def ask(kind: Literal["A", "AAAA"]) -> None:
            found[kind] = await _asked(asking, host, kind)

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(ask, "A")
                group.start_soon(ask, "AAAA")
        except ExceptionGroup as group_of_errors:  # `except*` would wrap what is raised here
            raise _first(group_of_errors) from None
        return found["A"] | found["AAAA"]

    def _resolver(self) -> Resolver:
        from dns.asyncresolver import Resolver
        from dns.nameserver import Do53Nameserver
        from dns.resolver import NoResolverConfiguration

        try:
            asking = Resolver(configure=not self._servers)
        except NoResolverConfiguration as error:
            raise Unavailable(
                "this machine names no DNS server", next="Set QUAYMASTER_DNS_SERVERS."
            ) from error
        if self._servers:
            asking.nameservers = [Do53Nameserver(*_place(server)) for server in self._servers]
        asking.lifetime = self._lifetime
        asking.timeout = self._lifetime / 2
        return asking


async def _asked(asking: Resolver, host: str, kind: Literal["A", "AAAA"]) -> frozenset[str]:
    from dns.exception import DNSException
    from dns.resolver import NXDOMAIN

    try:
        answer = await asking.resolve(host, kind, raise_on_no_answer=False, search=False)
    except NXDOMAIN:
        return frozenset()
    except (DNSException, OSError) as error:
        raise Unavailable(
            f"DNS gives no answer about {host} now ({type(error).__name__})", next="Try again in a minute."
        ) from error
    return frozenset(str(ipaddress.ip_address(record.address)) for record in answer.rrset or ())


def _place(server: str) -> tuple[str, int]:
    try:
        return str(ipaddress.ip_address(server)), 53
    except ValueError:
        address, _, port = server.rpartition(":")
        return address.strip("[]"), int(port)


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """The refusal, unless something else went wrong beside it."""
    answers, others = group.split(Unavailable)
    rest = others or answers or group
    error = rest.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error
