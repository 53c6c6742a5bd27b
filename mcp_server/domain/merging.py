"""What happens when a change made while PostgreSQL was away meets another change of the same record.

`decide` is a three-way merge: the record before our change, our record, and the record as PostgreSQL has it now.
Applied to its own outcome it changes nothing more.

| noun | when both changed |
|---|---|
| tasks | merged by field; of one field changed twice the later change stays, the other becomes a progress note |
| locks | a release is done, unless the holder was granted the lock anew; a lease that had ended here and was renewed there goes on; a renewal of a lock that is gone is not done; of two overlapping locks the lower fence stays (`overlapped`) |
| lock_scopes | the higher fence |
| environments | both are kept, ours as the next version |
| slots, deployments, databases, database_servers, branches, backups | ours: what this host observed |
| keys | a revocation wins; the rest by field |
| plans, idempotency | the first one stays; a used plan stays used |
| the rest | merged by field; the same field changed twice, or a deletion against a change, is kept for a person to decide |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mcp_server.domain.changes import Change
from mcp_server.domain.environments import EnvironmentVersion, ProjectEnvironment
from mcp_server.domain.keys import ApiKey
from mcp_server.domain.locks import Lock, LockScope
from mcp_server.domain.plans import Plan
from mcp_server.domain.records import Record
from mcp_server.domain.tasks import Note, Task


@dataclass(frozen=True, slots=True)
class Write:
    """Keep `record` (None: delete the present one), and `also` beside it."""

    record: Record | None
    also: tuple[Record, ...] = ()


@dataclass(frozen=True, slots=True)
class Leave:
    """What PostgreSQL has is right. `lost` says that our change has no effect and its author should hear of it."""

    lost: bool = False


@dataclass(frozen=True, slots=True)
class Keep:
    """Only a person can decide."""

    reason: str


Decision = Write | Leave | Keep


def decide(change: Change, theirs: Record | None, at: datetime) -> Decision:
    """What becomes of our `change`, made at `at`, of a record that PostgreSQL has as `theirs` (None: not there)."""
    ours, before = change.record, change.before
    if same(theirs, ours):
        return Leave()
    if same(theirs, before):
        return Write(ours)
    if change.noun == Lock.noun and ours is None:
        return _lock_removed(before, theirs, at)
    decision = _RULES.get(change.noun, _by_field_or_keep)(before, ours, theirs)
    if isinstance(decision, Write) and not decision.also and same(theirs, decision.record):
        return Leave()
    return decision


def same(one: Record | None, other: Record | None) -> bool:
    """Equal in everything but the revision and what is noted in passing."""
    if one is None or other is None:
        return one is other
    return _content(one) == _content(other)


_PASSING = frozenset({"rev", "last_used_at", "last_active_at"})
_CLOCKS = frozenset({"updated_at"})


def _content(record: Record) -> dict[str, Any]:
    return {name: value for name, value in record if name not in _PASSING}


def _tasks(before: Record | None, ours: Record | None, theirs: Record | None) -> Decision:
    if not (isinstance(before, Task) and isinstance(ours, Task) and isinstance(theirs, Task)):
        return _by_field_or_keep(before, ours, theirs)
    merged, clashes = _merged(before, ours, theirs, skip=frozenset({"progress_notes"}))
    notes = [
        *theirs.progress_notes,
        *(note for note in ours.progress_notes if note not in theirs.progress_notes),
    ]
    ours_later = ours.updated_at >= theirs.updated_at
    winner, loser = (ours, theirs) if ours_later else (theirs, ours)
    for name in clashes:
        merged[name] = getattr(winner, name)
        text = f"{name} was also set to {_shown(getattr(loser, name))} while the stores were apart"
        note = Note(date=max(ours.updated_at, theirs.updated_at), note=text[:10_000], author="quaymaster")
        if note not in notes:
            notes.append(note)
    merged["progress_notes"] = tuple(sorted(notes, key=lambda note: note.date))
    return Write(theirs.change(**merged))


def _shown(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value)


def _lock_removed(before: Record | None, theirs: Record | None, at: datetime) -> Decision:
    """We removed the lock: because its holder let it go, or because its lease had ended as far as we knew."""
    if not (isinstance(before, Lock) and isinstance(theirs, Lock)) or theirs.fence > before.fence:
        return Leave()
    if not before.live_at(at) and theirs.expires_at > before.expires_at:
        return Leave()
    return Write(None)


def _locks(before: Record | None, ours: Record | None, theirs: Record | None) -> Decision:
    if not isinstance(ours, Lock) or not isinstance(theirs, Lock):
        return Leave(lost=True)
    stronger = ours.mode == "editing" and not (isinstance(before, Lock) and before.mode == "editing")
    if stronger and theirs.mode != "editing":
        return Leave(lost=True)
    longer = ours if ours.expires_at >= theirs.expires_at else theirs
    return Write(theirs.change(expires_at=longer.expires_at, lease_seconds=longer.lease_seconds))


def overlapped(ours: Lock, theirs: Lock) -> bool:
    """Whether ours must give way to an overlapping lock of another holder: the lower fence stays."""
    return theirs.fence <= ours.fence


def _lock_scopes(before: Record | None, ours: Record | None, theirs: Record | None) -> Decision:
    if isinstance(ours, LockScope) and isinstance(theirs, LockScope):
        return Write(theirs.with_lost(*ours.lost).change(fence=max(ours.fence, theirs.fence)))
    return Leave() if ours is None else Keep("the project was deleted")


def _environments(before: Record | None, ours: Record | None, theirs: Record | None) -> Decision:
    if not (isinstance(ours, ProjectEnvironment) and isinstance(theirs, ProjectEnvironment)):
        return _by_field_or_keep(before, ours, theirs)
    if (ours.env_data, ours.encrypted) == (theirs.env_data, theirs.encrypted):
        return Leave()
    record = ours.change(version=theirs.version + 1)
    version = EnvironmentVersion(
        project=record.project,
        environment=record.environment,
        version=record.version,
        env_data=record.env_data,
        encrypted=record.encrypted,
        created_by=record.created_by,
        created_at=record.updated_at,
    )
    return Write(record, also=(version,))


def _theirs_stays(before: Record | None, ours: Record | None, theirs: Record | None) -> Decision:
    return Leave()


def _ours_stays(before: Record | None, ours: Record | None, theirs: Record | None) -> Decision:
    return Keep("it was deleted in PostgreSQL") if theirs is None else Write(ours)


def _plans(before: Record | None, ours: Record | None, theirs: Record | None) -> Decision:
    if (
        isinstance(ours, Plan)
        and isinstance(theirs, Plan)
        and theirs.used_at is None
        and ours.used_at is not None
    ):
        return Write(theirs.change(used_at=ours.used_at))
    return Leave()


def _keys(before: Record | None, ours: Record | None, theirs: Record | None) -> Decision:
    if theirs is None or ours is None:
        return Leave()
    if not (isinstance(before, ApiKey) and isinstance(ours, ApiKey) and isinstance(theirs, ApiKey)):
        return Keep("two keys of one id")
    merged, clashes = _merged(before, ours, theirs, skip=frozenset({"revoked_at"}))
    revoked = [moment for moment in (ours.revoked_at, theirs.revoked_at) if moment is not None]
    merged["revoked_at"] = min(revoked) if revoked else None
    if clashes and not revoked:
        return Keep(f"both changed {', '.join(clashes)}")
    return Write(theirs.change(**merged))


def _by_field_or_keep(before: Record | None, ours: Record | None, theirs: Record | None) -> Decision:
    if theirs is None:
        return Keep("it was deleted in PostgreSQL") if ours is not None else Leave()
    if ours is None:
        return Keep("it was deleted here and changed in PostgreSQL")
    if before is None:
        return Keep("both made one of this name")
    merged, clashes = _merged(before, ours, theirs)
    if clashes:
        return Keep(f"both changed {', '.join(clashes)}")
    return Write(theirs.change(**merged))


def _merged(
    before: Record, ours: Record, theirs: Record, *, skip: frozenset[str] = frozenset()
) -> tuple[dict[str, Any], list[str]]:
    """The fields to set on `theirs`, and the names of those that both changed to different values."""
    fields: dict[str, Any] = {}
    clashes: list[str] = []
    for name in type(theirs).model_fields:
        if name in _PASSING or name in skip:
            continue
        old, our, their = getattr(before, name), getattr(ours, name), getattr(theirs, name)
        if name in _CLOCKS:
            fields[name] = max(our, their)
        elif our in (old, their):
            continue
        elif their == old:
            fields[name] = our
        else:
            clashes.append(name)
    return fields, clashes


_RULES: Mapping[str, Callable[[Record | None, Record | None, Record | None], Decision]] = {
    "tasks": _tasks,
    "locks": _locks,
    "lock_scopes": _lock_scopes,
    "environments": _environments,
    "environment_versions": _theirs_stays,
    "slots": _ours_stays,
    "databases": _ours_stays,
    "database_servers": _ours_stays,
    "branches": _ours_stays,
    "backups": _ours_stays,
    "deployments": _ours_stays,
    "keys": _keys,
    "plans": _plans,
    "idempotency": _theirs_stays,
    "conflicts": _theirs_stays,
}


def parents(record: Record) -> tuple[tuple[str, str], ...]:
    """(noun, key) of what must exist for this record to exist."""
    found: list[tuple[str, str]] = []
    if record.noun != "teams" and getattr(record, "team_id", None) is not None and record.noun not in _FREE:
        found.append(("teams", record.team_id))  # type: ignore[attr-defined]
    if record.noun != "projects" and getattr(record, "project", None) is not None:
        found.append(("projects", record.project))  # type: ignore[attr-defined]
    return tuple(found)


_FREE = frozenset({"plans", "idempotency", "conflicts"})
