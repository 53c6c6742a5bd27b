"""Scripts from one catalog to another, renames told of included, tried on a shadow database."""

from __future__ import annotations

from collections.abc import Sequence

from mcp_server.domain.records import Value
from mcp_server.domain.schemas.catalogs import Catalog, differences
from mcp_server.domain.schemas.changes import Changes, changes
from mcp_server.domain.schemas.renames import Rename, renaming
from mcp_server.domain.schemas.statements import Statement
from mcp_server.ports.schemas import Session


class Difference(Value):
    """`up` turns the database into what schema.sql says, `down` back. `unexpressed` must be done by hand."""

    up: str
    down: str
    losses: tuple[str, ...]
    losses_down: tuple[str, ...]
    unexpressed: tuple[str, ...]

    @property
    def empty(self) -> bool:
        return not (self.up or self.unexpressed)


NO_DIFFERENCE = Difference(up="", down="", losses=(), losses_down=(), unexpressed=())


async def difference(shadow: Session, start: Catalog, goal: Catalog, renames: Sequence[Rename]) -> Difference:
    """Both ways, tried: the shadow, which is empty, is brought to the start by statements, forward, and back."""
    cannot = await make(shadow, start)
    found = renaming(start, goal, renames)
    up = await _turn(shadow, start, goal, found.forward, "up")
    left = _left(start, goal, cannot, await shadow.catalog())
    down = await _turn(shadow, goal, start, found.back, "down")
    back = differences(await shadow.catalog(), start)
    return Difference(
        up=up.script,
        down=down.script,
        losses=tuple(each.text for each in up.losses),
        losses_down=tuple(each.text for each in down.losses),
        unexpressed=(*left, *(f"on the way back: {each}" for each in back if each not in cannot)),
    )


async def way(
    shadow: Session, start: Catalog, goal: Catalog, renames: Sequence[Rename]
) -> tuple[Changes, tuple[str, ...]]:
    """The script from start to goal, tried on the shadow, which is empty; and what it leaves as it is."""
    cannot = await make(shadow, start)
    script = await _turn(shadow, start, goal, renaming(start, goal, renames).forward, "push")
    return script, _left(start, goal, cannot, await shadow.catalog())


async def make(shadow: Session, start: Catalog) -> tuple[str, ...]:
    """Give an empty shadow the schema of the start; what could not be made."""
    empty = await shadow.catalog()
    await shadow.transaction(statements_of(changes(empty, start)), None, where="shadow")
    return differences(await shadow.catalog(), start)


def statements_of(script: Changes) -> tuple[Statement, ...]:
    return tuple(Statement(each, number + 1, ()) for number, each in enumerate(script.statements))


def _left(start: Catalog, goal: Catalog, cannot: Sequence[str], reached: Catalog) -> tuple[str, ...]:
    """What is not as in the goal after the script. What the shadow could not be given at the start is compared as it
    is, where nothing would show its change."""
    unmade = {each.rpartition(": ")[0] for each in cannot}
    changed = {each for each in differences(start, goal) if each.rpartition(": ")[0] in unmade}
    return tuple(sorted(changed | {each for each in differences(reached, goal) if each not in cannot}))


async def _turn(shadow: Session, start: Catalog, goal: Catalog, first: Sequence[str], where: str) -> Changes:
    """The renames come first; what rests on the names is as the engine then says it."""
    if first:
        await shadow.transaction(statements_of(Changes(tuple(first), ())), None, where=where)
        start = await shadow.catalog()
    rest = changes(start, goal)
    await shadow.transaction(statements_of(rest), None, where=where)
    return Changes((*first, *rest.statements), rest.losses)
