"""Bounded polling: the only way in which tests wait."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T | None], *, seconds: float, what: str, every: float = 0.02) -> T:
    """The condition's first truthy value. TimeoutError naming `what` when none came within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(every)
