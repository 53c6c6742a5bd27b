"""Changes that could not be merged when PostgreSQL came back: both versions, until a person decides."""

from __future__ import annotations

from typing import Any, Literal, cast

from mcp_server.domain.callers import Caller
from mcp_server.domain.conflicts import KeptConflict
from mcp_server.domain.errors import Conflict, NotFound
from mcp_server.domain.nouns import BY_NOUN
from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.records import Moment, Record, Value
from mcp_server.domain.redaction import redacted
from mcp_server.domain.results import PlanResult, Result
from mcp_server.domain.validation import checked
from mcp_server.ports.repositories import Repository
from mcp_server.ports.store import Reading, Transaction
from mcp_server.services.calls import Call, Calls
from mcp_server.services.pages import page_size
from mcp_server.services.plans import draw_token, gate

Side = Literal["ours", "theirs"]


class ConflictItem(Value):
    """`ours` was changed while PostgreSQL was away, `theirs` is what it had; None is a deleted record.

    Both show only the fields in which they differ, with secrets hidden.
    """

    id: str
    about: str
    reason: str
    at: Moment
    ours: dict[str, Any] | None = None
    theirs: dict[str, Any] | None = None


class ConflictList(Result):
    items: tuple[ConflictItem, ...]
    cursor: str | None = None


class Conflicts:
    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def list_conflicts(
        self, call: Call, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
    ) -> ConflictList:
        """The undecided conflicts of the caller's team, oldest first."""
        size = page_size(limit)

        async def reading(tx: Reading) -> ConflictList:
            found: list[ConflictItem] = []
            after = cursor
            while True:
                page = await tx.conflicts.open(limit=size - len(found), after=after)
                found += [_item(kept) for kept in page.items if await _is_own(tx, call.caller, kept)]
                after = page.cursor
                if after is None or len(found) >= size:
                    return ConflictList(items=tuple(found), cursor=after)

        return await self._calls.read(reading)

    async def resolve_conflict(self, call: Call, *, conflict_id: str, keep: Side) -> PlanResult:
        """Decide a conflict: first the plan, then, with its token, exactly that.

        "ours" saves the version made while PostgreSQL was away over the present record; "theirs" leaves the
        present record as it is. Both versions stay in the decided conflict.
        """
        call.about("conflicts", conflict_id)
        token = draw_token()

        async def transaction(tx: Transaction) -> PlanResult:
            kept = await tx.conflicts.hold(conflict_id)
            if kept is None or not await _is_own(tx, call.caller, kept):
                raise NotFound(
                    "no such conflict in this team", next="list_conflicts shows the undecided ones."
                )
            if kept.decided is not None:
                raise Conflict(f"this conflict has already been decided: {kept.decided}")
            repository = _repository(tx, kept.target_noun)
            present = await repository.hold(kept.target_key)
            effects = _effects(kept, keep, present)
            planned = await gate(
                tx,
                call,
                token,
                target={"conflict": kept.id, "keep": keep},
                holds=(kept,) if present is None else (kept, present),
                effects=effects,
            )
            if planned is not None:
                return planned
            if keep == "ours":
                await _apply(repository, kept, present)
            await tx.conflicts.save(kept.change(decided=keep, decided_by=call.caller.id))
            return PlanResult(status="done", message=f"The conflict is decided: {keep}.", effects=effects)

        return await self._calls.write(call, transaction, PlanResult)


async def _apply(repository: Repository[Record], kept: KeptConflict, present: Record | None) -> None:
    if kept.ours is None:
        if present is not None:
            await repository.remove(present)
        return
    record = checked(BY_NOUN[kept.target_noun], kept.ours)
    if present is None:
        await repository.add(record.change(rev=0))
    else:
        await repository.save(record.change(rev=present.rev))


def _repository(tx: Reading, noun: str) -> Repository[Record]:
    """The property of a transaction that has the noun's name; `BY_NOUN` is the list of what there is."""
    if noun not in BY_NOUN:
        raise Conflict(f"this server does not know records of the kind '{noun}'", next="Update the server.")
    return cast("Repository[Record]", getattr(tx, noun))


async def _is_own(tx: Reading, caller: Caller, kept: KeptConflict) -> bool:
    """Whether it is the caller's team's. What belongs to no team is for the local operator."""
    team = await _team_of(tx, kept)
    return team == caller.team_id if team is not None else caller.key_id is None


async def _team_of(tx: Reading, kept: KeptConflict) -> str | None:
    if kept.team_id is not None:
        return kept.team_id
    if kept.target_noun == "teams":
        return kept.target_key
    names = [
        version["project"]
        for version in (kept.theirs, kept.ours, kept.base)
        if version and "project" in version
    ]
    project = await tx.projects.get(names[0]) if names else None
    return None if project is None else project.team_id


def _effects(kept: KeptConflict, keep: Side, present: Record | None) -> tuple[str, ...]:
    about = f"{kept.target_noun}/{kept.target_key}"
    if keep == "theirs":
        return (f"{about} stays as it is", "the version made while PostgreSQL was away is not applied")
    if kept.ours is None:
        return (f"{about} is deleted", "the present version is lost")
    if present is None:
        return (f"{about} is made again as it was while PostgreSQL was away",)
    return (f"{about} becomes what it was while PostgreSQL was away", "the present version is lost")


def _item(kept: KeptConflict) -> ConflictItem:
    ours, theirs = _apart(kept.ours, kept.theirs), _apart(kept.theirs, kept.ours)
    return ConflictItem(
        id=kept.id,
        about=f"{kept.target_noun}/{kept.target_key}",
        reason=kept.reason,
        at=kept.at,
        ours=ours,
        theirs=theirs,
    )


def _apart(version: dict[str, Any] | None, other: dict[str, Any] | None) -> dict[str, Any] | None:
    if version is None:
        return None
    fields = {name: value for name, value in version.items() if other is None or other.get(name) != value}
    shown: dict[str, Any] = redacted({name: value for name, value in fields.items() if name != "rev"})
    return shown
