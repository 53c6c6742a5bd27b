"""The short transactions that end a deployment or a switch: used by whoever did the work, and after a crash."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_server.domain.callers import Caller, holder_of
from mcp_server.domain.deployments import MAX_DETAIL, Deployment, Release, Step, settled
from mcp_server.domain.errors import Failure
from mcp_server.domain.receipts import Receipt
from mcp_server.domain.records import Moment
from mcp_server.domain.slots import Slot, SlotName, SlotPair, Switch, filled, promoted, rolled_back, vacated
from mcp_server.domain.tasks import TRANSITIONS, Task, TaskStatus, moved
from mcp_server.ports.store import Transaction
from mcp_server.services.lock_board import held_board, release_task

FAILED = Failure("the server failed at this work; the operator finds why in the log")
STOPPED = Failure("the server stopped before it was done", "Begin it anew")
BROKEN_OFF = Failure("the server ended before it was done", "Begin it anew")

ON_THE_WAY: tuple[TaskStatus, ...] = ("in-progress", "done", "deployed")
"""A task that goes live passes through these, as far as it has not yet."""


async def end_deployment(
    tx: Transaction,
    deployment_id: str,
    worker: str | None,
    *,
    failure: Failure | None = None,
    steps: Sequence[Step] | None = None,
    release: Release | None = None,
) -> Deployment | None:
    """The deployment as it ended; what is settled, or another's by now, stays as it is. None: it is gone.

    Well, when there is no failure: its slot is filled.
    """
    found = await tx.deployments.get(deployment_id)
    if found is None:
        return None
    pair = await tx.slots.hold(f"{found.project}/{found.environment}")
    found = await tx.deployments.hold(deployment_id)
    if found is None or not found.running or found.worker != worker:
        return found
    now = await tx.now()
    told = found.change(
        steps=found.steps if steps is None else tuple(steps), release=release or found.release
    )
    if failure is None and pair is not None:
        await tx.slots.save(filled(pair, told.slot, slot_of(told, pair, now), now))
    return await tx.deployments.save(settled(told, now, failure))


async def not_promoted(tx: Transaction, id: str, failure: Failure) -> None:
    """A deployment that went well, and that a team which promotes by itself could not promote."""
    found = await tx.deployments.hold(id)
    if found is not None and found.status == "success" and found.promoted_at is None:
        why = failure.message[:MAX_DETAIL]
        failed = Step(name="promote", status="failed", detail=why, next=failure.next)
        await tx.deployments.save(found.change(steps=(*found.steps, failed)))


def slot_of(deployment: Deployment, pair: SlotPair, now: Moment) -> Slot:
    """The slot in which this deployment has just become healthy."""
    return Slot(
        port=pair.slot(deployment.slot).port,
        version=deployment.version,
        image=deployment.image,
        deployed_at=now,
        deployed_by=deployment.deployed_by,
        health_status="healthy",
        deployment=deployment.id,
    )


async def empty_slot(tx: Transaction, key: str, name: SlotName, deployment: str | None) -> SlotPair | None:
    """The slot is empty, if that deployment is still in it."""
    pair = await tx.slots.hold(key)
    if pair is None or pair.slot(name).deployment != deployment or pair.slot(name).state == "empty":
        return pair
    return await tx.slots.save(vacated(pair, name, await tx.now()))


async def end_switch(
    tx: Transaction,
    key: str,
    switch_id: str,
    *,
    failure: Failure | None = None,
    receipt: Receipt | None = None,
) -> SlotPair | None:
    """The pair after the switch: traffic is on its slot when there is no failure, else where it was.

    A switch that is settled already stays as it is. None: the project is gone.
    """
    seen = await tx.slots.get(key)
    if seen is None or seen.switching is None or seen.switching.id != switch_id:
        return seen
    if failure is None:
        await _finish_task(tx, seen, seen.switching)
    pair = await tx.slots.hold(key)
    if pair is None or pair.switching is None or pair.switching.id != switch_id:
        return pair
    switch, now = pair.switching, await tx.now()
    if failure is None:
        after = await _traffic_moved(tx, pair, switch, receipt, now)
    else:
        await _keep_receipt(tx, switch, receipt)
        after = pair.change(updated_at=now)
    ended = switch.change(stage="done", ended_at=now, worker=None)
    if failure is not None:
        ended = ended.change(stage="returned", error=failure.message[:2000], next=failure.next)
    return await tx.slots.save(after.change(switch=ended))


async def _traffic_moved(
    tx: Transaction, pair: SlotPair, switch: Switch, receipt: Receipt | None, now: Moment
) -> SlotPair:
    gained = await tx.deployments.hold(switch.deployment)
    if switch.kind == "promote":
        if gained is not None:
            marks = gained.change(promoted_at=now, promoted_by=switch.by, receipt=receipt)
            await tx.deployments.save(marks.change(rolled_back_at=None, rolled_back_by=None))
        return promoted(pair, switch.slot, now, await _grace_hours(tx, pair))
    left = pair.slot(pair.active_slot).deployment
    lost = None if left is None else await tx.deployments.hold(left)
    if gained is not None:
        await tx.deployments.save(gained.change(receipt=receipt))
    if lost is not None and lost.id != switch.deployment:
        await tx.deployments.save(
            lost.change(rolled_back_at=now, rolled_back_by=switch.by, rollback_reason=switch.reason)
        )
    return rolled_back(pair, switch.slot, now)


async def _keep_receipt(tx: Transaction, switch: Switch, receipt: Receipt | None) -> None:
    """None, too: the receipt of a switch before it would be taken for this one's."""
    deployment = await tx.deployments.hold(switch.deployment)
    if deployment is not None and deployment.receipt != receipt:
        await tx.deployments.save(deployment.change(receipt=receipt))


async def _grace_hours(tx: Transaction, pair: SlotPair) -> int:
    project = await tx.projects.get(pair.project)
    team = None if project is None else await tx.teams.get(project.team_id)
    return 48 if team is None else team.settings.deploymentDefaults.graceHours


async def _finish_task(tx: Transaction, pair: SlotPair, switch: Switch) -> None:
    """The task of what goes live is deployed, and its locks are released; one that was cancelled stays so."""
    if switch.kind != "promote" or switch.task_id is None:
        return
    task = await tx.tasks.get(switch.task_id)
    project = await tx.projects.get(pair.project)
    if task is None or project is None or task.project != project.name:
        return
    if task.status in ("deployed", "cancelled"):
        return
    caller = Caller(team_id=project.team_id, role="member", user=switch.by, key_id="quaymaster")
    board = await held_board(tx, caller, pair.project, holder_of(caller))
    held = await tx.tasks.hold(task.id)
    if held is None:
        return
    live = _deployed(held, board.now).change(deploy_id=switch.deployment)
    await tx.tasks.save(live)
    await release_task(tx, board, live)


def _deployed(task: Task, now: Moment) -> Task:
    """By the steps that the table of tasks allows."""
    while task.status != "deployed":
        following = next((one for one in reversed(ON_THE_WAY) if one in TRANSITIONS[task.status]), None)
        if following is None:
            return task
        task = moved(task, following, now)
    return task
