"""What must be asked for before a database is changed in a way that loses something.

A plan names one action on one database of one environment, and the state that it was made for. It is confirmed by two
codes on a terminal, or by its token.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mcp_server.domain.records import Value

Action = Literal["reset", "pull", "push", "rollback"]
ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Without what is easily taken for another: I, O, 0, 1."""
TOKEN_SECONDS = 900


class Danger(Value):
    """`digest` changes with everything that the plan was made from. `losses` are data that would be gone, with the
    numbers of rows, which do not count for the digest. `left` are differences that a push cannot express.
    """

    action: Action
    database: str
    environment: str
    place: str
    effects: tuple[str, ...]
    losses: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    digest: str


def digest_of(action: str, database: str, environment: str, place: str, state: Mapping[str, Any]) -> str:
    text = json.dumps([action, database, environment, place, state], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def codes(nonce: bytes, plan: Danger) -> Sequence[str]:
    """Two codes of four characters, never the same, good for this plan only. `nonce` is random and fresh."""
    first = _code(nonce, plan, 0)
    number = 1
    while (second := _code(nonce, plan, number)) == first:
        number += 1
    return first, second


def _code(nonce: bytes, plan: Danger, number: int) -> str:
    text = f"{plan.action}/{plan.database}/{plan.environment}/{plan.digest}/{number}"
    drawn = hashlib.sha256(nonce + text.encode()).digest()
    return "".join(ALPHABET[byte % len(ALPHABET)] for byte in drawn[:4])
