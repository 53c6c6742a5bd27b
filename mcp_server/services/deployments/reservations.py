"""The place that a deployment takes: one environment of one project, on this home, while nobody else is at work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mcp_server.domain.callers import Caller
from mcp_server.domain.deployments import Deployment, Release
from mcp_server.domain.errors import Conflict, Invalid, WrongHost
from mcp_server.domain.hosts import environment_host
from mcp_server.domain.locks import canonical_paths
from mcp_server.domain.projects import Project
from mcp_server.domain.results import Result
from mcp_server.domain.slots import SlotName, SlotPair, pair_key
from mcp_server.domain.tasks import Task
from mcp_server.domain.teams import EnvironmentName
from mcp_server.domain.validation import checked
from mcp_server.domain.workloads import image_name
from mcp_server.ports.databases import Workers
from mcp_server.ports.store import Reading, Store, Transaction
from mcp_server.services.access import project_of, task_of, team_of
from mcp_server.services.calls import Call
from mcp_server.services.deployments.berths import Berth
from mcp_server.services.deployments.slots import Slots

MAX_CHANGED = 500


class Begun(Result):
    """What is remembered of a call that began a deployment: which one."""

    deployment: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """A deploy as it was asked for, checked as far as that needs no look at anything."""

    image: str
    version: str
    environment: EnvironmentName | None
    fields: dict[str, Any]
    health_timeout: int | None
    task_id: str | None
    changed_paths: tuple[str, ...]
    discard_grace: bool


class Reservations:
    def __init__(self, store: Store, slots: Slots, workers: Workers) -> None:
        self._store = store
        self._slots = slots
        self._workers = workers

    async def needed_lifeboat(self, key: str) -> str | None:
        """Why the grace slot must stay: the active slot is not healthy. None when nothing speaks against it."""

        async def look(tx: Reading) -> tuple[SlotPair, Project, Deployment | None] | None:
            pair = await tx.slots.get(key)
            project = None if pair is None else await tx.projects.get(pair.project)
            if pair is None or project is None or pair.active is None:
                return None
            return pair, project, await tx.deployments.get(pair.slot(pair.active).deployment or "")

        found = await self._store.read(look)
        if found is None:
            return None
        pair, project, deployment = found
        if pair.slot(pair.idle).state != "grace" or pair.home != self._slots.site.home:
            return None
        berth = Berth(pair.project, project.uid, pair.environment, pair.active_slot)
        release = None if deployment is None else deployment.release
        seen = await self._slots.look(berth, release, pair.slot(pair.active_slot).port)
        return None if seen.health in ("healthy", "starting") else seen.reason or seen.health

    async def reserve(
        self, tx: Transaction, *, call: Call, name: str, wanted: Wanted, id: str, lifeboat: str | None
    ) -> Begun:
        """The deployment in status `running`, in the idle slot. Raises Conflict, NotFound, WrongHost."""
        project = await project_of(tx, call.caller, name)
        team = await team_of(tx, call.caller)
        defaults = team.settings.deploymentDefaults
        environment = wanted.environment or defaults.environment
        environment_host(project.name, environment, self._slots.options.base_domain)
        await _require_task(tx, call.caller, project, wanted.task_id)
        pair = await self._held_pair(tx, project, environment)
        await self._require_free(tx, pair)
        slot = pair.idle
        if lifeboat is not None and pair.slot(slot).state == "grace":
            raise Conflict(
                f"the active version is not healthy ({lifeboat}), and the one before it waits in {slot}",
                next="Call rollback, or pass discard_grace=true to give that version up.",
            )
        variables = await tx.environments.get(pair.key)
        deployment = Deployment(
            id=id,
            project=project.name,
            environment=environment,
            slot=slot,
            version=wanted.version,
            image=wanted.image,
            status="running",
            deployed_by=call.caller.user[:255],
            created_at=await tx.now(),
            home=self._slots.site.home,
            host=self._slots.site.host,
            worker=self._workers.me,
            release=checked(
                Release,
                {
                    "project_uid": project.uid,
                    "health_timeout": wanted.health_timeout or defaults.healthCheckTimeout,
                    "environment_version": 0 if variables is None else variables.version,
                    **wanted.fields,
                },
            ),
            task_id=wanted.task_id,
            changed_paths=wanted.changed_paths,
        )
        await tx.deployments.add(deployment)
        return Begun(deployment=id, notices=_warnings(pair, slot))

    async def _held_pair(self, tx: Transaction, project: Project, environment: EnvironmentName) -> SlotPair:
        """Of this home, which it becomes when nothing runs elsewhere."""
        site = self._slots.site
        pair = await tx.slots.hold(pair_key(project.name, environment))
        here = {"home": site.home, "host": site.host, "host_name": site.host_name}
        if pair is None:
            return await tx.slots.add(
                SlotPair(project=project.name, environment=environment, updated_at=await tx.now(), **here)
            )
        if pair.home == site.home:
            return pair
        if pair.home is not None and (pair.blue.state, pair.green.state) != ("empty", "empty"):
            self.require_here(pair)
        return await tx.slots.save(pair.change(**here))

    async def _require_free(self, tx: Transaction, pair: SlotPair) -> None:
        running = await tx.deployments.running(pair.project, pair.environment)
        if running is not None:
            raise Conflict(
                f"{running.deployed_by} deploys version {running.version} to {pair.environment} since "
                f"{running.created_at:%H:%M:%S} UTC",
                next=f"Wait with get_deployment('{running.id}'), or end it with cancel_deployment.",
                deployment=running.id,
                by=running.deployed_by,
                since=running.created_at.isoformat(),
            )
        require_no_switch(pair)

    def require_here(self, pair: SlotPair) -> None:
        """Raises WrongHost when the pair is another home's."""
        if pair.home is not None and pair.home != self._slots.site.home:
            raise WrongHost(
                f"{pair.project} in {pair.environment} runs on {pair.host_name}", host=pair.host_name or ""
            )


