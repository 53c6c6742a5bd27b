"""Whether this home may grant what is exclusive: alone on its installation, or admitted beside others.

A home that is alone may grant without PostgreSQL. A second home asks, and grants nothing exclusive until the first has
written down that it is no longer alone, and confirmed it.
"""

from __future__ import annotations

from mcp_server.domain.degraded import ACTIONS
from mcp_server.domain.errors import Unavailable
from mcp_server.ports.mirror import Claim, Mirror, Primary


class Membership:
    def __init__(self, primary: Primary, mirror: Mirror, home: str) -> None:
        self._primary = primary
        self._mirror = mirror
        self._home = home
        self._admitted = False

    async def require(self, action: str) -> None:
        """Raise Unavailable when the action is exclusive and another home is still alone. Raises Outage."""
        if self._admitted or ACTIONS.get(action, "refused") != "refused":
            return
        claim = await self.renew()
        if not self._admitted:
            raise Unavailable(
                f"home {claim.holder} may still grant alone; it has been asked to confirm this home",
                next="Try again in a few seconds. If that home is gone for good, run 'quaymaster registry claim --force'.",
            )

    async def renew(self) -> Claim:
        """Register, learn who is alone, and confirm a home that asks. Raises Outage."""
        claim = await self._primary.claim(self._home)
        if claim.holder == self._home and claim.asked_by is not None:
            await self._mirror.set_alone(False)
            claim = await self._primary.claim(self._home, confirm=True)
        facts = await self._mirror.refresh()
        if facts.alone != claim.alone:
            await self._mirror.set_alone(claim.alone)
        self._admitted = claim.holder in (None, self._home)
        return claim

    async def force(self) -> Claim:
        """A person says that the home which is alone is gone. Raises Outage."""
        await self._primary.claim(self._home, force=True)
        return await self.renew()

    def forget(self) -> None:
        """Ask again before the next exclusive action: the primary was away."""
        self._admitted = False
