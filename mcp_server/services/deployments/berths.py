"""One slot of one project and environment, by the names that it has everywhere."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_server.domain.our_workloads import slot_workload_name
from mcp_server.domain.routes import route_name
from mcp_server.domain.slots import SlotName, pair_key
from mcp_server.domain.teams import EnvironmentName


@dataclass(frozen=True, slots=True)
class Berth:
    """One slot of one project and environment. `uid` is the project's."""

    project: str
    uid: str
    environment: EnvironmentName
    slot: SlotName

    @property
    def name(self) -> str:
        return slot_workload_name(self.project, self.environment, self.slot)

    @property
    def route(self) -> str:
        return route_name(self.project, self.environment)

    @property
    def pair(self) -> str:
        return pair_key(self.project, self.environment)
