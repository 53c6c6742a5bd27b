"""Timing calls through real clients, and saying what was measured."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import anyio

Call = Callable[[int], Awaitable[object]]


@dataclass
class Figures:
    """Milliseconds; `rate` is calls a second over all callers."""

    name: str
    p50: float
    p95: float
    p99: float
    rate: float
    calls: int
    errors: int = 0


@dataclass
class Row:
    """One line of the report: what was measured, beside which yardstick, and the target."""

    what: str
    value: str
    yardstick: str = ""
    ratio: float | None = None
    target: str = ""
    met: bool | None = None
    data: dict[str, Any] = field(default_factory=dict)


async def timed(name: str, call: Call, *, calls: int, callers: int = 1) -> Figures:
    """`calls` calls spread over `callers` tasks at once."""
    took: list[float] = []
    failed = 0
    numbers = iter(range(calls))

    async def caller() -> None:
        nonlocal failed
        for number in numbers:
            began = time.perf_counter()
            try:
                await call(number)
            except Exception as error:
                failed += 1
                if failed == 1:
                    print(f"{name}: {error}", file=sys.stderr)
                continue
            took.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(callers):
            group.start_soon(caller)
    return figures(name, took, time.perf_counter() - began, failed)


def figures(name: str, took: Sequence[float], seconds: float, failed: int = 0) -> Figures:
    if not took:
        return Figures(name, 0, 0, 0, 0, 0, failed)
    ordered = sorted(took)
    at = lambda share: ordered[min(len(ordered) - 1, int(len(ordered) * share))]  # noqa: E731
    return Figures(name, at(0.5), at(0.95), at(0.99), len(took) / seconds, len(took), failed)


async def in_turn(rounds: int, *measures: Callable[[], Awaitable[Figures]]) -> list[Figures]:
    """Each measure `rounds` times, A B A B ...; the round with the median p50 of each."""
    found: list[list[Figures]] = [[] for _ in measures]
    for _ in range(rounds):
        for place, measure in enumerate(measures):
            found[place].append(await measure())
    return [sorted(taken, key=lambda f: f.p50)[len(taken) // 2] for taken in found]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def against(what: str, ours: Figures, theirs: Figures, *, limit: float, target: str) -> Row:
    """A row on the ratio of the two medians."""
    ratio = ours.p50 / theirs.p50
    return Row(
        what,
        f"{ours.p50:.2f} ms",
        f"{theirs.name} {theirs.p50:.2f} ms",
        round(ratio, 2),
        target,
        ratio <= limit,
        {"ours": asdict(ours), "theirs": asdict(theirs)},
    )


def table(rows: Sequence[Row]) -> str:
    lines = ["| what | measured | beside | ratio | target | met |", "|---|---|---|---|---|---|"]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        met = "" if row.met is None else ("yes" if row.met else "no")
        lines.append(f"| {row.what} | {row.value} | {row.yardstick} | {ratio} | {row.target} | {met} |")
    return "\n".join(lines)
