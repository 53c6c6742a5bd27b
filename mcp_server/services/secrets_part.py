"""Whether the secrets that the store keeps can be opened: a lost key is said before somebody needs what it sealed."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from mcp_server.ports.health import PartState
from mcp_server.services.resealing import Resealing

LOOKED_AT = 20
LOOK_SECONDS = 0.7
"""A health report waits a second for a part."""
AGAIN_SECONDS = 30.0


class SecretsPart:
    """The first of them are tried, and again after half a minute; `quaymaster secrets rotate --reseal-only` tries all."""

    name = "secrets"
    vital = False

    def __init__(self, kept: Callable[[], Resealing]) -> None:
        """`kept` gives the secrets with the keys as they are at that moment."""
        self._kept = kept
        self._known = PartState("healthy")
        self._until = 0.0

    async def check(self) -> PartState:
        if anyio.current_time() >= self._until:
            with anyio.move_on_after(LOOK_SECONDS):
                lost = await self._kept().unreadable(most=LOOKED_AT)
                self._known = PartState("healthy") if not lost else PartState("degraded", _said(lost))
            self._until = anyio.current_time() + AGAIN_SECONDS
        return self._known


def _said(lost: tuple[str, ...]) -> str:
    more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
    return (
        f"no key of this server opens {lost[0]}{more}: set QUAYMASTER_SECRET_KEY to the key that sealed it, "
        "or restore the home's secret.key"
    )
