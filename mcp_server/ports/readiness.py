"""Whether an application that was started answers."""

from __future__ import annotations

from typing import Protocol


class Readiness(Protocol):
    """One question each. Never raises: an answer is None when all is well, else why not, in a few words."""

    async def http(self, port: int, path: str, *, seconds: float) -> str | None:
        """GET of a path on 127.0.0.1: well is 2xx. A redirect is not followed and is no 2xx."""
        ...

    async def tcp(self, address: str, port: int, *, seconds: float) -> str | None:
        """Somebody listens there."""
        ...
