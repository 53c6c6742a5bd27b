"""A shared place for counters and short-lived values."""

from __future__ import annotations

from typing import Protocol


class Cache(Protocol):
    async def get(self, key: str) -> bytes | None: ...

    async def set(self, key: str, value: bytes, *, ttl: float = 300) -> None:
        """`ttl` in seconds."""
        ...

    async def delete(self, key: str) -> None: ...

    async def count(self, key: str, *, window: float) -> tuple[int, float]:
        """Add one to the counter of `key` and return it with the seconds until its window of `window` seconds ends."""
        ...
