"""Promote and rollback: traffic moves from one slot to the other.

The intent is written before the proxy is told (`switch_intents`), and settled (`switch_ends`) after the new slot was
seen to answer through the proxy's own port (`moves`). A crash in between is settled by what the proxy does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from mcp_server.domain.deployments import Deployment
from mcp_server.domain.errors import Conflict, Invalid, NotFound
from mcp_server.domain.receipts import Receipt
from mcp_server.domain.records import Moment
from mcp_server.domain.results import Result
from mcp_server.domain.slots import SlotName, SlotPair, Switch, pair_key
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.store import Reading
from mcp_server.services.access import chosen_environment, project_of
from mcp_server.services.calls import Call, Calls
from mcp_server.services.deployments.berths import Berth
from mcp_server.services.deployments.moves import Moves
from mcp_server.services.deployments.recovery import Recovery
from mcp_server.services.deployments.slots import Slots, Step
from mcp_server.services.deployments.switch_intents import SwitchBegun, SwitchIntents
from mcp_server.services.works import Tell, Works

WAIT_SECONDS = 60


class SwitchView(Result):
    """`status` is done when the new slot was seen to answer through the proxy."""

    message: str
    project: str
    environment: EnvironmentName
    status: str
    slot: SlotName
    from_slot: SlotName | None = None
    version: str | None = None
    deployment: str
    url: str | None = None
    cold: bool = False
    receipt: Receipt | None = None
    rollback_until: Moment | None = None
    next: str | None = None


Intending = Callable[..., Awaitable[SwitchBegun]]


class Switching:
    def __init__(
        self,
        calls: Calls,
        slots: Slots,
        intents: SwitchIntents,
        moves: Moves,
        recovery: Recovery,
        works: Works,
        *,
        step: Step,
    ) -> None:
        self._calls = calls
        self._slots = slots
        self._intents = intents
        self._moves = moves
        self._recovery = recovery
        self._works = works
        self._step = step

    # -- use cases ---------------------------------------------------------------------------------------

    async def promote(
        self,
        call: Call,
        project: str,
        environment: EnvironmentName | None = None,
        task_id: str | None = None,
        fence: int | None = None,
    ) -> SwitchView:
        """Traffic goes to the version that was deployed last; the one before waits in grace.

        Raises Locked when others hold files that the version changes, Conflict when there is nothing to
        promote, when the pair is busy, and when the new version did not answer (traffic is then where it was).
        """
        return await self._switch(
            call, project, environment, partial(self._intents.promote, task_id=task_id, fence=fence)
        )

    async def rollback(
        self, call: Call, project: str, environment: EnvironmentName | None = None, reason: str = ""
    ) -> SwitchView:
        """Traffic goes back to the version before, at once while it is in grace, else after starting it anew."""
        if not 1 <= len(reason.strip()) <= 1000:
            raise Invalid.field("reason", "1-1000 characters")
        return await self._switch(call, project, environment, partial(self._intents.rollback, reason=reason))

    async def promote_after(self, call: Call, deployment: Deployment, tell: Tell) -> None:
        """For teams that promote what they deploy."""
        own = Call(caller=call.caller, action="promote", params={"deployment": deployment.id}, tell=tell)
        await self._calls.perform(
            own, lambda: self.promote(own, deployment.project, deployment.environment, deployment.task_id)
        )

    async def _switch(
        self, call: Call, project: str, environment: EnvironmentName | None, intend: Intending
    ) -> SwitchView:
        async def look(tx: Reading) -> str:
            found = await project_of(tx, call.caller, project)
            return pair_key(found.name, await chosen_environment(tx, call.caller, environment))

        key = await self._calls.read(look)
        call.about("slots", key)
        await self._recovery.settle_abandoned(key)
        switch_id = call.new_id("sw")
        transaction = partial(intend, call=call, name=project, key=key, id=switch_id)
        with anyio.CancelScope(shield=True):
            # A caller that goes away between the two would leave the intent to nobody's work, and this process lives.
            begun = await self._calls.write(call, transaction, SwitchBegun)
            self._step("switch.intended")
            self._moves.begin(begun.pair, begun.switch)
        return await self._outcome(call, begun)

    # -- the outcome -------------------------------------------------------------------------------------

    async def _outcome(self, call: Call, begun: SwitchBegun) -> SwitchView:
        work = self._works.get(begun.switch)
        if work is not None:
            await work.follow(WAIT_SECONDS, call.tell)
        found = await self._calls.read(partial(self._look, call=call, key=begun.pair))
        pair, switch, deployment = found
        if switch.id != begun.switch:
            raise Conflict(
                "this switch was settled, and another one came after it",
                next="slot_status shows how it is now.",
            )
        if switch.stage == "returned":
            raise Conflict(
                f"{switch.kind} did not happen: {(switch.error or '').rstrip('.')}; traffic is where it was",
                next=switch.next or "Read deployment_logs and slot_status, then decide.",
                receipt=None if deployment.receipt is None else deployment.receipt.model_dump(mode="json"),
            )
        return self._view(pair, switch, deployment)

    async def _look(self, tx: Reading, *, call: Call, key: str) -> tuple[SlotPair, Switch, Deployment]:
        pair = await tx.slots.get(key)
        if pair is None or pair.switch is None:
            raise NotFound("the project was deleted meanwhile")
        await project_of(tx, call.caller, pair.project)
        deployment = await tx.deployments.get(pair.switch.deployment)
        if deployment is None:
            raise NotFound("the deployment was deleted meanwhile")
        return pair, pair.switch, deployment

    def _view(self, pair: SlotPair, switch: Switch, deployment: Deployment) -> SwitchView:
        done = switch.stage == "done"
        url = self._slots.edge.url(self._slots.host(Berth(pair.project, "-", pair.environment, switch.slot)))
        verb = "has the traffic" if done else "is getting the traffic"
        return SwitchView(
            message=f"Version {deployment.version} in {switch.slot} {verb} of {pair.project} ({pair.environment}).",
            project=pair.project,
            environment=pair.environment,
            status="done" if done else "running",
            slot=switch.slot,
            from_slot=switch.from_slot,
            version=deployment.version,
            deployment=deployment.id,
            url=url,
            cold=switch.cold,
            receipt=deployment.receipt if done else None,
            rollback_until=pair.grace_expires_at if done else None,
            next=_next(deployment.receipt, url) if done else "slot_status shows when it is done",
        )


def _next(receipt: Receipt | None, url: str | None) -> str | None:
    if receipt is None or receipt.certificate is not False or url is None or not url.startswith("https:"):
        return None
    return f"The proxy has no certificate for {url} yet: its log says why. Until then browsers are refused."
