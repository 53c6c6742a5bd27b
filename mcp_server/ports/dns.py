"""DNS: where a name leads, and the records of zones that belong to the operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Resolver(Protocol):
    async def addresses(self, host: str) -> frozenset[str]:
        """All IPv4 and IPv6 addresses of the name, aliases followed; empty when DNS says that it has none.

        Raises Unavailable when no server gives an answer in time: that says nothing about the name.
        """
        ...


class Zones(Protocol):
    """Zones in which this installation may make address records.

    Every call raises Unavailable when the provider cannot be reached, refuses the token, or says that it was
    asked too often. Records that this installation did not make are never changed and never removed.
    """

    def zone_of(self, host: str) -> str | None:
        """The zone of ours in which the name lies; the longest, where one lies in another."""
        ...

    async def taken(self, host: str) -> tuple[str, ...]:
        """Address records (A, AAAA, CNAME) of the name that are not this installation's, as `TYPE content`."""
        ...

    async def point(self, host: str, targets: Sequence[str]) -> None:
        """The name leads to these targets, addresses or else one name; records of ours that differ are gone.

        Calling again changes nothing. Raises Conflict when the name is taken.
        """
        ...

    async def remove(self, host: str) -> None:
        """None of this installation's records are left at the name."""
        ...

    async def made(self) -> tuple[str, ...]:
        """Every name that has records of this installation, sorted."""
        ...
