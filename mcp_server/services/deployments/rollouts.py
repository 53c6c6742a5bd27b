"""The work of a deployment: its image, its container, its health, its way to the proxy; undone when a step fails.

It belongs to the server: a caller that goes away ends nothing. Failure, cancellation and a crash all end in the same
settled state: no container of it, no port.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import anyio

from mcp_server.domain import grants
from mcp_server.domain.deployments import Deployment
from mcp_server.domain.errors import Conflict, Failure, NotFound, QuaymasterError
from mcp_server.domain.happenings import Happening
from mcp_server.domain.projects import Project
from mcp_server.domain.slots import SlotPair
from mcp_server.ports.databases import Workers
from mcp_server.ports.notifier import Notifier, Silence
from mcp_server.ports.store import Reading, Store
from mcp_server.services.calls import Call
from mcp_server.services.deployments.berths import Berth
from mcp_server.services.deployments.logbook import WORK, Logbook
from mcp_server.services.deployments.outfit import Outfit
from mcp_server.services.deployments.recovery import Recovery
from mcp_server.services.deployments.settling import FAILED, STOPPED, empty_slot, not_promoted
from mcp_server.services.deployments.slots import Slots
from mcp_server.services.deployments.slots import Step as Passed
from mcp_server.services.works import Tell, Work, Works, nobody

log = logging.getLogger(__name__)
TIDY_SECONDS = 60.0

Promote = Callable[[Call, Deployment, Tell], Awaitable[None]]


class Rollouts:
    """`promote` is for teams with autoPromote."""

    def __init__(
        self,
        store: Store,
        slots: Slots,
        recovery: Recovery,
        works: Works,
        workers: Workers,
        outfit: Outfit,
        *,
        step: Passed,
    ) -> None:
        self._store = store
        self._slots = slots
        self._recovery = recovery
        self._works = works
        self._workers = workers
        self._outfit = outfit
        self._step = step
        self.promote: Promote | None = None
        self.notifier: Notifier = Silence()

    def begin(self, call: Call, deployment_id: str) -> None:
        """Once per deployment, by the process that reserved it."""
        self._works.begin(deployment_id, partial(self._work, call=call, id=deployment_id))

    async def _work(self, work: Work, *, call: Call, id: str) -> None:
        try:
            found = await self._store.read(lambda tx: tx.deployments.get(id))
        except BaseException:
            self._recovery.take_over(id)
            raise
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
            await self._undo(book, Failure.of(error))
        except Exception:
            log.exception("a deployment failed", extra={"deployment": deployment.id})
            await self._undo(book, FAILED)
        except BaseException:
            await self._undo(book, STOPPED)
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

    async def _undo(self, book: Logbook, failure: Failure) -> None:
        """Take away what was started, then settle as failed; bounded, cancelled or not. What the store refuses is
        settled by a later look.
        """
        settled = False
        try:
            settled = await self._undone(book, failure)
        finally:
            if not settled:
                self._recovery.take_over(book.deployment.id)

    async def _undone(self, book: Logbook, failure: Failure) -> bool:
        with anyio.move_on_after(TIDY_SECONDS, shield=True):
            if await self._went_well(book.deployment.id):
                return True
            await self._recovery.clear_away(book.deployment, by=book.deployment.id)
            self._step("deploy.undo.cleared")
            with suppress(QuaymasterError):
                found = await self._store.read(lambda tx: tx.deployments.get(book.deployment.id))
                who = None if found is None else found.cancelled_by
                await book.settle(Failure(f"cancelled by {who}", "Deploy again") if who else failure)
                self._step("deploy.undone")
                return True
        return False

    async def _went_well(self, id: str) -> bool:
        """Its end was written down before it was told to stop: what runs then is its slot's."""
        with suppress(QuaymasterError):
            found = await self._store.read(lambda tx: tx.deployments.get(id))
            return found is not None and found.status == "success"
        return False

    async def _promoted(self, call: Call, id: str, tell: Tell) -> None:
        """Where the team wants it, and the caller may. That it was refused is written down: nobody called it."""
        if self.promote is None or not grants.may(call.caller, "promote"):
            return

        async def look(tx: Reading) -> tuple[Deployment | None, bool]:
            team = await tx.teams.get(call.caller.team_id)
            wanted = team is not None and team.settings.deploymentDefaults.autoPromote
            return await tx.deployments.get(id), wanted

        found, wanted = await self._store.read(look)
        if found is not None and found.status == "success" and wanted:
            try:
                await self.promote(call, found, tell)
            except QuaymasterError as error:
                with suppress(QuaymasterError):
                    await self._store.run(partial(not_promoted, id=id, failure=Failure.of(error)), WORK)
