"""Numbers in Prometheus' text format: calls by tool and outcome, and the store's gauges."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Protocol

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

FORMAT = "text/plain; version=0.0.4; charset=utf-8"


class StoreNumbers(Protocol):
    """What is shown of a store's status."""

    @property
    def mode(self) -> str: ...
    @property
    def healthy(self) -> bool: ...
    @property
    def pending(self) -> int: ...
    @property
    def conflicts(self) -> int: ...
    @property
    def gauges(self) -> Mapping[str, float]: ...


def metrics_route(
    outcomes: Mapping[tuple[str, str], int],
    seconds: Mapping[str, float],
    store: Callable[[], Awaitable[StoreNumbers]],
) -> Callable[[Request], Awaitable[Response]]:
    async def metrics(request: Request) -> Response:
        return PlainTextResponse(exposition(outcomes, seconds, await store()), media_type=FORMAT)

    return metrics


def exposition(
    outcomes: Mapping[tuple[str, str], int], seconds: Mapping[str, float], store: StoreNumbers
) -> str:
    """The whole page."""
    return "\n".join([*_calls(outcomes), *_durations(seconds), *_store(store), ""])


def _calls(outcomes: Mapping[tuple[str, str], int]) -> Iterator[str]:
    yield from _head("quaymaster_calls_total", "counter", "Calls of tools by tool and outcome.")
    for (tool, outcome), count in sorted(outcomes.items()):
        yield f'quaymaster_calls_total{{tool="{tool}",outcome="{outcome}"}} {count}'


def _durations(seconds: Mapping[str, float]) -> Iterator[str]:
    yield from _head("quaymaster_call_seconds_total", "counter", "Seconds spent in calls, by tool.")
    for tool, total in sorted(seconds.items()):
        yield f'quaymaster_call_seconds_total{{tool="{tool}"}} {total:.6f}'


def _store(store: StoreNumbers) -> Iterator[str]:
    gauges = {
        "healthy": float(store.healthy),
        "pending": float(store.pending),
        "conflicts": float(store.conflicts),
        **store.gauges,
    }
    yield from _head("quaymaster_store_mode", "gauge", "The mode of the store, as a label.")
    yield f'quaymaster_store_mode{{mode="{store.mode}"}} 1'
    for name, value in sorted(gauges.items()):
        label = f"quaymaster_store_{re.sub(r'[^a-z0-9_]', '_', name.lower())}"
        yield from _head(label, "gauge", f"The store: {name.replace('_', ' ')}.")
        yield f"{label} {value:.17g}"


def _head(name: str, kind: str, meaning: str) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
