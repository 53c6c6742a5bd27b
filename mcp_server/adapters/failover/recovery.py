"""The way back to PostgreSQL: is it the same one, then the pending lines in order, then the switch."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import anyio

from mcp_server.adapters import faults
from mcp_server.adapters.failover.follower import Follower
from mcp_server.adapters.failover.replay import replay
from mcp_server.domain.errors import QuaymasterError
from mcp_server.ports.mirror import Facts, Identity, Mirror, Outage, Position, Primary

FEW = 20
BATCH = 100
CALLERS_WAIT = 2.0
PROBE_SECONDS = 2.0
SECOND_LOOK_SECONDS = 0.25

Name = tuple[str, str]

log = logging.getLogger(__name__)


class Foreign(QuaymasterError):
    """The PostgreSQL that answers is not the one that this home mirrored, or an older state of it."""

    code = "UNAVAILABLE"
    default_next = (
        "Bring the right PostgreSQL back, or decide which state is the truth: "
        "'quaymaster registry import' writes the registry into an empty one."
    )


class Recovery:
    """Everything here is done by the leader of the home."""

    def __init__(self, primary: Primary, mirror: Mirror, follower: Follower) -> None:
        self._primary = primary
        self._mirror = mirror
        self._follower = follower
        self._adopted: set[Name] = set()
        self._settled = 0
        """How many lines were replayed by this process."""

    async def recover(self) -> Facts:
        """Replay and return to the mode primary. Raises Outage, and Foreign when nothing may be replayed."""
        facts = await self._mirror.refresh()
        identity = await self._primary.prepare()
        await self.recognise(facts.position, identity)
        epoch = await self._primary.raise_epoch(facts.epoch + 1)
        self._adopted = set()
        async with self._mirror.switching():
            facts = await self._mirror.refresh()
            if facts.mode == "primary":
                return facts
            if facts.mode == "degraded":
                await self._mirror.set_mode("replaying", epoch=facts.epoch, reason=facts.reason)
        await self._replay_beside_calls(epoch)
        await self._adopt_ahead()
        while True:
            before = self._settled
            async with self._mirror.switching():
                with anyio.move_on_after(CALLERS_WAIT):
                    return await self._finish(epoch)
            await anyio.sleep(0.05)
            if self._settled == before:  # a line takes longer than callers are kept waiting
                await self._replay_some(epoch, most=1)

    async def still_here(self, *, again: bool) -> bool:
        """Whether the PostgreSQL that this home mirrors answers a fresh connection.

        `again`: a fresh connection has just failed. Where connections were cut, the next one does not; to see it costs a
        moment.
        """
        try:
            with anyio.move_on_after(SECOND_LOOK_SECONDS if again else PROBE_SECONDS):
                identity = await self._primary.identify()
                await self.recognise((await self._mirror.refresh()).position, identity)
                return True
        except (Outage, Foreign) as error:
            log.debug("PostgreSQL is away: %s", error)
        return False

    async def recognise(self, position: Position | None, identity: Identity) -> None:
        """Raise Foreign unless this is the PostgreSQL that the position speaks of, with all that was mirrored."""
        if position is None:
            raise Foreign("this home has no mirror of any PostgreSQL")
        if identity.installation != position.installation:
            raise Foreign(
                f"PostgreSQL answers as installation {identity.installation}, this home mirrors {position.installation}"
            )
        if not await self._primary.has(position):
            raise Foreign("PostgreSQL came back as an older state: it lacks what this home had mirrored")

    async def _finish(self, epoch: int) -> Facts:
        """Nobody works meanwhile: the last lines, the records as PostgreSQL has them now, and the mode."""
        while (await self._mirror.refresh()).pending:
            await self._replay_some(epoch)
        await self._follower.catch_up()
        while names := await self._not_adopted():
            await self._adopt(names[:BATCH])
        faults.at("failover.mode.before")
        facts = await self._mirror.set_mode("primary", epoch=epoch, reason=None)
        faults.at("failover.mode.after")
        return facts

    async def _replay_beside_calls(self, epoch: int) -> None:
        """For as long as it gains on them: callers that write faster than lines are replayed have to wait for the rest."""
        left = (await self._mirror.refresh()).pending
        while left > FEW:
            replayed = await self._replay_some(epoch, most=FEW)
            before, left = left, (await self._mirror.refresh()).pending
            if left > before - replayed / 2:
                return

    async def _replay_some(self, epoch: int, most: int = BATCH) -> int:
        """Replay the next lines and return how many they were."""
        lines = await self._mirror.pending(most)
        for line in lines:
            faults.at("failover.replay.before")
            await replay(self._primary, line, epoch=epoch)
            await self._mirror.settle(line.id)
            self._settled += 1
            self._adopted.difference_update((change.noun, change.key) for change in line.changes)
            faults.at("failover.replay.settled")
        return len(lines)

    async def _adopt_ahead(self) -> None:
        """Most records before the switch, a few at a time, so that callers never wait for all of them at once."""
        while True:
            async with self._mirror.switching():
                waiting = await self._names_of_pending()
                names = [name for name in await self._not_adopted() if name not in waiting]
                await self._adopt(names[:BATCH])
            if len(names) < BATCH:
                return

    async def _not_adopted(self) -> list[Name]:
        return [name for name in await self._mirror.dirty() if name not in self._adopted]

    async def _names_of_pending(self) -> set[Name]:
        lines = await self._mirror.pending(10 * BATCH)
        return {(change.noun, change.key) for line in lines for change in line.changes}

    async def _adopt(self, names: Sequence[Name]) -> None:
        """Set these records as PostgreSQL has them, whatever their revision here."""
        if names:
            await self._mirror.adopt(await self._primary.standing(names))
            self._adopted.update(names)

    async def audit(self) -> None:
        """Bring the audit rows of the time without PostgreSQL over, by id. Raises Outage."""
        while True:
            rows, mark = await self._mirror.audit_backlog(BATCH)
            if not rows:
                return
            await self._primary.record(rows, {})
            await self._mirror.audit_settled(mark)


async def answers(primary: Primary, within: float = PROBE_SECONDS) -> Identity | None:
    """Who answers on a fresh connection within so many seconds; None when nobody does."""
    with anyio.move_on_after(within):
        try:
            return await primary.identify()
        except Outage as outage:
            log.debug("PostgreSQL is still away: %s", outage.reason)
    return None
