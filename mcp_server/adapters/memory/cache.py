"""The Cache port in memory: bounded, and gone with the process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

CAPACITY = 10_000


class MemoryCache:
    """At most `capacity` values and as many counters; of each the one used longest ago goes first.

    Values never push counters out, so that filling the cache lifts no limit. `clock` counts seconds and never
    goes back.
    """

    def __init__(self, *, capacity: int = CAPACITY, clock: Callable[[], float] = time.monotonic) -> None:
        self._capacity = capacity
        self._clock = clock
        self._values: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._counters: OrderedDict[str, tuple[int, float]] = OrderedDict()

    @property
    def place(self) -> str:
        return "the memory of this process"

    @property
    def trouble(self) -> str | None:
        return None

    async def get(self, key: str) -> bytes | None:
        value, end = self._values.get(key, (None, 0.0))
        if value is None:
            return None
        if end <= self._clock():
            del self._values[key]
            return None
        self._values.move_to_end(key)
        return value

    async def set(self, key: str, value: bytes, *, ttl: float = 300) -> None:
        """`ttl` in seconds; zero or less keeps nothing."""
        self._values.pop(key, None)
        if ttl > 0:
            self._values[key] = (value, self._clock() + ttl)
            self._trim(self._values)

    async def delete(self, key: str) -> None:
        self._values.pop(key, None)
        self._counters.pop(key, None)

    async def count(self, key: str, *, window: float) -> tuple[int, float]:
        """The window begins with the first count and does not move."""
        now = self._clock()
        count, end = self._counters.pop(key, (0, now + window))
        if end <= now:
            count, end = 0, now + window
        self._counters[key] = (count + 1, end)
        self._trim(self._counters)
        return count + 1, end - now

    def _trim(
        self, entries: OrderedDict[str, tuple[bytes, float]] | OrderedDict[str, tuple[int, float]]
    ) -> None:
        while len(entries) > self._capacity:
            entries.popitem(last=False)
