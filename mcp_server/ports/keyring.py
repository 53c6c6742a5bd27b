"""Sign-in: the key records by the digest of their text, readable while PostgreSQL is away."""

from __future__ import annotations

from typing import Protocol

from mcp_server.domain.keys import ApiKey


class KeyRing(Protocol):
    async def find(self, key_hash: str) -> ApiKey | None:
        """The record under this SHA-256, or None; revoked and expired ones too.

        Compares in constant time. A key that the local projection lacks is asked for once in PostgreSQL where there is one.
        Raises Corrupt when the projection does not parse.
        """
        ...
