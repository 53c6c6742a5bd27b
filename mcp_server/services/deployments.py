"""Deployments: a version is started beside the one that has the traffic, and kept when it is healthy.

The row in status `running` reserves the environment. The work belongs to the server: a caller that goes away
ends nothing. Failure, cancellation and a crash all end in the same settled state: no container of it, no port.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio

from mcp_server.domain import grants
from mcp_server.domain.callers import Caller
from mcp_server.domain.deployments import (
    Deployment,
    Release,
)
from mcp_server.domain.errors import Conflict, Invalid, NotFound, QuaymasterError, WrongHost
from mcp_server.domain.happenings import Happening
from mcp_server.domain.hosts import environment_host
from mcp_server.domain.locks import canonical_paths
from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.projects import Project
from mcp_server.domain.records import Moment
from mcp_server.domain.results import Result
from mcp_server.domain.slots import SlotName, SlotPair, pair_key
from mcp_server.domain.teams import EnvironmentName
from mcp_server.domain.validation import checked
from mcp_server.domain.workloads import image_name
from mcp_server.ports.databases import Workers
from mcp_server.ports.notifier import Notifier, Silence
from mcp_server.ports.store import Reading, Store, Transaction
from mcp_server.services.access import chosen_environment, project_of, task_of, team_of
from mcp_server.services.calls import Call, Calls
from mcp_server.services.deployment_views import (
    DeploymentList,
    DeploymentView,
    LogView,
    framed,
    item_of,
    view_of,
)
from mcp_server.services.logbook import WORK, Logbook
from mcp_server.services.outfit import Outfit
from mcp_server.services.pages import page_size
from mcp_server.services.recovery import Recovery
from mcp_server.services.settling import empty_slot
from mcp_server.services.slots import Berth, Slots, Variables
from mcp_server.services.slots import Step as Passed
from mcp_server.services.works import Tell, Work, Works, nobody

log = logging.getLogger(__name__)
MAX_WAIT = 600
LOOK_SECONDS = 0.3
TIDY_SECONDS = 60.0
HEALTH_PATH = r"^(?:/[!-~]{0,499})?$"
MAX_CHANGED = 500

Promote = Callable[[Call, Deployment, Tell], Awaitable[None]]


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


class Deployments:
    """`promote` is for teams with autoPromote."""

    def __init__(
        self,
        calls: Calls,
        store: Store,
        slots: Slots,
        recovery: Recovery,
        works: Works,
        workers: Workers,
        outfit: Outfit,
        *,
        step: Passed,
    ) -> None:
        self._calls = calls
        self._store = store
        self._slots = slots
        self._recovery = recovery
        self._works = works
        self._workers = workers
        self._outfit = outfit
        self._step = step
        self.promote: Promote | None = None
        self.notifier: Notifier = Silence()

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
        memory: int = 512,
        cpus: float = 1.0,
        task_id: str | None = None,
        changed_paths: Sequence[str] = (),
        discard_grace: bool = False,
        wait_seconds: float = 45,
    ) -> DeploymentView:
        """Start a version in the idle slot; traffic stays where it is.

        Raises Conflict when the environment is taken by another deployment or switch (who, since when), and
        when the idle slot is the lifeboat of an unhealthy active one.
        """
        deployment_id = call.new_id("d")
        call.about("deployments", deployment_id)
        wanted = _wanted(
            image,
            version,
            environment,
            {"container_port": container_port, "health_path": health_path, "memory": memory, "cpus": cpus},
            health_timeout,
            task_id,
            changed_paths,
            discard_grace,
        )
        key = await self._calls.read(partial(self._pair_of, call=call, name=project, environment=environment))
        await self._recovery.settle_abandoned(key)
        lifeboat = None if discard_grace else await self._needed_lifeboat(key)
        reserve = partial(
            self._reserve, call=call, name=project, wanted=wanted, id=deployment_id, lifeboat=lifeboat
        )
        begun = await self._calls.write(call, reserve, Begun)
        self._step("deploy.reserved")
        self._go_on(call, begun.deployment)
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
        self.require_here(pair)
        name = slot or pair.active or pair.idle
        call.about("projects", f"{found.name}/{pair.environment}")
        berth = Berth(found.name, found.uid, pair.environment, name)
        given = await self._outfit.provided(found, pair.environment)
        text, truncated = await self._slots.logs(berth, {**given, **variables}, tail=tail, since=since)
        return LogView(
            project=found.name,
            environment=pair.environment,
            slot=name,
            deployment=pair.slot(name).deployment,
            truncated=truncated,
            text=framed(text),
        )

    def require_here(self, pair: SlotPair) -> None:
        if pair.home is not None and pair.home != self._slots.site.home:
            raise WrongHost(
                f"{pair.project} in {pair.environment} runs on {pair.host_name}", host=pair.host_name or ""
            )

    # -- reserving ---------------------------------------------------------------------------------------

    async def _pair_of(
        self, tx: Reading, *, call: Call, name: str, environment: EnvironmentName | None
    ) -> str:
        found = await project_of(tx, call.caller, name)
        return pair_key(found.name, await chosen_environment(tx, call.caller, environment))

    async def _needed_lifeboat(self, key: str) -> str | None:
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

    async def _reserve(
        self, tx: Transaction, *, call: Call, name: str, wanted: Wanted, id: str, lifeboat: str | None
    ) -> Begun:
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

    # -- the work ----------------------------------------------------------------------------------------

    def _go_on(self, call: Call, deployment_id: str) -> None:
        """Once per deployment, by the process that reserved it."""
        self._works.begin(deployment_id, partial(self._work, call=call, id=deployment_id))

    async def _work(self, work: Work, *, call: Call, id: str) -> None:
        found = await self._store.read(lambda tx: tx.deployments.get(id))
        if found is None or not found.running or found.worker != self._workers.me:
            return
        book = Logbook(self._store, found, work.tell, self._workers.me)
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._watch, work, id)
            try:
                done = await self._carried_out(found, book)
            finally:
                beside.cancel_scope.cancel()
        await self._told(id)
        if done:
            await self._promoted(call, id, work.tell)

    async def _told(self, id: str) -> None:
        """The team hears how it ended."""

        async def look(tx: Reading) -> tuple[Deployment, Project] | None:
            found = await tx.deployments.get(id)
            project = None if found is None else await tx.projects.get(found.project)
            return None if found is None or project is None else (found, project)

        with suppress(QuaymasterError):
            seen = await self._store.read(look)
            if seen is None or seen[0].running:
                return
            deployment, project = seen
            event = Happening(
                what="failed" if deployment.status == "failed" else "deployed",
                project=project.name,
                environment=deployment.environment,
                version=deployment.version,
                by=deployment.deployed_by,
                detail=deployment.error,
            )
            await self.notifier.tell(project.team_id, event)

    async def _carried_out(self, deployment: Deployment, book: Logbook) -> bool:
        """Whether it went well; however it ends, it is settled."""
        try:
            await self._steps(deployment, book)
        except QuaymasterError as error:
            await self._undo(book, error.message)
        except Exception:
            log.exception("a deployment failed", extra={"deployment": deployment.id})
            await self._undo(book, "the server failed at this work; the operator finds why in the log")
        except BaseException:
            await self._undo(book, "the server stopped before it was done")
            raise
        else:
            return True
        return False

    async def _watch(self, work: Work, id: str) -> None:
        """Somebody may ask another server of this home for the end of this deployment."""
        while True:
            await anyio.sleep(1)
            with suppress(QuaymasterError):
                found = await self._store.read(lambda tx: tx.deployments.get(id))
                if found is None or found.cancelled_by is not None:
                    work.cancel()

    async def _steps(self, deployment: Deployment, book: Logbook) -> None:
        release = deployment.release
        project = await self._store.read(lambda tx: tx.projects.get(deployment.project))
        if release is None or project is None or project.uid != release.project_uid:
            raise NotFound("the project was deleted meanwhile")
        berth = Berth(project.name, project.uid, deployment.environment, deployment.slot)
        await book.begin("image")
        image = await self._slots.image(deployment, book.tell)
        book.release = release = release.change(image_id=image.id, image_digest=image.digest)
        await book.begin("vacate")
        await self.vacate(berth, book.tell)
        await book.begin("start")
        variables = await self._outfit.of(project, deployment.environment, release)
        port = await self._slots.start(berth, deployment, release, image, variables)
        await book.begin("health")
        await self._slots.until_healthy(berth, release, port, variables, book.tell)
        self._step("deploy.healthy")
        await book.begin("route")
        target = await self._slots.join_edge(berth, release, port)
        await self._slots.show_preview(berth, target)
        self._step("deploy.routed")
        await book.settle(None)
        self._step("deploy.settled")

    async def vacate(self, berth: Berth, tell: Tell = nobody) -> None:
        """What ran in the berth has drained, is written off, and is gone. A rollback to it is cold from then on."""

        async def look(tx: Reading) -> tuple[SlotPair | None, Deployment | None]:
            pair = await tx.slots.get(berth.pair)
            name = None if pair is None else pair.slot(berth.slot).deployment
            return pair, await tx.deployments.get(name or "")

        pair, old = await self._store.read(look)
        slot = None if pair is None else pair.slot(berth.slot)
        if slot is not None and slot.state == "active":
            raise Conflict("the slot has the traffic")
        if slot is not None and slot.port is not None and old is not None and old.release is not None:
            await self._slots.drain(berth, old.release, slot.port, tell)
        if slot is not None and slot.state != "empty":
            self._step("deploy.vacate.drained")
            emptied = partial(empty_slot, key=berth.pair, name=berth.slot, deployment=slot.deployment)
            await self._store.run(emptied, WORK)
            self._step("deploy.vacate.emptied")
        await self._slots.take_away(berth)

    async def _undo(self, book: Logbook, error: str) -> None:
        """Take away what was started, then settle as failed; bounded, cancelled or not."""
        with anyio.move_on_after(TIDY_SECONDS, shield=True):
            await self._recovery.clear_away(book.deployment)
            self._step("deploy.undo.cleared")
            with suppress(QuaymasterError):
                found = await self._store.read(lambda tx: tx.deployments.get(book.deployment.id))
                who = None if found is None else found.cancelled_by
                await book.settle(f"cancelled by {who}" if who else error)
                self._step("deploy.undone")

    async def _promoted(self, call: Call, id: str, tell: Tell) -> None:
        """Where the team wants it, and the caller may."""
        if self.promote is None or not grants.may(call.caller, "promote"):
            return

        async def look(tx: Reading) -> tuple[Deployment | None, bool]:
            team = await tx.teams.get(call.caller.team_id)
            wanted = team is not None and team.settings.deploymentDefaults.autoPromote
            return await tx.deployments.get(id), wanted

        found, wanted = await self._store.read(look)
        if found is not None and found.status == "success" and wanted:
            with suppress(QuaymasterError):
                await self.promote(call, found, tell)

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
        present = pair is not None and pair.slot(found.slot).deployment == found.id
        uid = found.release.project_uid if found.release else ""
        berth = Berth(found.project, uid, found.environment, found.slot)
        return view_of(found, self._slots.preview_url(berth) if present else None)


# -- checks and views ----------------------------------------------------------------------------------------


def _wanted(
    image: str,
    version: str | None,
    environment: EnvironmentName | None,
    fields: dict[str, Any],
    health_timeout: int | None,
    task_id: str | None,
    changed_paths: Sequence[str],
    discard_grace: bool,
) -> Wanted:
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


async def _known_pair(tx: Reading, project: Project, environment: EnvironmentName) -> SlotPair:
    pair = await tx.slots.get(pair_key(project.name, environment))
    if pair is None:
        raise NotFound(
            f"nothing was ever deployed to {environment} of '{project.name}'", next="Call deploy_project."
        )
    return pair


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


async def _require_task(tx: Reading, caller: Caller, project: Project, task_id: str | None) -> None:
    if task_id is None:
        return
    task = await task_of(tx, caller, task_id)
    if task.project != project.name:
        raise Invalid.field("task_id", "must be a task of this project")
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


async def _mine(tx: Reading, *, caller: Caller, id: str) -> Deployment:
    """The deployment in the caller's team. Raises NotFound, also for another team's."""
    found = await tx.deployments.get(id)
    project = None if found is None else await tx.projects.get(found.project)
    if found is None or project is None or project.team_id != caller.team_id:
        raise NotFound("no such deployment in this team", next="list_deployments shows a project's.")
    return found
