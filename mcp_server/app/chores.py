"""What goes on by itself while a house is served."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

import anyio

from mcp_server.app.house import House
from mcp_server.domain.errors import QuaymasterError

log = logging.getLogger(__name__)
SWEEP_SECONDS = 60.0
LEAD_SECONDS = 2.0
AGAIN_SECONDS = 60.0


async def sweep(house: House) -> None:
    """Remove what has had its time: one server of the installation for all; without PostgreSQL the leader of the home."""
    if house.settings.database_url is not None:
        await _again_and_again(partial(_sweep_for_ever, house))


async def lead(house: House) -> None:
    """What one process of the home does for all: of several servers the one that leads."""
    while not house.workers.lead():  # noqa: ASYNC110  # another process leads; its end sets no event here
        await anyio.sleep(LEAD_SECONDS)
    chores = [
        house.databases.lead,
        house.backups.tending.lead,
        house.installation_backups.lead,
        house.branches.lead,
        house.promotions.lead,
        house.hosting.lead,
        house.domains.lead,
    ]
    async with anyio.create_task_group() as beside:
        for chore in chores:
            beside.start_soon(_again_and_again, chore)
        if house.settings.database_url is None:
            beside.start_soon(_again_and_again, partial(_sweep_for_ever, house))


async def _again_and_again(chore: Callable[[], Awaitable[None]]) -> None:
    """Whatever nobody has foreseen ends neither the other chores nor the server, which callers are using."""
    while True:
        try:
            await chore()
        except Exception:
            log.exception("work in the background broke off; it begins again in %g s", AGAIN_SECONDS)
        await anyio.sleep(AGAIN_SECONDS)


async def _sweep_for_ever(house: House) -> None:
    while True:
        try:
            if await house.store.leads("sweep"):
                await house.sweeper.run_once(datetime.now(UTC))
        except QuaymasterError as error:
            log.info("sweep put off: %s", error.message)
        await anyio.sleep(SWEEP_SECONDS)
