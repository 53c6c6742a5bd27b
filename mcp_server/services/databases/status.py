"""The engine and the warm pool in health reports."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_server.ports.health import Part, PartState
from mcp_server.services.databases.service import Databases


def parts_of(databases: Databases) -> Sequence[Part]:
    return (EnginePart(databases), PoolPart(databases))


class EnginePart:
    """Off where there is no engine: SQLite works all the same."""

    name = "docker"
    vital = False

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    async def check(self) -> PartState:
        found = await self._databases.detect()
        if not found.available:
            return PartState("off", found.reason)
        said = f"{found.version} at {found.address}"
        strange = self._databases.recovery.unclaimed
        if strange:
            return PartState("degraded", f"{said}; no record speaks of {', '.join(strange)}")
        return PartState("healthy", said)


class PoolPart:
    name = "warm_pool"
    vital = False

    def __init__(self, databases: Databases) -> None:
        self._databases = databases

    async def check(self) -> PartState:
        options = self._databases.parts.options
        if options.pool == 0 or options.isolation != "container":
            return PartState("off")
        standbys = await self._databases.pool.standbys()
        ready = sum(one.stage == "ready" for one in standbys)
        said = f"{ready} of {options.pool} ready"
        problem = self._databases.pool.problem
        if problem is None:
            return PartState("healthy", said)
        return PartState("off" if problem.startswith("off") else "degraded", f"{said}; {problem}")
