"""No edge: the person routes."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_server.domain.routes import Preview, Probe, Repair, Route, Target
from mcp_server.domain.slots import SlotName


class NoEdge:
    """`ports.edge.Edge` for QUAYMASTER_EDGE=off. A slot is reached by its published port on loopback."""

    routes_traffic = False
    network = None
    certifies = False

    def target(self, workload: str, container_port: int, published_port: int) -> Target:
        return Target(host="127.0.0.1", port=published_port)

    def url(self, host: str) -> str | None:
        return None

    async def ensure(self) -> None: ...

    async def point(self, route: str, slot: SlotName, target: Target) -> None: ...

    async def active(self, route: str) -> SlotName | None:
        return None

    async def attach(self, host: str, route: str) -> None: ...

    async def preview(self, route: str, preview: Preview) -> None: ...

    async def detach(self, host: str) -> None: ...

    async def forget(self, route: str) -> None: ...

    async def allow_tls(self, host: str) -> None: ...

    async def deny_tls(self, host: str) -> None: ...

    async def routes(self) -> tuple[Route, ...]:
        return ()

    async def rebuild(self, wanted: Sequence[Route]) -> tuple[Repair, ...]:
        return ()

    async def probe(self, host: str, path: str = "/", *, count: int = 1) -> tuple[Probe, ...]:
        return ()

    async def connections(self, target: Target) -> int:
        return 0

    async def check(self) -> tuple[str, ...]:
        return ()

    async def close(self) -> None: ...
