"""Deployments and their steps."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mcp_server.domain.errors import Failure
from mcp_server.domain.receipts import Receipt
from mcp_server.domain.records import Moment, Record, Value
from mcp_server.domain.slots import SlotName
from mcp_server.domain.teams import EnvironmentName

DeploymentStatus = Literal["pending", "running", "success", "failed"]
StepStatus = Literal["pending", "running", "success", "failed", "skipped"]

MAX_DETAIL = 4000


class Step(Value):
    """`duration` in milliseconds. `next`: what to do about its failure."""

    name: str
    status: StepStatus
    duration: int | None = None
    detail: str | None = None
    next: str | None = None


class Resources(Value):
    """The most that the application may use; memory in MB"""

    memory: int = Field(default=512, ge=16, le=65536)
    cpus: float = Field(default=1.0, gt=0, le=64)


class Release(Value):
    """All that is needed to start a deployment again. `memory` in MB, `health_timeout` in seconds.

    `image_id` is the content, whatever the image's name means by now; None until the image was found.
    `environment_version` 0: there were no variables.
    """

    project_uid: str
    image_id: str | None = None
    image_digest: str | None = None
    container_port: int = Field(default=3000, ge=1, le=65535)
    health_path: str = Field(default="/health", max_length=500)
    health_timeout: int = Field(default=30, ge=1, le=600)
    environment_version: int = 0
    memory: int = Field(default=512, ge=16, le=65536)
    cpus: float = Field(default=1.0, gt=0, le=64)


class Deployment(Record):
    """`duration` in milliseconds. While `worker` lives nobody else settles a running one.

    `cancelled_by` is who asked for its end; `error` is why it failed.
    """

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
    home: str | None = None
    host: str | None = None
    worker: str | None = None
    release: Release | None = None
    task_id: str | None = Field(default=None, max_length=40)
    changed_paths: tuple[str, ...] = ()
    cancelled_by: str | None = Field(default=None, max_length=255)
    error: str | None = Field(default=None, max_length=2000)
    receipt: Receipt | None = None

    @property
    def key(self) -> str:
        return self.id

    @property
    def running(self) -> bool:
        return self.status == "running"


def begun_step(deployment: Deployment, name: str) -> Deployment:
    return deployment.change(steps=(*deployment.steps, Step(name=name, status="running")))


def ended_step(deployment: Deployment, failure: Failure | None, duration: int | None) -> Deployment:
    """The last step, ended; nothing when no step runs."""
    if not deployment.steps or deployment.steps[-1].status != "running":
        return deployment
    *before, last = deployment.steps
    ended = last.change(status="success" if failure is None else "failed", duration=duration)
    if failure is not None:
        ended = ended.change(detail=failure.message[-MAX_DETAIL:], next=failure.next)
    return deployment.change(steps=(*before, ended))


def settled(deployment: Deployment, now: Moment, failure: Failure | None) -> Deployment:
    """Ended, well when there is no failure. A step that still runs failed with it."""
    ended = ended_step(deployment, failure, None)
    return ended.change(
        status="success" if failure is None else "failed",
        error=None if failure is None else failure.message[:2000],
        worker=None,
        completed_at=now,
        duration=max(0, round((now - deployment.created_at).total_seconds() * 1000)),
    )
