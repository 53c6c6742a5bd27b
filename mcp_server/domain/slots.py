"""Blue and green of a project and environment."""

from __future__ import annotations

from typing import ClassVar, Literal

from mcp_server.domain.records import Moment, Record, Value
from mcp_server.domain.teams import EnvironmentName

SlotName = Literal["blue", "green"]
SlotState = Literal["empty", "deployed", "active", "grace"]


class Slot(Value):
    state: SlotState = "empty"
    port: int | None = None
    version: str | None = None
    image: str | None = None
    deployed_at: Moment | None = None
    deployed_by: str | None = None
    health_status: str = "unknown"


class SlotPair(Record):
    noun: ClassVar[str] = "slots"
    project: str
    environment: EnvironmentName
    active_slot: SlotName = "blue"
    blue: Slot = Slot()
    green: Slot = Slot()
    grace_expires_at: Moment | None = None
    updated_at: Moment

    @property
    def key(self) -> str:
        return f"{self.project}/{self.environment}"
