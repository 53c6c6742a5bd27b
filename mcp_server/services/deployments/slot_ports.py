"""The ports of slots on this host: each is in the slot pair and in the list of the host, where no two can have it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from mcp_server.domain.databases import PortAllocation, Site, port_key
from mcp_server.domain.errors import Conflict, QuotaExceeded, Unavailable
from mcp_server.domain.slots import SlotPair
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.databases import Machine
from mcp_server.ports.store import Intent, Store, Transaction
from mcp_server.services.deployments.berths import Berth

PORT_TRIES = 8
TIDY = Intent("deploy_project", "quaymaster")
"""Looking after slots goes on wherever deploying does."""


class SlotPorts:
    def __init__(
        self, store: Store, machine: Machine, site: Site, ranges: Mapping[EnvironmentName, range]
    ) -> None:
        self._store = store
        self._machine = machine
        self._site = site
        self._ranges = ranges

    def holder(self, berth: Berth) -> str:
        """Whose a port is: several homes may share a host and the list of its ports."""
        return f"{self._site.home}/{berth.uid}/{berth.environment}/{berth.slot}"

    async def take(self, berth: Berth, avoid: set[int]) -> int:
        for _ in range(PORT_TRIES):
            port = await self._candidate(berth, avoid)
            try:
                await self._store.run(partial(self._keep, berth=berth, port=port), TIDY)
                return port
            except Conflict:
                avoid.add(port)
        raise Unavailable("other deployments take the ports of this host faster than this one")

    async def _candidate(self, berth: Berth, avoid: set[int]) -> int:
        ports = self._ranges[berth.environment]
        given = await self._store.read(lambda tx: tx.ports.of_host(self._site.host))
        mine = [one.port for one in given if one.holder == self.holder(berth) and one.port not in avoid]
        taken = {one.port for one in given} | avoid
        first = sum(self.holder(berth).encode()) % len(ports)
        candidates: tuple[int, ...] = (*mine, *ports[first:], *ports[:first])
        for port in candidates:
            if (port in mine or port not in taken) and self._machine.port_is_free(port):
                return port
        raise QuotaExceeded(
            f"no port from {ports.start} to {ports.stop - 1} is free on this host for {berth.environment}",
            next="Clean up slots that are no longer needed, or widen the range of ports.",
        )

    async def _keep(self, tx: Transaction, *, berth: Berth, port: int) -> None:
        """In the pair and in the list of the host, where no two can have it."""
        pair = await tx.slots.hold(berth.pair)
        if pair is None:
            raise Conflict("the project was deleted meanwhile")
        slot = pair.slot(berth.slot)
        allocation = await tx.ports.hold(port_key(self._site.host, port))
        if allocation is not None and allocation.holder != self.holder(berth):
            raise Conflict("the port was taken meanwhile")
        if slot.port not in (None, port):
            await self.free(tx, berth, slot.port)
        if allocation is None:
            now = await tx.now()
            await tx.ports.add(
                PortAllocation(
                    host=self._site.host, port=port, holder=self.holder(berth), purpose="slot", created_at=now
                )
            )
        if slot.port != port:
            await tx.slots.save(pair.put(berth.slot, slot.change(port=port)))

    async def give_back(self, berth: Berth) -> None:
        await self._store.run(partial(self._given_back, berth=berth), TIDY)

    async def _given_back(self, tx: Transaction, *, berth: Berth) -> None:
        pair = await tx.slots.hold(berth.pair)
        if pair is not None:
            await self.free_of(tx, berth, pair)

    async def free_of(self, tx: Transaction, berth: Berth, pair: SlotPair) -> SlotPair:
        """Within a transaction that holds the pair: the berth has no port any more."""
        slot = pair.slot(berth.slot)
        await self.free(tx, berth, slot.port)
        return await tx.slots.save(pair.put(berth.slot, slot.change(port=None))) if slot.port else pair

    async def free(self, tx: Transaction, berth: Berth, port: int | None) -> None:
        if port is None:
            return
        allocation = await tx.ports.hold(port_key(self._site.host, port))
        if allocation is not None and allocation.holder == self.holder(berth):
            await tx.ports.remove(allocation)
