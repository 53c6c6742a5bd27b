"""How one part of the server is: what health reports ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Condition = Literal["healthy", "degraded", "unhealthy", "off"]


@dataclass(frozen=True, slots=True)
class PartState:
    """`off` is a part that is not configured.

    `reason` is one sentence without secrets, for a signed-in caller.
    """

    condition: Condition
    reason: str | None = None


class Part(Protocol):
    @property
    def name(self) -> str:
        """One word, such as `docker`."""
        ...

    @property
    def vital(self) -> bool:
        """Whether the server is of no use without it: unhealthy together with it, instead of degraded."""
        ...

    async def check(self) -> PartState:
        """Asked for every health report, beside the other parts; cut off after a second, and may raise."""
        ...
