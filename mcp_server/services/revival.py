"""The application that has the traffic is started again when its container is gone: from its record, as it was."""

from __future__ import annotations

import logging

from mcp_server.domain.deployments import Deployment, Release
from mcp_server.domain.errors import QuaymasterError
from mcp_server.domain.projects import Project
from mcp_server.domain.slots import SlotPair
from mcp_server.ports.orchestrator import Orchestrator
from mcp_server.ports.store import Reading, Store
from mcp_server.services.outfit import Outfit
from mcp_server.services.slots import Berth, Slots, Step

log = logging.getLogger(__name__)


class Revival:
    def __init__(self, store: Store, engine: Orchestrator, slots: Slots, outfit: Outfit, step: Step) -> None:
        self._store = store
        self._engine = engine
        self._slots = slots
        self._outfit = outfit
        self._step = step

    async def revive(self, berth: Berth) -> bool:
        """Whether a container of the same image content and variables runs in the berth again.

        What stands against it (the image is gone, another server was quicker) is logged, and the status goes on
        telling that the container is missing. Nobody waits here until it is healthy: traffic leads there already.
        """
        found = await self._store.read(lambda tx: self._look(tx, berth))
        if found is None or await self._engine.inspect(berth.name) is not None:
            return False
        project, deployment, release = found
        try:
            image = await self._slots.image(deployment)
            variables = await self._outfit.of(project, berth.environment, release)
            port = await self._slots.start(berth, deployment, release, image, variables)
            self._step("revive.started")
            await self._slots.join_edge(berth, release, port)
        except QuaymasterError as error:
            log.warning("%s has the traffic and cannot be started again: %s", berth.name, error.message)
            return False
        log.info("started again what has the traffic", extra={"container": berth.name})
        return True

    async def _look(self, tx: Reading, berth: Berth) -> tuple[Project, Deployment, Release] | None:
        """What should run there; None when traffic leads elsewhere by now, or is about to."""
        pair = await tx.slots.get(berth.pair)
        project = await tx.projects.get(berth.project)
        if pair is None or project is None or project.uid != berth.uid or not _wanted(pair, berth):
            return None
        deployment = await tx.deployments.get(pair.slot(berth.slot).deployment or "")
        if deployment is None or deployment.release is None or deployment.release.image_id is None:
            return None
        return project, deployment, deployment.release


def _wanted(pair: SlotPair, berth: Berth) -> bool:
    return pair.active == berth.slot and pair.switching is None
