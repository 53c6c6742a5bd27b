"""API keys: their text, what is stored of it, and when a key is good.

A key reads `{prefix}_{first 8 characters of the team id}_{role}_{24 characters base64url}`. Only its SHA-256
and its first 20 characters are kept. The role of a caller comes from the stored record, never from the text.
"""

from __future__ import annotations

import hashlib
import re
from typing import ClassVar

from pydantic import Field

from mcp_server.domain.records import Moment, Record
from mcp_server.domain.roles import Role

PREFIX_CHARACTERS = 20
FORM = re.compile(r"[a-z][a-z0-9]{0,7}_[a-z0-9-]{1,8}_(?:owner|admin|member|viewer)_[A-Za-z0-9_-]{24}")


class ApiKey(Record):
    """`scopes` empty means all that the role may do.

    `rate_limit` is requests a minute, None the server's default.
    """

    noun: ClassVar[str] = "keys"
    id: str = Field(min_length=1, max_length=32)
    key_hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    key_prefix: str = Field(max_length=PREFIX_CHARACTERS)
    name: str = Field(min_length=1, max_length=255)
    team_id: str
    role: Role
    scopes: tuple[str, ...] = ()
    rate_limit: int | None = Field(default=None, ge=1)
    created_at: Moment
    created_by: str | None = Field(default=None, max_length=255)
    last_used_at: Moment | None = None
    expires_at: Moment | None = None
    revoked_at: Moment | None = None

    @property
    def key(self) -> str:
        return self.id

    def good_at(self, now: Moment) -> bool:
        """Neither revoked nor expired at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


def key_text(prefix: str, team_id: str, role: Role, random: str) -> str:
    """The text of a key from 24 drawn characters."""
    return f"{prefix}_{team_id[:8]}_{role}_{random}"


def digest(text: str) -> str:
    """What is stored of a key's text: its SHA-256 in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def well_formed(text: str) -> bool:
    """Whether the text can be a key at all; says nothing about whether it is one."""
    return len(text) <= 64 and FORM.fullmatch(text) is not None


def stored_form(text: str) -> dict[str, str]:
    """The two fields of a record that come from the key's text."""
    return {"key_hash": digest(text), "key_prefix": text[:PREFIX_CHARACTERS]}
