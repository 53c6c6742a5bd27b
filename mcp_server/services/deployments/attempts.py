"""Many things put right in one go, of which one that cannot be keeps none of the others waiting."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from mcp_server.domain.errors import QuaymasterError

T = TypeVar("T")


class Attempts:
    def __init__(self) -> None:
        self._first: QuaymasterError | None = None

    @contextmanager
    def one(self) -> Iterator[None]:
        """What is refused inside is kept for `end`."""
        try:
            yield
        except QuaymasterError as error:
            self._first = self._first or error

    async def each(self, things: Iterable[T], attempt: Callable[[T], Awaitable[bool]]) -> int:
        """How many of them the attempt changed something at."""
        changed = 0
        for thing in things:
            with self.one():
                changed += await attempt(thing)
        return changed

    def end(self) -> None:
        """Raises what was refused first."""
        if self._first is not None:
            raise self._first
