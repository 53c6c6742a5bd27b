"""File locks: leases on patterns of paths within a project, and the decision who may have one.

`decide` grants or refuses; `sweep` says what a call finds ended. Both are asked while the project's scope
is held.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Literal

from pydantic import Field

from mcp_server.domain.errors import Invalid
from mcp_server.domain.paths import InvalidPath, PathIndex, normalise
from mcp_server.domain.projects import Project
from mcp_server.domain.records import Moment, Record, Value

LockMode = Literal["editing", "reviewing"]
MAX_PATHS = 200
MAX_HELD = 2_000
"""Locks of one holder in one project."""
MIN_LEASE, MAX_LEASE = 10, 86_400
SOON_SECONDS = 60
"""A lease that ends within this time is worth a notice."""
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

    def live_at(self, now: Moment) -> bool:
        """Whether the lease still runs at `now`; at `expires_at` it does not."""
        return now < self.expires_at

    def renewed(self, now: Moment, lease_seconds: int | None = None) -> Lock:
        """The lock with a lease from `now`; the fence stays."""
        seconds = lease_seconds or self.lease_seconds
        return self.change(lease_seconds=seconds, expires_at=now + timedelta(seconds=seconds))

    def lost(self, reason: str, now: Moment) -> LostLock:
        return LostLock(lock_id=self.id, holder=self.holder, path=self.path, reason=reason, at=now)


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
        """The scope with these lost locks noted, each lock once, as it was lost last; the oldest dropped."""
        anew = {one.lock_id for one in lost}
        kept = (*(one for one in self.lost if one.lock_id not in anew), *lost)
        return self.change(lost=kept[-LOST_KEPT:])


def last_fence(scope: LockScope, epoch: int) -> int:
    """What the next fence must be above. The scope of a project that was deleted and made again begins above all that its
    predecessor granted: each grant took a revision at least, and revisions go on."""
    return scope.fence or epoch * EPOCH + scope.rev - 1


def next_fence(last: int, epoch: int) -> int:
    """The next fence: above the last one, and of this epoch at least."""
    return max(last + 1, epoch * EPOCH + 1)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a caller asks for. `paths` are canonical, each once. `lease_seconds` in seconds from the grant."""

    paths: tuple[str, ...]
    holder: str
    mode: LockMode
    lease_seconds: int
    key_id: str | None = None
    task_id: str | None = None
    agent: str | None = None
    change_description: str | None = None


@dataclass(frozen=True, slots=True)
class Near:
    """The locks of a project that concern one call of a holder, and `held`: how many it has in all, ended ones too."""

    locks: tuple[Lock, ...]
    held: int


@dataclass(frozen=True, slots=True)
class Clash:
    """A wanted path, and a lock of another holder that excludes it."""

    path: str
    lock: Lock


@dataclass(frozen=True, slots=True)
class Granted:
    """All the wanted paths: `known` are the holder's own locks on them, `new` the rest.

    `fresh` says that something is held that was not before (a path, or exclusively), which takes a new fence.
    """

    known: tuple[Lock, ...]
    new: tuple[str, ...]
    fresh: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """By wanted path, in the order asked."""

    clashes: tuple[Clash, ...]


def decide(
    held: Iterable[Lock], wanted: Sequence[str], mode: LockMode, holder: str, now: Moment
) -> Granted | Refused:
    """All of the wanted paths, or none. Locks in `held` whose lease has ended exclude nobody."""
    held = list(held)
    clashes = clashes_of(held, wanted, mode, holder, now)
    if clashes:
        return Refused(clashes)
    own = {lock.path: lock for lock in held if lock.holder == holder}
    known = tuple(own[path] for path in wanted if path in own)
    new = tuple(path for path in wanted if path not in own)
    stronger = any(not lock.live_at(now) or (mode, lock.mode) == ("editing", "reviewing") for lock in known)
    return Granted(known, new, fresh=bool(new) or stronger)


def clashes_of(
    held: Iterable[Lock], wanted: Iterable[str], mode: LockMode, holder: str | None, now: Moment
) -> tuple[Clash, ...]:
    """What excludes `holder` (None: anybody) from the wanted paths; two that review exclude nobody."""
    others = PathIndex((lock.path, lock) for lock in held if lock.live_at(now) and lock.holder != holder)
    return tuple(
        Clash(path, lock)
        for path in wanted
        for lock in others.overlapping(path)
        if "editing" in (mode, lock.mode)
    )


