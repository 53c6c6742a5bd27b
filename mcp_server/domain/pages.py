"""Pages of a list by keyset: a cursor is the position after the last item, opaque to the caller."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mcp_server.domain.errors import Invalid

T = TypeVar("T")
DEFAULT_LIMIT = 50
MAX_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`items` in the list's order; `cursor` continues after them, None at the end."""

    items: Sequence[T]
    cursor: str | None = None


def encode_cursor(*position: str) -> str:
    raw = json.dumps(position, separators=(",", ":"), ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode_cursor(cursor: str | None, parts: int) -> tuple[str, ...] | None:
    """The position in a cursor of `parts` parts, None for no cursor. Raises Invalid for anything else."""
    if cursor is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        position = json.loads(raw)
    except (binascii.Error, ValueError, RecursionError) as error:
        raise Invalid.field("cursor", "must be a cursor that an earlier page returned") from error
    if (
        not isinstance(position, list)
        or len(position) != parts
        or not all(isinstance(p, str) and _storable(p) for p in position)
    ):
        raise Invalid.field("cursor", "must be a cursor that an earlier page of this list returned")
    return tuple(position)


def _storable(text: str) -> bool:
    """Whether every store can compare with it: no NUL, no half of a surrogate pair."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def page_of(items: Sequence[T], limit: int, position: tuple[str, ...] | None) -> Page[T]:
    """A page from `limit + 1` fetched items; `position` is that of item number `limit`."""
    if len(items) <= limit or position is None:
        return Page(items[:limit])
    return Page(items[:limit], encode_cursor(*position))
