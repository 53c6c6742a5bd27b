"""What every stored record has in common, and how a record is named.

A noun is a kind of record (`projects`, `locks`, ...). A record's `key` names it within its noun; `rev` counts
its committed versions from 1 and is what a change is based on. Records are frozen: a change returns a new one.
"""

from __future__ import annotations

from abc import abstractmethod
from datetime import datetime
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict


def _aware(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time needs a time zone")
    return value


Moment = Annotated[datetime, AfterValidator(_aware)]
"""A point in time with a time zone; stored and compared in UTC, microseconds kept."""


class Value(BaseModel):
    """A frozen value that refuses unknown fields."""

    # Built when first used: a process uses few of the kinds that there are.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    def change(self, **fields: Any) -> Self:
        """A copy with these fields replaced. Fields are not validated again: pass what the type says."""
        return self.model_copy(update=fields)


class Record(Value):
    """A value that a store keeps under `noun` and `key`."""

    noun: ClassVar[str]
    rev: int = 0

    @property
    @abstractmethod
    def key(self) -> str:
        """The name of this record within its noun; it never changes."""
