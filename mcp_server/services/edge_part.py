"""The proxy in health reports: that visitors reach nothing is said before somebody asks about a project."""

from __future__ import annotations

import anyio

from mcp_server.domain.errors import QuaymasterError
from mcp_server.ports.edge import Edge
from mcp_server.ports.health import PartState
from mcp_server.ports.store import Reading, Store
from mcp_server.services.works import Work, Works

LOOK_SECONDS = 0.7
"""A health report waits a second for a part; the proxy is given longer, beside it."""
AGAIN_SECONDS = 10.0
DOUBT_SECONDS = 2.0


class EdgePart:
    """By what `quaymaster edge check` says; nothing is made for it, and nothing missed before the first deployment.

    Where all was well before, a fault is told when it is seen twice: a switch may look like one while it runs.
    """

    name = "edge"
    vital = False

    def __init__(
        self, store: Store, edge: Edge, works: Works, home: str, *, again: float = AGAIN_SECONDS
    ) -> None:
        """`home`: the home whose edge this is. `again`: seconds until it is looked at anew."""
        self._store = store
        self._edge = edge
        self._works = works
        self._home = home
        self._again = again
        self._known = PartState("degraded", f"no answer within {LOOK_SECONDS:g} s")
        self._doubted = False
        self._until = 0.0

    async def check(self) -> PartState:
        if not self._edge.routes_traffic:
            return PartState("off", "the person routes")
        if anyio.current_time() >= self._until:
            await self._works.begin("look at the edge", self._look).follow(LOOK_SECONDS)
        return self._known

    async def _look(self, _: Work) -> None:
        found = await self._seen()
        well_before = self._known.condition == "healthy"
        self._doubted = found.condition == "degraded" and well_before and not self._doubted
        if not self._doubted:
            self._known = found
        self._until = anyio.current_time() + (
            min(DOUBT_SECONDS, self._again) if self._doubted else self._again
        )

    async def _seen(self) -> PartState:
        try:
            if not await self._store.read(self._used):
                return PartState("off", "nothing is deployed from this home")
            problems = await self._edge.check()
        except QuaymasterError as error:
            return PartState("degraded", error.message)
        except OSError as error:
            return PartState("degraded", f"the edge's directory cannot be read: {error.strerror}")
        return PartState("healthy") if not problems else PartState("degraded", _said(problems))

    async def _used(self, tx: Reading) -> bool:
        pairs = await tx.slots.of_home(self._home)
        return any(slot.state != "empty" for pair in pairs for slot in (pair.blue, pair.green))


def _said(problems: tuple[str, ...]) -> str:
    more = f" (and {len(problems) - 1} more; 'quaymaster edge check' lists them)" if len(problems) > 1 else ""
    return f"{problems[0].rstrip('.')}{more}"
