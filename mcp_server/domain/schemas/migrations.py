"""What is applied, what is pending, and what does not fit: one comparison of files with the ledger.

A migration is its version and the checksum of its text. The ledger is the database's own list of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from mcp_server.domain.errors import Invalid
from mcp_server.domain.schemas.failures import Drift, HalfApplied
from mcp_server.domain.schemas.folders import Migration

Stage = Literal["applied", "running", "reverting"]


class Applied(NamedTuple):
    """A row of the ledger. While a migration without transaction runs, `done` of its statements are known to
    have ended, and `begun` says that the one after them was sent."""

    version: str
    name: str
    checksum: str
    stage: Stage = "applied"
    done: int = 0
    begun: bool = False
    applied_by: str = ""
    applied_at: datetime | None = None

    @property
    def label(self) -> str:
        return f"{self.version}_{self.name}"


class Examination(NamedTuple):
    """Names as the folders are called, in order of their versions."""

    applied: tuple[Migration, ...]
    pending: tuple[Migration, ...]
    edited: tuple[str, ...]
    missing: tuple[str, ...]
    out_of_order: tuple[str, ...]
    half: tuple[Applied, ...]

    @property
    def sound(self) -> bool:
        return not (self.edited or self.missing or self.out_of_order or self.half)


def examine(files: Sequence[Migration], ledger: Iterable[Applied]) -> Examination:
    """`files` in order."""
    known = {int(row.version): row for row in ledger}
    ended = {order for order, row in known.items() if row.stage == "applied"}
    newest = max(ended, default=-1)
    pending = tuple(each for each in files if each.order not in ended)
    return Examination(
        applied=tuple(each for each in files if each.order in ended),
        pending=pending,
        edited=tuple(
            each.label
            for each in files
            if each.order in known and known[each.order].checksum != each.checksum
        ),
        missing=tuple(known[order].label for order in sorted(known.keys() - {each.order for each in files})),
        out_of_order=tuple(each.label for each in pending if each.order < newest),
        half=tuple(row for _, row in sorted(known.items()) if row.stage != "applied"),
    )


def require_sound(
    found: Examination, *, allow_missing: bool = False, allow_out_of_order: bool = False
) -> None:
    """Raise Drift, naming the migrations, for what a runner must not go over."""
    if found.edited:
        raise Drift(
            f"{', '.join(found.edited)}: the file was changed after it was applied",
            next="Set the file back and write a new migration; or, if the database already agrees with the file, "
            "'quaymaster db migrate -t resolve --applied VERSION'.",
        )
    if found.missing and not allow_missing:
        raise Drift(
            f"{', '.join(found.missing)}: applied here, but there is no such folder",
            next="Bring the folder back from version control, or pass --allow-missing.",
        )
    if found.out_of_order and not allow_out_of_order:
        raise Drift(
            f"{', '.join(found.out_of_order)}: older than what is applied already",
            next="Give it a newer version, or pass --allow-out-of-order.",
        )


def to_revert(found: Examination, target: str) -> tuple[Migration, ...]:
    """What a rollback to `target` takes back, newest first.

    `target` is a number of steps, a version, or a part of a name; the target itself is kept. `0` as a version
    or name is not a target: `base` takes everything back. What was half taken back goes on. Raises Invalid for none or
    several matches, HalfApplied for a migration that came half forward.
    """
    newest_first = _to_take_back(found)
    if target == "base":
        return newest_first
    if target.isdigit() and len(target) < 4 and not any(each.version == target for each in newest_first):
        steps = int(target)
        if not 1 <= steps <= len(newest_first):
            raise Invalid.field("target", f"1 to {len(newest_first)} steps, a version, a name or 'base'")
        return newest_first[:steps]
    matches = [each for each in found.applied if target in (each.version, each.label)] or [
        each for each in found.applied if target.lower() in each.label.lower()
    ]
    if len(matches) != 1:
        named = ", ".join(each.label for each in matches) or "nothing that is applied"
        raise Invalid(f"target: '{target[:100]}' names {named}", next="Name one applied version, or 'base'.")
    return tuple(each for each in newest_first if each.order > matches[0].order)


def _to_take_back(found: Examination) -> tuple[Migration, ...]:
    forward = [row.label for row in found.half if row.stage == "running"]
    if forward:
        raise HalfApplied(f"{', '.join(forward)}: half applied, which no down.sql is written for")
    begun = {int(row.version) for row in found.half}
    half = [each for each in found.pending if each.order in begun]
    return tuple(sorted([*found.applied, *half], key=lambda each: each.order, reverse=True))
