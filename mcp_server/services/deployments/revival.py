"""The application that has the traffic runs, and the proxy reaches it: it is started again from its record, as it
was, when its container ended or is gone.
"""

from __future__ import annotations

import logging

from mcp_server.domain.deployments import Deployment, Release
from mcp_server.domain.errors import QuaymasterError
from mcp_server.domain.projects import Project
from mcp_server.domain.slots import SlotPair
from mcp_server.domain.workloads import Observed
from mcp_server.ports.orchestrator import Orchestrator
from mcp_server.ports.store import Reading, Store
from mcp_server.services.deployments.berths import Berth
from mcp_server.services.deployments.outfit import Outfit
from mcp_server.services.deployments.slots import DEPLOYMENT, Slots, Step

log = logging.getLogger(__name__)
RUNNING = ("running", "restarting", "paused")
"""What the engine looks after by itself, or a person has in hand."""


class Revival:
    def __init__(self, store: Store, engine: Orchestrator, slots: Slots, outfit: Outfit, step: Step) -> None:
        self._store = store
        self._engine = engine
        self._slots = slots
        self._outfit = outfit
        self._step = step

    async def mend(self, berth: Berth, seen: Observed | None) -> bool:
        """Whether it was put right: a container of the same image content and variables runs again, within the
        proxy's reach. `seen` is that of its deployment, as it was listed.

        What stands against it (the image is gone, another server was quicker) is logged, and the status goes on
        telling what is wrong. Nobody waits here until it is healthy: traffic leads there already.
        """
        if seen is not None and seen.state in RUNNING and self._reached(seen):
            return False
        found = await self._store.read(lambda tx: self._look(tx, berth))
        if found is None:
            return False
        try:
            return await self._mended(berth, *found)
        except QuaymasterError as error:
            log.warning("%s has the traffic and cannot be mended: %s", berth.name, error.message)
            return False

    def _reached(self, seen: Observed) -> bool:
        return self._slots.edge.network is None or self._slots.edge.network in seen.networks

    async def _mended(
        self, berth: Berth, project: Project, deployment: Deployment, release: Release, port: int | None
    ) -> bool:
        """Looked at once more, now that nobody is about to move the traffic."""
        seen = await self._engine.inspect(berth.name)
        if seen is None:
            image = await self._slots.image(deployment)
            variables = await self._outfit.of(project, berth.environment, release)
            port = await self._slots.start(berth, deployment, release, image, variables)
            self._step("revive.started")
        elif seen.labels.get(DEPLOYMENT) != deployment.id or port is None:
            return False
        elif seen.state not in RUNNING:
            await self._engine.start(self._slots.ref(berth))
        await self._slots.join_edge(berth, release, port)
        log.info("mended what has the traffic", extra={"container": berth.name})
        return True

    async def _look(
        self, tx: Reading, berth: Berth
    ) -> tuple[Project, Deployment, Release, int | None] | None:
        """What should run there; None when traffic leads elsewhere by now, or is about to."""
        pair = await tx.slots.get(berth.pair)
        project = await tx.projects.get(berth.project)
        if pair is None or project is None or project.uid != berth.uid or not _wanted(pair, berth):
            return None
        deployment = await tx.deployments.get(pair.slot(berth.slot).deployment or "")
        if deployment is None or deployment.release is None or deployment.release.image_id is None:
            return None
        return project, deployment, deployment.release, pair.slot(berth.slot).port


def _wanted(pair: SlotPair, berth: Berth) -> bool:
    return pair.active == berth.slot and pair.switching is None
