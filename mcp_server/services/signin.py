"""Sign-in: from a key's text to a caller."""

from __future__ import annotations

import ipaddress
import math
import secrets
import time
from collections import OrderedDict
from datetime import datetime

from mcp_server.domain.audit import AuditRow
from mcp_server.domain.callers import Caller, Transport
from mcp_server.domain.errors import RateLimited, Unauthenticated
from mcp_server.domain.keys import ApiKey, digest, well_formed
from mcp_server.domain.redaction import redacted_text
from mcp_server.ports.cache import Cache
from mcp_server.ports.keyring import KeyRing
from mcp_server.services.teams import LOCAL
from mcp_server.services.trail import Trail

ATTEMPTS = 20
WINDOW = 60
KNOWN = 1000
REFUSED = "the key is not valid"
OF_THE_SETTING = (
    "Set QUAYMASTER_API_KEY to a valid key; 'quaymaster keys create --team T --role R' makes one."
)


class SignIn:
    """`attempts` failed ones a minute are looked at from one address; then it waits for the minute to end.

    A key that was good before is looked at even then: many callers may share an address, and one with an old
    key must not lock the others out.
    """

    def __init__(self, keys: KeyRing, cache: Cache, trail: Trail, *, attempts: int = ATTEMPTS) -> None:
        self._keys = keys
        self._cache = cache
        self._trail = trail
        self._attempts = attempts
        self._known: OrderedDict[str, None] = OrderedDict()

    async def authenticate(
        self,
        text: str | None,
        *,
        address: str | None = None,
        user_agent: str | None = None,
        transport: Transport = "http",
        process: str | None = None,
    ) -> Caller:
        """The caller behind a key. Without `address` attempts are not limited.

        Raises Unauthenticated, with one sentence whatever is wrong with the key, and RateLimited before
        looking.
        """
        if not text:
            raise Unauthenticated("this needs a key")
        source = _source(address)
        key_hash = digest(text) if well_formed(text) else None
        if key_hash not in self._known:
            await self._require_patience(source)
        key = None if key_hash is None else await self._keys.find(key_hash)
        if key is None or key_hash is None or not key.good_at(self._trail.now()):
            self._known.pop(key_hash or "", None)
            await self._refuse(source, key, address, user_agent)
            raise Unauthenticated(REFUSED, next=None if transport == "http" else OF_THE_SETTING)
        self._remember(key_hash)
        return Caller(
            team_id=key.team_id,
            role=key.role,
            user=key.name,
            key_id=key.id,
            scopes=key.scopes,
            rate_limit=key.rate_limit,
            transport=transport,
            process=process,
            address=address,
            user_agent=user_agent,
        )

    async def _require_patience(self, source: str | None) -> None:
        if source is None:
            return
        until = await self._cache.get(f"signin:wait:{source}")
        if until is not None:
            wait = max(1, math.ceil(float(until) - self._trail.now().timestamp()))
            raise RateLimited(
                "too many failed attempts to sign in from this address",
                next=f"Wait {wait} seconds.",
                retry_after=wait,
            )

    async def _refuse(
        self, source: str | None, key: ApiKey | None, address: str | None, user_agent: str | None
    ) -> None:
        """Count and record a failed attempt. The row of a revoked or expired key is its team's to see."""
        now = self._trail.now()
        self._trail.add(_row(now, key, address, user_agent))
        if source is None:
            return
        failed, left = await self._cache.count(f"signin:failed:{source}", window=WINDOW)
        if failed >= self._attempts:
            await self._cache.set(f"signin:wait:{source}", f"{now.timestamp() + left}".encode(), ttl=left)

    def _remember(self, key_hash: str) -> None:
        self._known[key_hash] = None
        self._known.move_to_end(key_hash)
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)


def local_owner(user: str, *, transport: Transport = "stdio", process: str | None = None) -> Caller:
    """The operating-system user who can read the home: the owner of the team `local`."""
    return Caller(team_id=LOCAL, role="owner", user=user, transport=transport, process=process)


def _source(address: str | None) -> str | None:
    """What attempts are counted by: an IPv4 address, or the /64 network that an IPv6 host chooses from."""
    if address is None:
        return None
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:45]
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _row(now: datetime, key: ApiKey | None, address: str | None, user_agent: str | None) -> AuditRow:
    reason = "unknown key" if key is None else "revoked key" if key.revoked_at else "expired key"
    return AuditRow(
        id=f"a{time.time_ns() // 1_000_000:013x}{secrets.token_hex(8)}",
        timestamp=now,
        team_id=key and key.team_id,
        key_id=key and key.id,
        user_id=key and key.name,
        role=key and key.role,
        action="sign_in",
        success=False,
        ip=address and address[:45],
        user_agent=user_agent and redacted_text(user_agent),
        error=f"{Unauthenticated.code}: {reason}",
    )
