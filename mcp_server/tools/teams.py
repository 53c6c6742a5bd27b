"""Teams and what they set for themselves."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.results import PlanResult
from mcp_server.domain.teams import EnvironmentName
from mcp_server.services.calls import Call
from mcp_server.services.teams import TeamCreated, TeamList, Teams, TeamView
from mcp_server.tools.arguments import Cursor, Limit
from mcp_server.tools.catalogue import Catalogue

TeamName = Annotated[str, Field(min_length=1, max_length=255)]
TeamRef = Annotated[str, Field(min_length=1, max_length=100, description="Id or slug; yours when left out")]
Address = Annotated[str, Field(max_length=500)]


class Patch(BaseModel):
    """Fields that are given; the others stay as they are."""

    model_config = ConfigDict(extra="forbid")

    def given(self) -> dict[str, Any]:
        return self.model_dump(exclude_unset=True)


class NotificationsPatch(Patch):
    __doc__ = None
    slack: Address | None = None
    discord: Address | None = None


class DeploymentDefaultsPatch(Patch):
    __doc__ = None
    environment: EnvironmentName = "staging"
    autoPromote: bool = False
    healthCheckTimeout: int = Field(default=30, ge=1, le=600)
    graceHours: int = Field(default=48, ge=1, le=720)


class SettingsPatch(Patch):
    __doc__ = None
    notifications: NotificationsPatch = Field(default_factory=NotificationsPatch)
    deploymentDefaults: DeploymentDefaultsPatch = Field(default_factory=DeploymentDefaultsPatch)


def add_team_tools(catalogue: Catalogue, teams: Teams) -> None:
    @catalogue.changing("teams")
    async def create_team(call: Call, name: TeamName) -> TeamCreated:
        """Create another team. Its owner key is in the result and is never shown again."""
        return await teams.create(call, name=name)

    @catalogue.reading("teams")
    async def get_team(call: Call, team: TeamRef | None = None) -> TeamView:
        """Get your team and its settings."""
        return await teams.get(call, team=team)

    @catalogue.reading("teams")
    async def list_teams(call: Call, limit: Limit = DEFAULT_LIMIT, cursor: Cursor | None = None) -> TeamList:
        """List the teams that this key can reach."""
        return await teams.list(call, limit=limit, cursor=cursor)

    @catalogue.changing("teams", idempotent=True)
    async def update_team(
        call: Call,
        team: TeamRef | None = None,
        name: TeamName | None = None,
        settings: SettingsPatch = SettingsPatch(),  # noqa: B008 - never changed
    ) -> TeamView:
        """Change the name or the given settings; others stay. A webhook address of null is removed."""
        return await teams.update(call, team=team, name=name, settings=settings.given())

    @catalogue.planned("teams")
    async def delete_team(call: Call, team: TeamRef | None = None) -> PlanResult:
        """Delete your team, its members and keys. First returns a plan."""
        return await teams.delete(call, team=team)
