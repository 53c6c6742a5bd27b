"""How a switch ends: what moved stays or goes back, the outcome is written down, and the team hears of it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from mcp_server.domain.errors import Failure, QuaymasterError
from mcp_server.domain.happenings import Happening, What
from mcp_server.domain.receipts import Receipt
from mcp_server.ports.notifier import Notifier, Silence
from mcp_server.ports.store import Intent, Store
from mcp_server.services.deployments.recovery import Recovery
from mcp_server.services.deployments.settling import end_switch
from mcp_server.services.deployments.slots import Slots, Step
from mcp_server.services.deployments.ways import Way

WORK = Intent("promote", "quaymaster")


class SwitchEnds:
    def __init__(self, store: Store, slots: Slots, recovery: Recovery, *, step: Step) -> None:
        self._store = store
        self._slots = slots
        self._recovery = recovery
        self._step = step
        self.notifier: Notifier = Silence()

    async def settle(self, way: Way, failure: Failure | None, receipts: list[Receipt]) -> None:
        """With a failure traffic goes back first; then the outcome is written down, by a later look if not now."""
        try:
            await self._settle(way, failure, receipts)
        except BaseException:
            self.leave(way.switch.id)
            raise

    def leave(self, id: str) -> None:
        """To a later look, which settles it by what the proxy does."""
        self._recovery.take_over(id)

    async def _settle(self, way: Way, failure: Failure | None, receipts: list[Receipt]) -> None:
        receipt = receipts[-1] if receipts else None
        if failure is not None:
            with suppress(QuaymasterError):
                await self._return(way)
            with suppress(QuaymasterError):
                await self._recovery.clear_cold(way.pair.key, way.switch)
        self._step("switch.before_settle")
        end = partial(end_switch, key=way.pair.key, switch_id=way.switch.id, failure=failure, receipt=receipt)
        await self._store.run(end, WORK)
        self._step("switch.settled")

    async def _return(self, way: Way) -> None:
        """Traffic is where it was before."""
        edge, route = self._slots.edge, way.berth.route
        if await edge.active(route) != way.switch.slot:
            return
        pair = await self._store.read(lambda tx: tx.slots.get(way.pair.key))
        if pair is not None:
            await self._recovery.routing.point_back(pair, way.switch)

    async def tell(self, way: Way, failure: Failure | None) -> None:
        error = None if failure is None else failure.message
        await self.notifier.tell(way.project.team_id, self._happening(way, error))

    def _happening(self, way: Way, error: str | None) -> Happening:
        host = self._slots.host(way.berth)
        done: What = "promoted" if way.switch.kind == "promote" else "rolled back"
        return Happening(
            what="failed" if error else done,
            action=way.switch.kind,
            project=way.project.name,
            environment=way.pair.environment,
            version=way.deployment.version,
            by=way.switch.by,
            detail=error or way.switch.reason,
            url=None if error else self._slots.edge.url(host),
        )
