"""Telling a team what happened to its projects, without anybody waiting for it."""

from __future__ import annotations

from typing import Any, Protocol

from pydantic import SecretStr

from mcp_server.domain.happenings import Happening


class Notifier(Protocol):
    async def tell(self, team: str, event: Happening) -> None:
        """Returns at once and never raises; whether anybody was reached is not known here."""
        ...


class Webhook(Protocol):
    async def post(self, address: SecretStr, body: dict[str, Any]) -> None:
        """One POST of JSON, answered with 2xx when this returns.

        Raises Invalid when the address may not be posted to or refuses what is sent: trying again is of no use.
        Raises Unavailable (RateLimited with `retry_after`) when a later try may do. No message names the
        address.
        """
        ...


class Silence:
    """A `Notifier` for where nobody is to be told."""

    async def tell(self, team: str, event: Happening) -> None: ...
