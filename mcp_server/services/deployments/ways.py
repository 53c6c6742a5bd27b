"""A switch with what it moves."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_server.domain.deployments import Deployment
from mcp_server.domain.projects import Project
from mcp_server.domain.slots import SlotPair, Switch
from mcp_server.ports.store import Reading
from mcp_server.services.deployments.berths import Berth


@dataclass(frozen=True, slots=True)
class Way:
    project: Project
    pair: SlotPair
    switch: Switch
    deployment: Deployment

    @property
    def berth(self) -> Berth:
        return Berth(self.project.name, self.project.uid, self.pair.environment, self.switch.slot)


async def way_of(tx: Reading, *, key: str, id: str, worker: str) -> Way | None:
    """None when the switch is settled, or another process's."""
    pair = await tx.slots.get(key)
    switch = None if pair is None else pair.switching
    if pair is None or switch is None or switch.id != id or switch.worker != worker:
        return None
    project = await tx.projects.get(pair.project)
    deployment = await tx.deployments.get(switch.deployment)
    if project is None or deployment is None:
        return None
    return Way(project, pair, switch, deployment)
