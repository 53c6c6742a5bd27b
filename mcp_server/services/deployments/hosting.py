"""What runs the projects' own applications on this home, put together once."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cached_property

import anyio

from mcp_server.domain.databases import Site
from mcp_server.domain.errors import QuaymasterError
from mcp_server.ports.databases import Machine, Workers
from mcp_server.ports.edge import Edge
from mcp_server.ports.orchestrator import Orchestrator
from mcp_server.ports.readiness import Readiness
from mcp_server.ports.sealing import Sealer
from mcp_server.ports.sources import Sources
from mcp_server.ports.store import Reading, Store
from mcp_server.services.calls import Calls
from mcp_server.services.deployments.builds import Builds
from mcp_server.services.deployments.moves import Moves
from mcp_server.services.deployments.outfit import Outfit, Provided
from mcp_server.services.deployments.recovery import Recovery
from mcp_server.services.deployments.reservations import Reservations
from mcp_server.services.deployments.revival import Revival
from mcp_server.services.deployments.rollouts import Rollouts
from mcp_server.services.deployments.service import Deployments
from mcp_server.services.deployments.slot_board import SlotBoard
from mcp_server.services.deployments.slots import SlotOptions, Slots, Step
from mcp_server.services.deployments.switch_ends import SwitchEnds
from mcp_server.services.deployments.switch_intents import SwitchIntents
from mcp_server.services.deployments.switching import Switching
from mcp_server.services.environments import Environments
from mcp_server.services.vault import Vault
from mcp_server.services.works import Works

log = logging.getLogger(__name__)
LOOK_SECONDS = 60.0
TIDY_SECONDS = 30.0


@dataclass(frozen=True)
class Hosting:
    calls: Calls
    store: Store
    engine: Orchestrator
    edge: Edge
    readiness: Readiness
    machine: Machine
    workers: Workers
    sealer: Sealer
    sources: Sources
    site: Site
    options: SlotOptions
    provided: Provided
    step: Step

    @cached_property
    def works(self) -> Works:
        return Works()

    @cached_property
    def vault(self) -> Vault:
        return Vault(self.sealer)

    @cached_property
    def outfit(self) -> Outfit:
        return Outfit(self.store, self.vault, self.provided)

    @cached_property
    def environments(self) -> Environments:
        return Environments(self.calls, self.vault)

    @cached_property
    def slots(self) -> Slots:
        return Slots(
            self.store,
            self.engine,
            self.edge,
            self.readiness,
            self.machine,
            self.site,
            self.options,
            self.step,
        )

    @cached_property
    def recovery(self) -> Recovery:
        revival = Revival(self.store, self.engine, self.slots, self.outfit, self.step)
        return Recovery(self.store, self.engine, self.slots, self.workers, revival, self.step)

    @cached_property
    def reservations(self) -> Reservations:
        return Reservations(self.store, self.slots, self.workers)

    @cached_property
    def rollouts(self) -> Rollouts:
        return Rollouts(
            self.store,
            self.slots,
            self.recovery,
            self.works,
            self.workers,
            self.outfit,
            step=self.step,
        )

    @cached_property
    def deployments(self) -> Deployments:
        return Deployments(
            self.calls,
            self.store,
            self.slots,
            self.recovery,
            self.reservations,
            self.rollouts,
            self.works,
            self.outfit,
            step=self.step,
        )

    @cached_property
    def builds(self) -> Builds:
        return Builds(self.calls, self.engine, self.sources, self.slots, self.works, self.step)

    @cached_property
    def board(self) -> SlotBoard:
        return SlotBoard(
            self.calls,
            self.store,
            self.slots,
            self.reservations,
            self.recovery,
            self.workers,
            self.outfit,
            step=self.step,
        )

    @cached_property
    def switch_ends(self) -> SwitchEnds:
        return SwitchEnds(self.store, self.slots, self.recovery, step=self.step)

    @cached_property
    def moves(self) -> Moves:
        return Moves(
            self.store,
            self.slots,
            self.recovery.routing,
            self.rollouts,
            self.switch_ends,
            self.works,
            self.workers,
            self.outfit,
            step=self.step,
        )

    @cached_property
    def switching(self) -> Switching:
        intents = SwitchIntents(self.reservations, self.workers, self.outfit)
        switching = Switching(
            self.calls, self.slots, intents, self.moves, self.recovery, self.works, step=self.step
        )
        self.rollouts.promote = switching.promote_after
        return switching

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Work may begin inside. What a crash left is settled beside it, as soon as that can be done."""
        async with self.works.open():
            self.works.begin("recovery", lambda _: self.recover())
            yield

    async def lead(self) -> None:
        """For ever, in the one process of the home that leads: ended graces, and what has gone astray."""
        while True:
            await anyio.sleep(LOOK_SECONDS)
            await self.recover()

    async def recover(self) -> None:
        """Nothing is asked of engine and proxy while this home has never deployed anything."""
        try:
            if await self.store.read(self._ever_used):
                found = await self.recovery.run_once()
                if not found.nothing:
                    log.info("put right", extra=found.model_dump())
        except QuaymasterError as error:
            log.info("what a crash may have left is looked at later: %s", error.message)

    async def _ever_used(self, tx: Reading) -> bool:
        if await tx.slots.of_home(self.site.home):
            return True
        return any(
            one.holder.startswith(f"{self.site.home}/") for one in await tx.ports.of_host(self.site.host)
        )

    async def tidy(self) -> None:
        """A project was deleted: its containers, routes, ports and network go, beside whatever runs.

        Returns when they are gone, or after TIDY_SECONDS: it goes on then, and the next start finishes it.
        """
        with suppress(QuaymasterError):
            work = self.works.begin(f"tidy-{secrets.token_hex(4)}", lambda _: self.recover())
            await work.follow(TIDY_SECONDS)
