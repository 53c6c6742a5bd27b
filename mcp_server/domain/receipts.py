"""The receipt of a switch: what probes through the real proxy saw while traffic moved from one slot to another."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from mcp_server.domain.records import Value
from mcp_server.domain.routes import Probe
from mcp_server.domain.slots import SlotName

MOST_FAILED = 0.1
"""Of the probes after the switch; with more the traffic goes back by itself."""


class Receipt(Value):
    """`sent` and `failed` count all probes; `p99_ms` is theirs. `after` counts, by slot, the answers after the
    switch; `after_failed` those probes after it that the new slot did not answer. `certificate`: whether the last
    of them met one; None without TLS.
    """

    sent: int = 0
    failed: int = 0
    p99_ms: float | None = None
    after: dict[str, int] = Field(default_factory=dict)
    after_failed: int = 0
    switch_ms: float | None = None
    certificate: bool | None = None
    errors: tuple[str, ...] = ()


def receipt_of(
    around: Sequence[Probe],
    after: Sequence[Probe],
    slot: SlotName,
    switch_ms: float,
    *,
    secured: bool = False,
) -> Receipt:
    """`around` were sent before and while traffic moved, and may be answered by either slot."""
    probes = (*around, *after)
    missed = [probe for probe in after if not probe.answered_by(slot)]
    broken = [probe for probe in around if probe.status is None or probe.status >= 500]
    reasons = (
        probe.error or f"status {probe.status} from {probe.slot or 'no slot'}" for probe in (*broken, *missed)
    )
    counted: dict[str, int] = {}
    for probe in after:
        if probe.slot is not None:
            counted[probe.slot] = counted.get(probe.slot, 0) + 1
    return Receipt(
        sent=len(probes),
        failed=len(broken) + len(missed),
        p99_ms=_p99([probe.milliseconds for probe in probes]),
        after=counted,
        after_failed=len(missed),
        switch_ms=round(switch_ms, 3),
        certificate=after[-1].secure if secured and after else None,
        errors=tuple(dict.fromkeys(reasons))[:3],
    )


def passed(receipt: Receipt, sent_after: int) -> bool:
    """Whether the new slot answered well enough for traffic to stay there. No probes: nobody saw it."""
    return sent_after > 0 and receipt.after_failed <= sent_after * MOST_FAILED


def _p99(milliseconds: Sequence[float]) -> float | None:
    if not milliseconds:
        return None
    ordered = sorted(milliseconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
