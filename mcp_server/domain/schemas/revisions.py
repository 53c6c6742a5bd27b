"""The revisions of an Alembic project: what its database has, what is to come, what lies behind a target."""

from __future__ import annotations

import re
from typing import NamedTuple

from mcp_server.domain.errors import Invalid
from mcp_server.domain.schemas.failures import Drift


class Revision(NamedTuple):
    """`message` is the first words of its file."""

    version: str
    message: str
    file: str

    @property
    def label(self) -> str:
        slug = re.sub(r"\W+", "_", self.message).strip("_").lower()[:60]
        return f"{self.version}_{slug}" if slug else self.version


class History(NamedTuple):
    """`applied` and `pending` each behind what they rest on. `unknown` are versions of the database that no file
    has; `heads` are the ends of the files' history."""

    applied: tuple[Revision, ...]
    pending: tuple[Revision, ...]
    unknown: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()


def require_known(history: History) -> None:
    """Raise Drift for a database that is at a revision without a file."""
    if history.unknown:
        raise Drift(
            f"{', '.join(history.unknown)}: the database is at a revision that has no file here",
            next="Bring the file back from version control.",
        )


def behind(history: History, target: str) -> tuple[Revision, ...]:
    """What a rollback to `target` takes back, newest first; the target itself is kept.

    `target` is a number of steps, a version or the beginning of one, a part of a message, or `base` for everything.
    Raises Invalid for none or several matches.
    """
    newest_first = history.applied[::-1]
    if target == "base":
        return newest_first
    if target.isdigit() and len(target) < 4 and not any(each.version == target for each in newest_first):
        steps = int(target)
        if not 1 <= steps <= len(newest_first):
            raise Invalid.field("target", f"1 to {len(newest_first)} steps, a version, a message or 'base'")
        return newest_first[:steps]
    matches = [each for each in newest_first if target in (each.version, each.label)]
    matches = matches or [each for each in newest_first if each.version.startswith(target)]
    matches = matches or [each for each in newest_first if target.lower() in each.label.lower()]
    if len(matches) != 1:
        named = ", ".join(each.label for each in matches) or "nothing that is applied"
        raise Invalid(f"target: '{target[:100]}' names {named}", next="Name one applied revision, or 'base'.")
    return newest_first[: newest_first.index(matches[0])]
