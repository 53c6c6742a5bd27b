"""What is said of a database and its migrations: on a terminal, as JSON, to the callers of tools."""

from __future__ import annotations

from mcp_server.domain.records import Value
from mcp_server.services.schemas.chains import Ran, Standing


class Listed(Value):
    name: str
    engine: str | None
    variable: str
    source: str
    place: str | None
    migrations: int
    has_schema: bool
    has_seed: bool
    alembic: bool


class Status(Value):
    """Labels of migrations. `drift` is said where the caller asked for it: how `schema.sql` and the database differ."""

    name: str
    place: str
    applied: tuple[str, ...]
    pending: tuple[str, ...]
    edited: tuple[str, ...]
    missing: tuple[str, ...]
    out_of_order: tuple[str, ...]
    half: tuple[str, ...]
    lint: tuple[str, ...] = ()
    drift: tuple[str, ...] | None = None

    @property
    def sound(self) -> bool:
        return not (self.edited or self.missing or self.out_of_order or self.half)


class Rehearsed(Value):
    """One migration as it went on a clone."""

    migration: str
    seconds: float
    locks: tuple[str, ...]
    rewritten: tuple[str, ...]
    touched: dict[str, int]
    findings: tuple[str, ...]


def status_of(name: str, place: str, found: Standing) -> Status:
    return Status(
        name=name,
        place=place,
        applied=found.applied,
        pending=found.pending,
        edited=found.edited,
        missing=found.missing,
        out_of_order=found.out_of_order,
        half=found.half,
        lint=found.lint,
    )


def rehearsed_of(ran: Ran, seconds: float) -> Rehearsed:
    return Rehearsed(
        migration=ran.label,
        seconds=round(seconds, 3),
        locks=ran.footprint.locks,
        rewritten=ran.footprint.rewritten,
        touched=dict(ran.footprint.touched),
        findings=ran.findings,
    )
