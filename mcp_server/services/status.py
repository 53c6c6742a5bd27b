"""How the server is: the store, its parts and what it offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio

from mcp_server.domain.records import Moment, Value
from mcp_server.domain.results import Result
from mcp_server.ports.cache import Cache
from mcp_server.ports.health import Condition, Part, PartState
from mcp_server.ports.store import Store, StoreMode, StoreStatus
from mcp_server.services.calls import Call
from mcp_server.services.trail import CAPACITY, Trail

CHECK_SECONDS = 1.0


class PartView(Value):
    """`reason` is only there for a signed-in caller."""

    name: str
    condition: Condition
    reason: str | None = None


class Health(Result):
    """`since` is when the present mode began; `pending` counts changes that PostgreSQL has not yet."""

    status: Condition
    mode: StoreMode
    since: Moment | None = None
    pending: int = 0
    conflicts: int = 0
    parts: tuple[PartView, ...]
    version: str


class InfrastructureStatus(Health):
    """`gauges` are numbers by name.

    `audit_dropped` counts audit rows lost since the start of this process.
    """

    reason: str | None = None
    alone: bool = True
    gauges: dict[str, float]
    audit_waiting: int
    audit_dropped: int
    toolsets: tuple[str, ...]
    hidden_toolsets: tuple[str, ...]


class Status:
    """`parts` are asked beside the store, the cache and the audit trail.

    The toolsets are those of this server.
    """

    def __init__(
        self,
        store: Store,
        cache: Cache,
        trail: Trail,
        *,
        version: str,
        toolsets: Sequence[str] = (),
        hidden_toolsets: Sequence[str] = (),
        parts: Sequence[Part] = (),
    ) -> None:
        self._store = store
        self._trail = trail
        self._version = version
        self._toolsets = tuple(toolsets)
        self._hidden = tuple(hidden_toolsets)
        self._parts: tuple[Part, ...] = (_CachePart(cache), _TrailPart(trail), *parts)

    async def health(self, *, reasons: bool = False) -> Health:
        """What anybody may know, without a key: conditions and counts. `reasons` are for whoever owns the home."""
        status, parts = await self._look()
        return Health(
            status=_overall(parts),
            mode=status.mode,
            since=status.since,
            pending=status.pending,
            conflicts=status.conflicts,
            parts=tuple(
                PartView(name=name, condition=state.condition, reason=state.reason if reasons else None)
                for name, (state, _) in parts.items()
            ),
            version=self._version,
        )

    async def infrastructure_status(self, call: Call) -> InfrastructureStatus:
        """The same with reasons, gauges and toolsets."""
        call.about("system", "infrastructure")
        status, parts = await self._look()
        return InfrastructureStatus(
            status=_overall(parts),
            mode=status.mode,
            since=status.since,
            pending=status.pending,
            conflicts=status.conflicts,
            parts=tuple(
                PartView(name=name, condition=state.condition, reason=state.reason)
                for name, (state, _) in parts.items()
            ),
            version=self._version,
            reason=status.reason,
            alone=status.alone,
            gauges=dict(status.gauges),
            audit_waiting=self._trail.waiting,
            audit_dropped=self._trail.dropped,
            toolsets=self._toolsets,
            hidden_toolsets=self._hidden,
        )

    async def _look(self) -> tuple[StoreStatus, Mapping[str, tuple[PartState, bool]]]:
        """Every part by name with its state and whether it is vital; all are asked at the same time."""
        states: dict[str, PartState] = {}
        async with anyio.create_task_group() as group:
            for part in self._parts:
                group.start_soon(_ask, part, states)
            status = await self._store.status()
        asked = {part.name: (states[part.name], part.vital) for part in self._parts}
        return status, {**_store_parts(status), **asked}


async def _ask(part: Part, states: dict[str, PartState]) -> None:
    states[part.name] = PartState("unhealthy", f"no answer within {CHECK_SECONDS:g} s")
    with anyio.move_on_after(CHECK_SECONDS):
        try:
            states[part.name] = await part.check()
        except Exception as error:
            states[part.name] = PartState("unhealthy", type(error).__name__)


def _store_parts(status: StoreStatus) -> dict[str, tuple[PartState, bool]]:
    """The store as two parts. A store that cannot say since when its mode is does not reach its registry."""
    reason = status.reason
    if status.mode == "embedded":
        registry = PartState("healthy" if status.healthy else "unhealthy", None if status.healthy else reason)
        return {"registry": (registry, True), "postgresql": (PartState("off"), False)}
    if status.since is None:
        gone, unknown = (
            PartState("unhealthy", reason),
            PartState("degraded", "unknown while the registry is away"),
        )
        return {"registry": (gone, True), "postgresql": (unknown, False)}
    if status.mode == "primary":
        behind = (
            PartState("healthy")
            if status.healthy
            else PartState("degraded", reason or "it is behind PostgreSQL")
        )
        return {"registry": (behind, True), "postgresql": (PartState("healthy"), False)}
    away: Condition = "degraded" if status.mode == "replaying" else "unhealthy"
    return {"registry": (PartState("healthy"), True), "postgresql": (PartState(away, reason), False)}


def _overall(parts: Mapping[str, tuple[PartState, bool]]) -> Condition:
    if any(vital and state.condition == "unhealthy" for state, vital in parts.values()):
        return "unhealthy"
    if any(state.condition in ("degraded", "unhealthy") for state, _ in parts.values()):
        return "degraded"
    return "healthy"


class _CachePart:
    name = "cache"
    vital = False

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    async def check(self) -> PartState:
        await self._cache.set("health:probe", b"1", ttl=5)
        kept = await self._cache.get("health:probe")
        if self._cache.trouble is not None:
            return PartState("degraded", f"{self._cache.trouble}; {self._cache.place} serves meanwhile")
        if kept != b"1":
            return PartState("degraded", "a value was not kept")
        return PartState("healthy", f"in {self._cache.place}")


class _TrailPart:
    name = "trail"
    vital = False

    def __init__(self, trail: Trail) -> None:
        self._trail = trail

    async def check(self) -> PartState:
        if self._trail.failing is not None:
            return PartState("degraded", f"audit rows wait: {self._trail.failing}")
        if self._trail.waiting > CAPACITY // 2:
            return PartState("degraded", "audit rows come faster than they are written")
        return PartState("healthy")
