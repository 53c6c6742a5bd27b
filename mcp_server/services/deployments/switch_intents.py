"""What is written before traffic moves: which slot is to have it, and that nobody else may move it meanwhile."""

from __future__ import annotations

from mcp_server.domain.callers import holder_of
from mcp_server.domain.deployments import Deployment
from mcp_server.domain.errors import Conflict, Unavailable
from mcp_server.domain.locks import clashes_of
from mcp_server.domain.projects import Project
from mcp_server.domain.results import Result
from mcp_server.domain.slots import SlotName, SlotPair, Switch, SwitchKind
from mcp_server.ports.databases import Workers
from mcp_server.ports.store import Transaction
from mcp_server.services.access import project_of
from mcp_server.services.calls import Call
from mcp_server.services.deployments.outfit import Outfit
from mcp_server.services.deployments.reservations import Reservations, require_no_switch, task_here
from mcp_server.services.lock_board import held_board
from mcp_server.services.lock_views import locked


class SwitchBegun(Result):
    """What is remembered of a call that began a switch: which one."""

    switch: str
    pair: str


class SwitchIntents:
    """Each within a transaction. Raises Conflict while the pair is busy, and when there is nothing to move to."""

    def __init__(self, reservations: Reservations, workers: Workers, outfit: Outfit) -> None:
        self._reservations = reservations
        self._workers = workers
        self._outfit = outfit

    async def promote(
        self,
        tx: Transaction,
        *,
        call: Call,
        name: str,
        key: str,
        id: str,
        task_id: str | None,
        fence: int | None,
    ) -> SwitchBegun:
        project = await project_of(tx, call.caller, name)
        if task_id is not None:
            await task_here(tx, call.caller, project, task_id)
        ahead = await tx.slots.get(key)
        waiting = None if ahead is None else await tx.deployments.get(ahead.slot(ahead.idle).deployment or "")
        task = task_id or (None if waiting is None else waiting.task_id)
        if waiting is not None:
            await self._fence(tx, call, project, waiting, task, fence)
        pair = await self._held_free(tx, key)
        slot = pair.idle
        if pair.slot(slot).state != "deployed" or waiting is None or pair.slot(slot).deployment != waiting.id:
            raise Conflict(_nothing_to_promote(pair), next="Deploy a version with deploy_project first.")
        return await self._intent(tx, pair, call, id, "promote", slot, waiting.id, task_id=task)

    async def rollback(
        self, tx: Transaction, *, call: Call, name: str, key: str, id: str, reason: str
    ) -> SwitchBegun:
        project = await project_of(tx, call.caller, name)
        pair = await self._held_free(tx, key)
        if pair.active is None or pair.previous is None:
            raise Conflict(
                "there is no version to roll back to",
                next="Deploy the version that you want with deploy_project, then promote it.",
            )
        now, slot = await tx.now(), pair.idle
        if pair.grace_expires_at is not None and pair.grace_expires_at <= now:
            raise Conflict(
                f"the time to roll back to {pair.slot(slot).version} ended at {pair.grace_expires_at:%Y-%m-%d %H:%M} UTC",
                next="Deploy that version again with deploy_project, then promote it.",
            )
        cold = pair.slot(slot).deployment != pair.previous
        if cold and (why := await self._outfit.shut(tx, project, await tx.deployments.get(pair.previous))):
            raise Unavailable(f"that version cannot be started: {why.message}", next=why.next)
        return await self._intent(
            tx, pair, call, id, "rollback", slot, pair.previous, reason=reason, cold=cold
        )

    async def _held_free(self, tx: Transaction, key: str) -> SlotPair:
        pair = await tx.slots.hold(key)
        if pair is None:
            raise Conflict("nothing was deployed there yet", next="Call deploy_project first.")
        self._reservations.require_here(pair)
        running = await tx.deployments.running(pair.project, pair.environment)
        if running is not None:
            raise Conflict(
                f"{running.deployed_by} deploys version {running.version} there since {running.created_at:%H:%M:%S} UTC",
                next=f"Wait for it, or end it with cancel_deployment('{running.id}').",
                deployment=running.id,
                by=running.deployed_by,
                since=running.created_at.isoformat(),
            )
        require_no_switch(pair)
        return pair

    async def _fence(
        self,
        tx: Transaction,
        call: Call,
        project: Project,
        deployment: Deployment,
        task_id: str | None,
        fence: int | None,
    ) -> None:
        """Raises Locked while others edit what this version changes, Conflict when the fence is passed."""
        if fence is None and not deployment.changed_paths:
            return
        board = await held_board(tx, call.caller, project.name, holder_of(call.caller, task_id))
        others = [
            lock
            for lock in board.swept.live
            if lock.holder != board.holder and (task_id is None or lock.task_id != task_id)
        ]
        clashes = clashes_of(others, deployment.changed_paths, "reviewing", None, board.now)
        if clashes:
            raise await locked(tx, clashes)
        if fence is not None and not any(
            lock.fence == fence and (lock.holder == board.holder or lock.task_id == task_id)
            for lock in board.swept.live
        ):
            raise Conflict(
                f"no lock with fence {fence} is held any more: its lease ended, and others may have edited the files",
                next="Lock the files again, look at what changed, deploy again, then promote with the new fence.",
            )

    async def _intent(
        self,
        tx: Transaction,
        pair: SlotPair,
        call: Call,
        id: str,
        kind: SwitchKind,
        slot: SlotName,
        deployment: str,
        *,
        reason: str | None = None,
        task_id: str | None = None,
        cold: bool = False,
    ) -> SwitchBegun:
        switch = Switch(
            id=id,
            kind=kind,
            slot=slot,
            from_slot=pair.active,
            deployment=deployment,
            cold=cold,
            reason=reason,
            task_id=task_id,
            by=call.caller.user[:255],
            at=await tx.now(),
            worker=self._workers.me,
        )
        await tx.slots.save(pair.change(switch=switch))
        return SwitchBegun(switch=id, pair=pair.key)


def _nothing_to_promote(pair: SlotPair) -> str:
    held = pair.slot(pair.idle)
    if held.state == "grace":
        return (
            f"there is nothing new to promote: {pair.idle} holds version {held.version}, "
            "which was replaced; rollback leads back to it"
        )
    return "there is nothing to promote"