def wanted_of(
    image: str,
    version: str | None,
    environment: EnvironmentName | None,
    fields: dict[str, Any],
    health_timeout: int | None,
    task_id: str | None,
    changed_paths: Sequence[str],
    discard_grace: bool,
) -> Wanted:
    """Raises Invalid."""
    name = image_name(image)
    if version is not None and not (1 <= len(version) <= 100 and version.isprintable()):
        raise Invalid.field("version", "1-100 printable characters")
    paths = canonical_paths(changed_paths, most=MAX_CHANGED) if changed_paths else ()
    checked(Release, {"project_uid": "-", "health_timeout": health_timeout or 30, **fields})
    return Wanted(
        name, version or _tag(name), environment, fields, health_timeout, task_id, paths, discard_grace
    )


def _tag(image: str) -> str:
    """The tag, else the beginning of the digest."""
    name, _, digest = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return tag or (digest or image).removeprefix("sha256:")[:12]


def require_no_switch(pair: SlotPair) -> None:
    """Raises Conflict with who moves the traffic of this pair, and since when."""
    switch = pair.switching
    if switch is not None:
        raise Conflict(
            f"a {switch.kind} to {switch.slot} by {switch.by} is under way since {switch.at:%H:%M:%S} UTC",
            next="Wait until slot_status shows no switch, then call again.",
            by=switch.by,
            since=switch.at.isoformat(),
        )


async def task_here(tx: Reading, caller: Caller, project: Project, task_id: str) -> Task:
    """The task, which must be one of this project. Raises NotFound, Invalid."""
    task = await task_of(tx, caller, task_id)
    if task.project != project.name:
        raise Invalid.field("task_id", "must be a task of this project")
    return task


async def _require_task(tx: Reading, caller: Caller, project: Project, task_id: str | None) -> None:
    if task_id is None:
        return
    task = await task_here(tx, caller, project, task_id)
    if task.status in ("deployed", "cancelled"):
        raise Conflict(f"the task has ended ({task.status})", next="Name another task, or none.")


def _warnings(pair: SlotPair, slot: SlotName) -> tuple[str, ...]:
    held = pair.slot(slot)
    if held.state == "grace":
        return (
            f"until the next promote a rollback starts version {held.version} of {slot} anew: it takes longer",
        )
    if held.state == "deployed":
        return (f"replaces version {held.version} in {slot}, which was not promoted",)
    return ()
