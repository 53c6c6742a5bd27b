"""What a client leaves behind when its server process ends."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mcp_server.domain.callers import Caller, holder_of
from mcp_server.ports.store import Reading
from mcp_server.services.calls import Call, Calls
from mcp_server.services.locks import Locks
from mcp_server.services.pages import every


class Leaving:
    """Locks that were taken over stdio without task and agent belong to the process: after its end nobody could
    renew or release them, its own next start included."""

    def __init__(self, calls: Calls, locks: Locks) -> None:
        self._calls = calls
        self._locks = locks

    async def release(self, caller: Caller) -> Sequence[str]:
        """Give up all that this process holds; the paths."""
        released: list[str] = []
        for project in await self._calls.read(lambda tx: _held_in(tx, caller)):
            call = Call(caller=caller, action="release_files", params={"project": project})
            done = await self._calls.perform(call, lambda: self._locks.release(call, project))  # noqa: B023
            released += done.released
        return released


async def _held_in(tx: Reading, caller: Caller) -> Sequence[str]:
    """The projects of the caller's team in which its process holds anything."""
    holder = holder_of(caller)
    names = [project.name for project in await every(partial(tx.projects.of_team, caller.team_id))]
    return [name for name in names if any(lock.holder == holder for lock in await tx.locks.of_project(name))]
