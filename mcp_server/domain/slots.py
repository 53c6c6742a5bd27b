"""Blue and green of a project and environment, and the one table of how a slot changes.

| state | means |
|---|---|
| empty | nothing runs; a deploy may use it |
| deployed | a version runs and no traffic goes to it: not promoted yet, or rolled back from |
| active | all host names lead to it; at most one of a pair |
| grace | was active before the present one; a rollback leads back to it until its time ends |
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import ClassVar, Literal

from mcp_server.domain.errors import Conflict
from mcp_server.domain.records import Moment, Record, Value
from mcp_server.domain.teams import EnvironmentName

SlotName = Literal["blue", "green"]
SlotState = Literal["empty", "deployed", "active", "grace"]
SlotEvent = Literal["deploy", "promote", "give_grace", "restore", "step_back", "clear", "expire"]
SwitchKind = Literal["promote", "rollback"]

TRANSITIONS: Mapping[SlotState, Mapping[SlotEvent, SlotState]] = {
    "empty": {"deploy": "deployed"},
    "deployed": {"promote": "active", "restore": "active", "clear": "empty"},
    "active": {"give_grace": "grace", "step_back": "deployed"},
    "grace": {"restore": "active", "clear": "empty", "expire": "empty"},
}


class Slot(Value):
    """`image` is what was asked for; `deployment` is the one that runs here, and says all the rest of it."""

    state: SlotState = "empty"
    port: int | None = None
    version: str | None = None
    image: str | None = None
    deployed_at: Moment | None = None
    deployed_by: str | None = None
    health_status: str = "unknown"
    deployment: str | None = None


class Switch(Value):
    """Traffic on its way to `slot`, from `from_slot` (None: from nowhere).

    `intended` is written before the proxy is told; while `worker` lives nobody else settles it. `done`: the new
    slot was seen to answer. `returned`: it was not, and traffic is where it was; `error` says why, `next` what to do. `deployment` is the one that
    gets the traffic.
    """

    id: str
    kind: SwitchKind
    slot: SlotName
    from_slot: SlotName | None = None
    deployment: str
    stage: Literal["intended", "done", "returned"] = "intended"
    cold: bool = False
    reason: str | None = None
    task_id: str | None = None
    by: str
    at: Moment
    worker: str | None = None
    ended_at: Moment | None = None
    error: str | None = None
    next: str | None = None


class SlotPair(Record):
    """`previous` is the deployment that a rollback leads back to, in the grace slot or to be started anew.

    `switch` is the newest one, settled or not. `home` and `host` are where the containers are; None before the
    first deploy.
    """

    noun: ClassVar[str] = "slots"
    project: str
    environment: EnvironmentName
    active_slot: SlotName = "blue"
    blue: Slot = Slot()
    green: Slot = Slot()
    grace_expires_at: Moment | None = None
    home: str | None = None
    host: str | None = None
    host_name: str | None = None
    previous: str | None = None
    switch: Switch | None = None
    updated_at: Moment

    @property
    def key(self) -> str:
        return pair_key(self.project, self.environment)

    def slot(self, name: SlotName) -> Slot:
        return self.blue if name == "blue" else self.green

    def put(self, name: SlotName, slot: Slot) -> SlotPair:
        return self.change(blue=slot) if name == "blue" else self.change(green=slot)

    @property
    def active(self) -> SlotName | None:
        """The slot that has the traffic; None before the first promote."""
        return self.active_slot if self.slot(self.active_slot).state == "active" else None

    @property
    def idle(self) -> SlotName:
        """Where the next deploy goes: beside the active slot, blue at first."""
        return other(self.active_slot) if self.active else self.active_slot

    @property
    def switching(self) -> Switch | None:
        """The switch that was begun and is not settled."""
        return self.switch if self.switch is not None and self.switch.stage == "intended" else None


def pair_key(project: str, environment: EnvironmentName) -> str:
    return f"{project}/{environment}"


def other(name: SlotName) -> SlotName:
    return "green" if name == "blue" else "blue"


def after(state: SlotState, event: SlotEvent) -> SlotState:
    """Raises Conflict for what the table does not allow."""
    following = TRANSITIONS[state].get(event)
    if following is None:
        raise Conflict(f"a slot that is {state} cannot {event.replace('_', ' ')}", state=state)
    return following


def filled(pair: SlotPair, name: SlotName, slot: Slot, now: Moment) -> SlotPair:
    """A version was started in an empty slot."""
    state = after(pair.slot(name).state, "deploy")
    return pair.put(name, slot.change(state=state)).change(updated_at=now)


def vacated(pair: SlotPair, name: SlotName, now: Moment) -> SlotPair:
    """The slot is empty and keeps its port. What a rollback leads back to stays named: it is cold from now on."""
    slot = pair.slot(name)
    if slot.state == "empty":
        return pair
    grace = None if slot.state == "grace" else pair.grace_expires_at
    emptied = Slot(state=after(slot.state, "clear"), port=slot.port)
    return pair.put(name, emptied).change(grace_expires_at=grace, updated_at=now)


def expired(pair: SlotPair, name: SlotName, now: Moment) -> SlotPair:
    """The time of grace is over: the slot is empty, its port is free, and nothing is left to roll back to."""
    state = after(pair.slot(name).state, "expire")
    gone = pair.put(name, Slot(state=state))
    return gone.change(grace_expires_at=None, previous=None, updated_at=now)


def promoted(pair: SlotPair, name: SlotName, now: Moment, grace_hours: int) -> SlotPair:
    """Traffic is on this slot; the one that had it before is in grace."""
    old = pair.active
    taken = _taken_over(pair, name, "promote", "give_grace", now)
    if old is None:
        return taken.change(previous=None, grace_expires_at=None)
    return taken.change(
        previous=pair.slot(old).deployment, grace_expires_at=now + timedelta(hours=grace_hours)
    )


def rolled_back(pair: SlotPair, name: SlotName, now: Moment) -> SlotPair:
    """Traffic is back on this slot; the one that had it is deployed, and can be promoted again."""
    taken = _taken_over(pair, name, "restore", "step_back", now)
    return taken.change(previous=None, grace_expires_at=None)


def _taken_over(
    pair: SlotPair, name: SlotName, gaining: SlotEvent, losing: SlotEvent, now: Moment
) -> SlotPair:
    old, gained = pair.active, pair.slot(name)
    if old is not None:
        lost = pair.slot(old)
        pair = pair.put(old, lost.change(state=after(lost.state, losing)))
    pair = pair.put(name, gained.change(state=after(gained.state, gaining)))
    return pair.change(active_slot=name, updated_at=now)
