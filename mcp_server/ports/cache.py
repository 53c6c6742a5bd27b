"""A place for counters and short-lived values, shared by servers where one is configured.

Nobody may rely on a value: it can be gone at any moment. No method raises because the place is away.
"""

from __future__ import annotations

from typing import Protocol


class Cache(Protocol):
    @property
    def place(self) -> str:
        """Where values are kept at present, in words."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why what is configured is not used at present: one sentence without secrets; None while all is well."""
        ...

    async def get(self, key: str) -> bytes | None: ...

    async def set(self, key: str, value: bytes, *, ttl: float = 300) -> None:
        """`ttl` in seconds."""
        ...

    async def delete(self, key: str) -> None: ...

    async def count(self, key: str, *, window: float) -> tuple[int, float]:
        """Add one to the counter of `key` and return it with the seconds until its window of `window` seconds ends."""
        ...
