"""The steps of a deployment, written down as they begin and told to whoever follows."""

from __future__ import annotations

import time
from functools import partial

from mcp_server.domain.deployments import Deployment, begun_step, ended_step
from mcp_server.domain.errors import Conflict, Failure
from mcp_server.ports.store import Intent, Store, Transaction
from mcp_server.services.deployments.settling import end_deployment
from mcp_server.services.works import Tell

WORK = Intent("deploy_project", "quaymaster")


class Logbook:
    """Writes the steps of a deployment down as they begin, and tells whoever follows."""

    def __init__(self, store: Store, deployment: Deployment, tell: Tell, worker: str) -> None:
        self.deployment = deployment
        self.release = deployment.release
        self._store = store
        self._tell = tell
        self._worker = worker
        self._since = time.monotonic()

    async def tell(self, line: str) -> None:
        await self._tell(f"{self.deployment.steps[-1].name}: {line}")

    async def begin(self, name: str) -> None:
        """Raises Conflict when the deployment is no longer this process's to go on with."""
        self._end(None)
        self.deployment = begun_step(self.deployment, name)
        await self._tell(name)
        await self._store.run(self._write, WORK)

    async def _write(self, tx: Transaction) -> None:
        held = await tx.deployments.hold(self.deployment.id)
        if held is None or not held.running or held.worker != self._worker or held.cancelled_by is not None:
            raise Conflict("the deployment was ended meanwhile")
        await tx.deployments.save(held.change(steps=self.deployment.steps, release=self.release))

    async def settle(self, failure: Failure | None) -> None:
        self._end(failure)
        end = partial(
            end_deployment,
            deployment_id=self.deployment.id,
            worker=self._worker,
            failure=failure,
            steps=self.deployment.steps,
            release=self.release,
        )
        await self._store.run(end, WORK)

    def _end(self, failure: Failure | None) -> None:
        now = time.monotonic()
        self.deployment = ended_step(self.deployment, failure, round((now - self._since) * 1000))
        self._since = now
