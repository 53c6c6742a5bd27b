"""Whether this home may grant what is exclusive: alone on its installation, or admitted beside others.

A home that is alone may grant without PostgreSQL. A second home asks, and grants nothing exclusive until the first has
written down that it is no longer alone, and confirmed it. Two directories with the id of one home are told apart by
their places; the second one is no home at all until a person says that the first is gone.

What the registry says of it is written by the home's leader only: of two processes that asked PostgreSQL one after the
other, the first could otherwise write last, and mark a home as alone that has just given it up.
"""

from __future__ import annotations

import anyio

from mcp_server.domain.degraded import exclusive
from mcp_server.domain.errors import Invalid, Unavailable
from mcp_server.ports.mirror import Claim, Facts, Mirror, Primary

COPY_NEXT = (
    "To work beside that home, set QUAYMASTER_HOME to a new directory (with the same secret key): it gets an id of its "
    "own. If that home is gone for good, run 'quaymaster registry claim --force' here."
)
ADMITTED_SECONDS = 10.0
"""How long an admission is taken for granted: a person may have forced another home meanwhile."""


class Membership:
    def __init__(self, primary: Primary, mirror: Mirror, facts: Facts) -> None:
        self._primary = primary
        self._mirror = mirror
        self._home, self._place = facts.home, facts.place
        self._admitted_until = 0.0

    async def refuse_a_copy(self) -> None:
        """Raise Invalid when the home of this id is somewhere else. Raises Outage."""
        if await self._primary.place_of(self._home) not in (None, self._place):
            raise Invalid(copy_of(self._home), next=COPY_NEXT)

    async def require(self, action: str) -> None:
        """Raise Unavailable when the action is exclusive and another home is still alone. Raises Outage."""
        if not exclusive(action) or anyio.current_time() < self._admitted_until:
            return
        claim = self._learnt(await self._primary.claim(self._home, self._place))
        if claim.copied:
            raise Unavailable(copy_of(self._home), next=COPY_NEXT)
        if claim.holder not in (None, self._home):
            raise Unavailable(
                f"home {claim.holder} may still grant alone; it has been asked to confirm this home",
                next="Try again in a few seconds. If that home is gone for good, run 'quaymaster registry claim --force'.",
            )

    async def renew(self) -> Claim:
        """Register, learn who is alone, confirm a home that asks, and write it down: for the leader. Raises Outage."""
        claim = await self._primary.claim(self._home, self._place)
        if claim.holder == self._home and claim.asked_by is not None and not claim.copied:
            await self._mirror.set_alone(False)
            claim = await self._primary.claim(self._home, self._place, confirm=True)
        await self._mirror.set_alone(claim.alone)
        return self._learnt(claim)

    async def force(self) -> Claim:
        """A person says that the home which is alone, or the one that this is a copy of, is gone. The leader writes it
        down soon. Raises Outage."""
        return self._learnt(await self._primary.claim(self._home, self._place, force=True))

    def forget(self) -> None:
        """Ask again before the next exclusive action: the primary was away."""
        self._admitted_until = 0.0

    def _learnt(self, claim: Claim) -> Claim:
        admitted = claim.holder in (None, self._home) and not claim.copied
        self._admitted_until = anyio.current_time() + ADMITTED_SECONDS if admitted else 0.0
        return claim


def copy_of(home: str) -> str:
    return f"this directory was copied or moved: home {home} is known at another place"
