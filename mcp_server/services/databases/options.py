"""What the operator decides about databases, and the named steps of the work on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from mcp_server.domain.our_workloads import DATABASE_LIMITS
from mcp_server.domain.workloads import MB, Limits

Step = Callable[[str], None]
"""Told each named step as it is passed; tests end the process there."""

GB = 1024 * MB


@dataclass(frozen=True, slots=True)
class Options:
    """`files` is the directory of SQLite databases of projects without a path. Names contain `{project}`.

    `starts`: servers that may start at once; None: one for each of the engine's cores. `seat_seconds`: how
    long others who start may keep one waiting before they count as frozen. `pool`: standby databases. `spare`: bytes of memory that must stay free beside each of them. Seconds:
    `ready_seconds` for a server to answer, `work_seconds` for undoing.
    """

    files: str
    image: str = "postgres:16-alpine"
    vector_image: str = "pgvector/pgvector:pg16"
    container: str = "quaymaster-db-{project}"
    volume: str = "quaymaster-data-{project}"
    ports: range = field(default_factory=lambda: range(5432, 5501))
    isolation: Literal["container", "shared"] = "container"
    pool: int = 2
    spare: int = GB
    quota: int = 50
    limits: Limits = DATABASE_LIMITS
    starts: int | None = None
    seat_seconds: float = 180.0
    ready_seconds: float = 30.0
    work_seconds: float = 90.0

    def image_for(self, extensions: tuple[str, ...]) -> str:
        return self.vector_image if "vector" in extensions else self.image


def no_step(name: str) -> None:
    """Outside of tests nothing happens at a step."""
