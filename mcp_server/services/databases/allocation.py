"""Ports of this host: chosen outside a transaction, taken inside one."""

from __future__ import annotations

from collections.abc import Collection

from mcp_server.domain.databases import PortAllocation, Site, port_key
from mcp_server.domain.errors import QuotaExceeded
from mcp_server.domain.records import Moment
from mcp_server.ports.databases import Machine
from mcp_server.ports.store import Store, Transaction


class Allocation:
    def __init__(self, store: Store, machine: Machine, site: Site, ports: range) -> None:
        self._store = store
        self._machine = machine
        self._site = site
        self._ports = ports

    async def candidate(self, avoid: Collection[int] = (), *, seed: str = "") -> int:
        """A port of the range that nobody has been given and that can be bound now.

        The search begins at a place that depends on `seed`: servers that choose at one time rarely choose the
        same. Raises QuotaExceeded when there is none.
        """
        taken = {one.port for one in await self._store.read(lambda tx: tx.ports.of_host(self._site.host))}
        free = [port for port in self._ports if port not in taken and port not in avoid]
        first = sum(seed.encode()) % len(free) if free and seed else 0
        for port in (*free[first:], *free[:first]):
            if self._machine.port_is_free(port):
                return port
        raise QuotaExceeded(
            f"no port from {self._ports.start} to {self._ports.stop - 1} is free on this host",
            next="Delete databases that are no longer needed, or widen QUAYMASTER_DATABASE_PORTS.",
        )

    async def take(self, tx: Transaction, port: int, holder: str, purpose: str, now: Moment) -> None:
        """Raises Conflict when somebody took it since."""
        await tx.ports.add(
            PortAllocation(host=self._site.host, port=port, holder=holder, purpose=purpose, created_at=now)
        )

    async def hand_over(self, tx: Transaction, port: int, holder: str, purpose: str) -> None:
        allocation = await tx.ports.hold(port_key(self._site.host, port))
        if allocation is not None:
            await tx.ports.save(allocation.change(holder=holder, purpose=purpose))

    async def release(self, tx: Transaction, port: int, holder: str) -> None:
        """Nothing happens when it is somebody else's."""
        allocation = await tx.ports.hold(port_key(self._site.host, port))
        if allocation is not None and allocation.holder == holder:
            await tx.ports.remove(allocation)
