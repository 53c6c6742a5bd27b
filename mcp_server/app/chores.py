"""What goes on by itself while a house is served."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import anyio

from mcp_server.app.house import House
from mcp_server.domain.errors import QuaymasterError

log = logging.getLogger(__name__)
SWEEP_SECONDS = 60.0
LEAD_SECONDS = 2.0


async def sweep(house: House) -> None:
    """Remove what has had its time: one server of the installation for all; without PostgreSQL the leader of the home."""
    if house.settings.database_url is not None:
        await _sweep_for_ever(house)


async def lead(house: House) -> None:
    """What one process of the home does for all: of several servers the one that leads."""
    while not house.workers.lead():  # noqa: ASYNC110  # another process leads; its end sets no event here
        await anyio.sleep(LEAD_SECONDS)
    async with anyio.create_task_group() as beside:
        beside.start_soon(house.databases.lead)
        beside.start_soon(house.backups.tending.lead)
        beside.start_soon(house.installation_backups.lead)
        beside.start_soon(house.branches.lead)
        beside.start_soon(house.promotions.lead)
        beside.start_soon(house.hosting.lead)
        beside.start_soon(house.domains.lead)
        if house.settings.database_url is None:
            beside.start_soon(_sweep_for_ever, house)


async def _sweep_for_ever(house: House) -> None:
    while True:
        try:
            if await house.store.leads("sweep"):
                await house.sweeper.run_once(datetime.now(UTC))
        except QuaymasterError as error:
            log.info("sweep put off: %s", error.message)
        await anyio.sleep(SWEEP_SECONDS)
