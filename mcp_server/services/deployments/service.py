"""Deployments: a version is started beside the one that has the traffic, and kept when it is healthy.

The row in status `running` reserves the environment (`reservations`). The work belongs to the server (`rollouts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import anyio

from mcp_server.domain.callers import Caller
from mcp_server.domain.deployments import Deployment, Resources
from mcp_server.domain.errors import NotFound
from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.projects import Project
from mcp_server.domain.records import Moment
from mcp_server.domain.slots import SlotName, SlotPair, pair_key
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.store import Reading, Store, Transaction
from mcp_server.services.access import chosen_environment, project_of
from mcp_server.services.calls import Call, Calls
from mcp_server.services.deployments.berths import Berth
from mcp_server.services.deployments.outfit import Outfit
from mcp_server.services.deployments.recovery import Recovery
from mcp_server.services.deployments.reservations import Begun, Reservations, wanted_of
from mcp_server.services.deployments.rollouts import Rollouts
from mcp_server.services.deployments.slots import Slots, Variables
from mcp_server.services.deployments.slots import Step as Passed
from mcp_server.services.deployments.views import (
    DeploymentList,
    DeploymentView,
    LogView,
    framed,
    in_its_slot,
    item_of,
    view_of,
)
from mcp_server.services.pages import page_size
from mcp_server.services.works import Works

MAX_WAIT = 600
LOOK_SECONDS = 0.3
HEALTH_PATH = r"^(?:/[!-~]{0,499})?$"


class Deployments:
    def __init__(
        self,
        calls: Calls,
        store: Store,
        slots: Slots,
        recovery: Recovery,
        reservations: Reservations,
        rollouts: Rollouts,
        works: Works,
        outfit: Outfit,
        *,
        step: Passed,
    ) -> None:
        self._calls = calls
        self._store = store
        self._slots = slots
        self._recovery = recovery
        self._reservations = reservations
        self._rollouts = rollouts
        self._works = works
        self._outfit = outfit
        self._step = step

    # -- use cases ---------------------------------------------------------------------------------------

    async def deploy(
        self,
        call: Call,
        project: str,
        image: str,
        environment: EnvironmentName | None = None,
        version: str | None = None,
        container_port: int = 3000,
        health_path: str = "/health",
        health_timeout: int | None = None,
        resources: Resources | None = None,
        task_id: str | None = None,
        changed_paths: Sequence[str] = (),
        discard_grace: bool = False,
        wait_seconds: float = 45,
    ) -> DeploymentView:
        """Start a version in the idle slot; traffic stays where it is.

        Raises Conflict when the environment is taken by another deployment or switch (who, since when), and
        when the idle slot is the lifeboat of an unhealthy active one; Unavailable when its variables cannot be opened.
        """
        deployment_id = call.new_id("d")
        call.about("deployments", deployment_id)
        limits = resources or Resources()
        wanted = wanted_of(
            image,
            version,
            environment,
            {"container_port": container_port, "health_path": health_path, **limits.model_dump()},
            health_timeout,
            task_id,
            changed_paths,
            discard_grace,
        )
        key = await self._calls.read(
            partial(self._deployable, call=call, name=project, environment=environment)
        )
        await self._recovery.settle_abandoned(key)
        lifeboat = None if discard_grace else await self._reservations.needed_lifeboat(key)
        reserve = partial(
            self._reservations.reserve,
            call=call,
            name=project,
            wanted=wanted,
            id=deployment_id,
            lifeboat=lifeboat,
        )
        with anyio.CancelScope(shield=True):
            # A caller that goes away between the two would leave the place to nobody's work, and this process lives.
            begun = await self._calls.write(call, reserve, Begun)
            self._step("deploy.reserved")
            self._rollouts.begin(call, begun.deployment)
        view = await self._followed(call, begun.deployment, wait_seconds)
        return view.change(notices=(*begun.notices, *view.notices))

    async def get(self, call: Call, deployment_id: str, wait_seconds: float = 0) -> DeploymentView:
        """The deployment; waits for its end as long as it is told to."""
        call.about("deployments", deployment_id)
        found = await self._calls.read(partial(_mine, caller=call.caller, id=deployment_id))
        if found.running:
            await self._recovery.settle_abandoned(pair_key(found.project, found.environment))
        return await self._followed(call, deployment_id, wait_seconds)

    async def list(
        self,
        call: Call,
        project: str,
        environment: EnvironmentName | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> DeploymentList:
        """The newest first."""
        size = page_size(limit)
        call.about("projects", project)

        async def look(tx: Reading) -> DeploymentList:
            found = await project_of(tx, call.caller, project)
            page = await tx.deployments.of_project(
                found.name, environment=environment, limit=size, after=cursor
            )
            return DeploymentList(deployments=tuple(item_of(one) for one in page.items), cursor=page.cursor)

        return await self._calls.read(look)

    async def cancel(self, call: Call, deployment_id: str) -> DeploymentView:
        """End a running deployment; what it started is gone when it is settled. Ended ones stay as they are."""
        call.about("deployments", deployment_id)

        async def ask(tx: Transaction) -> Begun:
            found = await _mine(tx, caller=call.caller, id=deployment_id)
            held = await tx.deployments.hold(found.id)
            if held is not None and held.running and held.cancelled_by is None:
                await tx.deployments.save(held.change(cancelled_by=call.caller.user[:255]))
            return Begun(deployment=deployment_id)

        await self._calls.write(call, ask, Begun)
        work = self._works.get(deployment_id)
        if work is not None:
            work.cancel()
        found = await self._calls.read(partial(_mine, caller=call.caller, id=deployment_id))
        if found.running:
            await self._recovery.settle_abandoned(pair_key(found.project, found.environment))
        return await self._followed(call, deployment_id, 45)

    async def logs(
        self,
        call: Call,
        project: str,
        environment: EnvironmentName | None = None,
        slot: SlotName | None = None,
        tail: int = 100,
        since: Moment | None = None,
    ) -> LogView:
        """The newest lines of a slot's application (without `slot`: of the active one, else of the idle one)."""

        async def look(tx: Reading) -> tuple[Project, SlotPair, Variables]:
            found = await project_of(tx, call.caller, project)
            pair = await _known_pair(tx, found, await chosen_environment(tx, call.caller, environment))
            name = slot or pair.active or pair.idle
            deployment = await tx.deployments.get(pair.slot(name).deployment or "")
            release = None if deployment is None else deployment.release
            version = 0 if release is None else release.environment_version
            return found, pair, await self._outfit.of_version(tx, found, pair.environment, version)

        found, pair, variables = await self._calls.read(look)
        self._reservations.require_here(pair)
        name = slot or pair.active or pair.idle
        call.about("projects", f"{found.name}/{pair.environment}")
        berth = Berth(found.name, found.uid, pair.environment, name)
        given = await self._outfit.provided(found, pair.environment)
        try:
            text, truncated = await self._slots.logs(berth, {**given, **variables}, tail=tail, since=since)
        except NotFound as error:
            raise NotFound(
                f"no container runs in {name} of '{found.name}' ({pair.environment})",
                next="get_deployment has the last lines of one that failed; slot_status shows what runs.",
            ) from error
        return LogView(
            project=found.name,
            environment=pair.environment,
            slot=name,
            deployment=pair.slot(name).deployment,
            truncated=truncated,
            text=framed(text),
        )

    async def _deployable(
        self, tx: Reading, *, call: Call, name: str, environment: EnvironmentName | None
    ) -> str:
        """The key of the pair. Raises Unavailable when the variables cannot be opened: nothing was given up for it."""
        found = await project_of(tx, call.caller, name)
        chosen = await chosen_environment(tx, call.caller, environment)
        variables = await tx.environments.get(pair_key(found.name, chosen))
        await self._outfit.of_version(tx, found, chosen, 0 if variables is None else variables.version)
        return pair_key(found.name, chosen)

    # -- following ---------------------------------------------------------------------------------------

    async def _followed(self, call: Call, deployment_id: str, seconds: float) -> DeploymentView:
        """The view when it has ended, or after this long."""
        with anyio.move_on_after(min(max(seconds, 0), MAX_WAIT)):
            work = self._works.get(deployment_id)
            if work is not None:
                await work.follow(MAX_WAIT, call.tell)
            while seconds > 0:
                found = await self._store.read(lambda tx: tx.deployments.get(deployment_id))
                if found is None or not found.running:
                    break
                await anyio.sleep(LOOK_SECONDS)
        return await self._calls.read(partial(self._view_of, caller=call.caller, id=deployment_id))

    async def _view_of(self, tx: Reading, *, caller: Caller, id: str) -> DeploymentView:
        found = await _mine(tx, caller=caller, id=id)
        pair = await tx.slots.get(pair_key(found.project, found.environment))
        uid = found.release.project_uid if found.release else ""
        berth = Berth(found.project, uid, found.environment, found.slot)
        return view_of(found, pair, self._slots.preview_url(berth) if in_its_slot(found, pair) else None)


async def _known_pair(tx: Reading, project: Project, environment: EnvironmentName) -> SlotPair:
    pair = await tx.slots.get(pair_key(project.name, environment))
    if pair is None:
        raise NotFound(
            f"nothing was ever deployed to {environment} of '{project.name}'", next="Call deploy_project."
        )
    return pair


async def _mine(tx: Reading, *, caller: Caller, id: str) -> Deployment:
    """The deployment in the caller's team. Raises NotFound, also for another team's."""
    found = await tx.deployments.get(id)
    project = None if found is None else await tx.projects.get(found.project)
    if found is None or project is None or project.team_id != caller.team_id:
        raise NotFound("no such deployment in this team", next="list_deployments shows a project's.")
    return found
