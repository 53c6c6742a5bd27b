"""File locks: leases on patterns of paths within a project."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mcp_server.domain.records import Moment, Record, Value

LockMode = Literal["editing", "reviewing"]
EPOCH = 1_000_000
"""Fences are epoch x 10^6 + n, so that one never comes twice, whichever store granted it."""


class Lock(Record):
    """One held pattern. `editing` is exclusive, `reviewing` shared. It ends at `expires_at` by itself."""

    noun: ClassVar[str] = "locks"
    id: str = Field(min_length=1, max_length=40)
    team_id: str
    project: str
    path: str = Field(min_length=1, max_length=1000)
    mode: LockMode
    holder: str = Field(min_length=1, max_length=300)
    key_id: str | None = None
    task_id: str | None = None
    agent: str | None = Field(default=None, max_length=200)
    change_description: str | None = Field(default=None, max_length=2000)
    fence: int
    locked_at: Moment
    expires_at: Moment
    lease_seconds: int = Field(ge=1, le=86_400)

    @property
    def key(self) -> str:
        return self.id


LOST_KEPT = 50


class LostLock(Value):
    """A lock that ended against its holder's will; the holder's next call is told."""

    lock_id: str
    holder: str
    path: str
    reason: str
    at: Moment


class LockScope(Record):
    """The row that is held while locks of a project are decided; it keeps the last fence granted.

    `lost` are the newest locks that their holders have not been told of, at most `LOST_KEPT`.
    """

    noun: ClassVar[str] = "lock_scopes"
    project: str
    fence: int = 0
    lost: tuple[LostLock, ...] = ()

    @property
    def key(self) -> str:
        return self.project

    def with_lost(self, *lost: LostLock) -> LockScope:
        """The scope with these lost locks noted, the oldest dropped."""
        known = {one.lock_id for one in self.lost}
        kept = (*self.lost, *(one for one in lost if one.lock_id not in known))
        return self.change(lost=kept[-LOST_KEPT:])


def next_fence(last: int, epoch: int) -> int:
    """The next fence: above the last one, and of this epoch at least."""
    return max(last + 1, epoch * EPOCH + 1)
