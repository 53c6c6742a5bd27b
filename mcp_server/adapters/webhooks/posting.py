"""One POST to an address of the internet over HTTPS.

What an address leads to is looked up once, judged, and connected to as judged: a name that leads elsewhere at
the second look gains nothing. Redirects are not followed, proxies of the environment not used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import socket
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from mcp_server.domain.errors import Invalid, RateLimited, Unavailable

if TYPE_CHECKING:
    import yarl
    from aiohttp.abc import AbstractResolver

TIMEOUT = 10.0
LONGEST_WAIT = 60
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
_INSIDE = tuple(
    ipaddress.ip_network(each)
    for each in ("::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "fec0::/10", "192.0.0.0/24", "192.88.99.0/24")
)
"""Site-local, or ways to write or relay an IPv4 address; `is_global` lets them pass."""

_BLOCKED = "leads to an address that is not of the public internet"


class HttpsWebhook:
    """`ports.notifier.Webhook`. `allowed`: networks that may be posted to although they are internal."""

    def __init__(
        self,
        allowed: Sequence[str] = (),
        *,
        trust: ssl.SSLContext | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self._allowed = tuple(ipaddress.ip_network(each) for each in allowed)
        self._trust = trust
        self._timeout = timeout

    async def post(self, address: SecretStr, body: dict[str, Any]) -> None:
        import aiohttp

        url = self._judged(address.get_secret_value())
        connector = aiohttp.TCPConnector(
            resolver=_judging(self._allowed), use_dns_cache=False, force_close=True, ssl=self._trust or True
        )
        limit = aiohttp.ClientTimeout(total=self._timeout)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=limit, trust_env=False) as session,
                session.post(url, json=body, allow_redirects=False) as response,
            ):
                _judge(response.status, response.headers.get("Retry-After"))
        except aiohttp.InvalidURL:
            raise Invalid("the webhook's address is no address") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # Without its cause, which names the address.
            raise Unavailable(f"the webhook cannot be reached ({type(error).__name__})") from None
        except ValueError:
            raise Invalid("the webhook's address is no address") from None

    def _judged(self, text: str) -> yarl.URL:
        """The address as it will be connected to: other scripts' digits and dots are figures in it.

        An address in figures is not looked up, so it is judged here.
        """
        import yarl

        try:
            url = yarl.URL(text)
            host, _ = url.raw_host, url.port
        except ValueError:
            host = None
        if host is None or url.scheme != "https" or url.raw_user or url.raw_password:
            raise Invalid("a webhook's address begins with https:// and holds no user")
        literal = _address(host)
        if literal is not None and not reachable(literal, self._allowed):
            raise Invalid(f"the webhook {_BLOCKED}")
        return url


def reachable(address: Address, allowed: Sequence[Network] = ()) -> bool:
    """Whether anything may be posted there: public unicast, whatever way it is written, or allowed by name."""
    address = _plain(address)
    if any(address in network for network in allowed):
        return True
    if address.is_multicast or not address.is_global or any(address in network for network in _INSIDE):
        return False
    return not (isinstance(address, ipaddress.IPv6Address) and (address.sixtofour or address.teredo))


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _TRANSLATED:
            return ipaddress.IPv4Address(address.packed[-4:])
    return address


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _judging(allowed: Sequence[Network]) -> AbstractResolver:
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Judging(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            """Every address must pass: a name that mixes public and internal ones is not a mistake."""
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
            places = [(kind, str(place[0])) for kind, _, _, _, place in found]
            judged = [_address(text) for _, text in places]
            if not judged or not all(each is not None and reachable(each, allowed) for each in judged):
                raise Invalid(f"the webhook {_BLOCKED}")
            return [
                ResolveResult(
                    hostname=host, host=text, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST
                )
                for kind, text in places
            ]

        async def close(self) -> None: ...

    return Judging()


def _judge(status: int, retry_after: str | None) -> None:
    if 200 <= status < 300:
        return
    if status == 429:
        raise RateLimited("the webhook was posted to too often", retry_after=_seconds(retry_after))
    if status >= 500 or status == 408:
        raise Unavailable(f"the webhook answers {status}")
    raise Invalid(f"the webhook answers {status}")


def _seconds(text: str | None) -> int:
    """Some services write fractions of a second."""
    try:
        return min(max(math.ceil(float(text or "")), 1), LONGEST_WAIT)
    except (ValueError, OverflowError):
        return 5
