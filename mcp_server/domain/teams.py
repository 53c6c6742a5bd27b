"""Teams and what a team may set for itself."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mcp_server.domain.records import Moment, Record, Value

EnvironmentName = Literal["production", "staging", "preview"]


class Notifications(Value):
    """Webhook addresses; None sends nothing."""

    slack: str | None = None
    discord: str | None = None


class DeploymentDefaults(Value):
    """`healthCheckTimeout` in seconds, `graceHours` in hours."""

    environment: EnvironmentName = "staging"
    autoPromote: bool = False
    healthCheckTimeout: int = Field(default=30, ge=1, le=600)
    graceHours: int = Field(default=48, ge=1, le=720)


class TeamSettings(Value):
    notifications: Notifications = Notifications()
    deploymentDefaults: DeploymentDefaults = DeploymentDefaults()


class Team(Record):
    """`id` and `slug` never contain an underscore, so that a key can always be parsed."""

    noun: ClassVar[str] = "teams"
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    name: str = Field(min_length=1, max_length=255)
    slug: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,99}$")
    owner: str = Field(min_length=1, max_length=255)
    plan: Literal["free", "pro", "enterprise"] = "free"
    settings: TeamSettings = TeamSettings()
    created_at: Moment
    updated_at: Moment

    @property
    def key(self) -> str:
        return self.id
