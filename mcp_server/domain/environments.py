"""The environment variables of a project in one environment, and every version that they had."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from mcp_server.domain.errors import Invalid
from mcp_server.domain.records import Moment, Record, Value
from mcp_server.domain.teams import EnvironmentName

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
PROTECTED = frozenset({"DATABASE_URL", "DATABASE_READ_URL"})
"""Only the server writes these, from what it knows."""

OWN_PREFIX = "QUAYMASTER_"
MOST = 500
LONGEST = 65_536
LARGEST = 1024 * 1024


class ProjectEnvironment(Record):
    """The present version. `env_data` holds values as they are stored: sealed ones when `encrypted`."""

    noun: ClassVar[str] = "environments"
    project: str
    environment: EnvironmentName
    env_data: dict[str, str]
    encrypted: bool = False
    version: int = 1
    created_by: str | None = None
    created_at: Moment
    updated_at: Moment

    @property
    def key(self) -> str:
        return f"{self.project}/{self.environment}"


class EnvironmentVersion(Record):
    """One version as it was saved. Written once; two versions made apart are both kept, under different numbers."""

    noun: ClassVar[str] = "environment_versions"
    project: str
    environment: EnvironmentName
    version: int
    env_data: dict[str, str]
    encrypted: bool = False
    created_by: str | None = None
    created_at: Moment

    @property
    def key(self) -> str:
        return f"{self.project}/{self.environment}/{self.version}"


class Difference(Value):
    """Names by what became of them from one version to another, each sorted."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def writable(names: Iterable[str], argument: str = "variables") -> tuple[str, ...]:
    """The names, sorted. Raises Invalid for one that is no name, or that only the server writes."""
    for name in names:
        if not NAME.fullmatch(name):
            raise Invalid.field(argument, "names of A-Z, a-z, 0-9 and '_', not beginning with a digit")
        if name in PROTECTED or name.upper().startswith(OWN_PREFIX):
            raise Invalid.field(argument, f"{name} is written by the server only")
    return tuple(sorted(names))


def merged(before: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """All variables after these were set, sorted by name. Raises Invalid beyond what may be kept."""
    writable(changes)
    for name, value in changes.items():
        if "\x00" in value or len(value) > LONGEST:
            raise Invalid.field("variables", f"{name}: at most {LONGEST} characters, without NUL")
    after = dict(sorted({**before, **changes}.items()))
    if len(after) > MOST or sum(len(name) + len(value) for name, value in after.items()) > LARGEST:
        raise Invalid.field("variables", f"at most {MOST} variables and {LARGEST} characters together")
    return after


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> Difference:
    return Difference(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(sorted(name for name in before.keys() & after.keys() if before[name] != after[name])),
    )


def renamed(before: Mapping[str, str], after: Mapping[str, str]) -> Difference:
    """The difference as far as it shows without opening any value: what has another value is not known."""
    return difference(dict.fromkeys(before, ""), dict.fromkeys(after, ""))