def granted_locks(
    granted: Granted, terms: Terms, project: Project, fence: int | None, now: Moment
) -> tuple[Lock, ...]:
    """The locks as they are kept, in the order asked. `fence` None: each keeps the one it has."""
    known = {lock.path: lock for lock in granted.known}
    return tuple(
        _again(known[path], terms, fence, now)
        if path in known
        else _first(path, terms, project, fence or 0, now)
        for path in terms.paths
    )


def _first(path: str, terms: Terms, project: Project, fence: int, now: Moment) -> Lock:
    return Lock(
        id=lock_id(project.uid, terms.holder, path),
        team_id=project.team_id,
        project=project.name,
        path=path,
        mode=terms.mode,
        holder=terms.holder,
        key_id=terms.key_id,
        task_id=terms.task_id,
        agent=terms.agent,
        change_description=terms.change_description,
        fence=fence,
        locked_at=now,
        expires_at=now + timedelta(seconds=terms.lease_seconds),
        lease_seconds=terms.lease_seconds,
    )


def _again(lock: Lock, terms: Terms, fence: int | None, now: Moment) -> Lock:
    return lock.renewed(now, terms.lease_seconds).change(
        mode=terms.mode,
        fence=lock.fence if fence is None else fence,
        locked_at=lock.locked_at if lock.live_at(now) else now,
        change_description=terms.change_description or lock.change_description,
    )


@dataclass(frozen=True, slots=True)
class Swept:
    """`live` and `ended` locks; the `scope` without what its holder is `told`, with what others will be."""

    scope: LockScope
    live: tuple[Lock, ...]
    ended: tuple[Lock, ...]
    told: tuple[LostLock, ...]


def sweep(scope: LockScope, locks: Iterable[Lock], holder: str | None, now: Moment) -> Swept:
    """What a call of `holder` finds at `now`."""
    locks = list(locks)
    live = tuple(lock for lock in locks if lock.live_at(now))
    ended = tuple(lock for lock in locks if not lock.live_at(now))
    lost = tuple(
        lock.lost(f"the lease ended at {_clock(lock.expires_at)}", lock.expires_at) for lock in ended
    )
    noted = scope.with_lost(*(one for one in lost if one.holder != holder)) if lost else scope
    waiting = tuple(one for one in noted.lost if one.holder == holder)
    if waiting:
        noted = noted.change(lost=tuple(one for one in noted.lost if one.holder != holder))
    return Swept(noted, live, ended, (*waiting, *(one for one in lost if one.holder == holder)))


def lost_notices(told: Sequence[LostLock]) -> tuple[str, ...]:
    """One sentence for each reason."""
    by_reason: dict[str, list[str]] = {}
    for one in told:
        by_reason.setdefault(one.reason, []).append(one.path)
    return tuple(f"lost: {_some(paths)}: {reason}" for reason, paths in by_reason.items())


def expiry_notices(own: Iterable[Lock], now: Moment) -> tuple[str, ...]:
    """A sentence when leases end within `SOON_SECONDS`."""
    soon = [lock for lock in own if now < lock.expires_at <= now + timedelta(seconds=SOON_SECONDS)]
    if not soon:
        return ()
    seconds = int((min(lock.expires_at for lock in soon) - now).total_seconds())
    return (
        f"expiring: {_some([lock.path for lock in soon])} in {seconds} s; renew_locks keeps what is held",
    )


def lock_id(project_uid: str, holder: str, path: str) -> str:
    """One id for each holder and path, so that the same grant made twice is one record."""
    return "lock-" + hashlib.sha256("\0".join((project_uid, holder, path)).encode()).hexdigest()[:32]


def canonical_paths(paths: Sequence[str], *, most: int = MAX_PATHS) -> tuple[str, ...]:
    """The canonical forms, each once, in the order given. Raises Invalid: which, why."""
    if not 1 <= len(paths) <= most:
        raise Invalid.field("paths", f"1-{most} paths")
    found: dict[str, None] = {}
    for at, path in enumerate(paths):
        try:
            found[normalise(path)] = None
        except InvalidPath as error:
            raise Invalid.field(f"paths.{at}", str(error)) from error
    return tuple(found)


def _some(paths: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(paths[:most])
    return shown if len(paths) <= most else f"{shown} and {len(paths) - most} more"


def _clock(moment: Moment) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
