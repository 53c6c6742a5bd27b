"""Deployments and their steps."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mcp_server.domain.records import Moment, Record, Value
from mcp_server.domain.slots import SlotName
from mcp_server.domain.teams import EnvironmentName

DeploymentStatus = Literal["pending", "running", "success", "failed"]


class Step(Value):
    """`duration` in milliseconds."""

    name: str
    status: Literal["pending", "running", "success", "failed", "skipped"]
    duration: int | None = None
    detail: str | None = None


class Deployment(Record):
    """`duration` in milliseconds."""

    noun: ClassVar[str] = "deployments"
    id: str = Field(min_length=1, max_length=32)
    project: str
    environment: EnvironmentName
    slot: SlotName
    version: str | None = Field(default=None, max_length=100)
    image: str | None = Field(default=None, max_length=500)
    status: DeploymentStatus = "pending"
    deployed_by: str | None = Field(default=None, max_length=255)
    promoted_at: Moment | None = None
    promoted_by: str | None = Field(default=None, max_length=255)
    rolled_back_at: Moment | None = None
    rolled_back_by: str | None = Field(default=None, max_length=255)
    rollback_reason: str | None = None
    steps: tuple[Step, ...] = ()
    duration: int | None = None
    created_at: Moment
    completed_at: Moment | None = None

    @property
    def key(self) -> str:
        return self.id
