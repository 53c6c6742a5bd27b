"""What a dangerous action loses: found on a shadow database, counted in the database itself."""

from __future__ import annotations

from collections.abc import Iterable

from mcp_server.domain.errors import QuaymasterError, Unavailable
from mcp_server.domain.schemas.changes import changes
from mcp_server.domain.schemas.failures import StatementFailed
from mcp_server.domain.schemas.folders import Folder
from mcp_server.domain.schemas.losses import Loss
from mcp_server.ports.schemas import Session
from mcp_server.services.schemas.comparing import make
from mcp_server.services.schemas.ground import Ground, own


async def counted_losses(session: Session, losses: Iterable[Loss]) -> tuple[str, ...]:
    """Each with its rows or values, as far as they can be counted in time."""
    return tuple([each.told(await _count(session, each)) for each in losses])


async def lost_behind(ground: Ground, folder: Folder, session: Session, target: str) -> tuple[str, ...]:
    """What the way back to the target loses. It is gone on a shadow with the schema of the database and none of its
    rows; where that cannot be, the files are read instead, and it is said."""
    chain = ground.chain(folder)
    if await chain.reaches_outside(session, target):
        return (*await chain.losses_back(session, target), _untried("it changes what all databases share"))
    emptied: list[str] = []
    try:
        async with ground.shadow(folder) as shadow:
            await make(shadow, await session.catalog())
            start = own(await shadow.catalog(), folder)
            await chain.copy_account(session, shadow)
            await chain.down(shadow, target, tell=lambda ran: emptied.extend(ran.findings), watch=True)
            gone = changes(start, own(await shadow.catalog(), folder)).losses
    except (StatementFailed, Unavailable) as error:
        return (*await chain.losses_back(session, target), _untried(error.message))
    # A column that would refuse rows has been made by down.sql already, and says nothing of losses.
    return (*await counted_losses(session, (each for each in gone if each.table)), *dict.fromkeys(emptied))


async def _count(session: Session, loss: Loss) -> int | None:
    """None for what has its name only in schema.sql, and for what takes too long."""
    if not loss.table:
        return None
    try:
        return await session.count(loss.table, loss.column)
    except QuaymasterError:
        return None


def _untried(reason: str) -> str:
    return (
        f"what else is lost is not known, because the way back was not tried on a shadow database: {reason}"
    )
