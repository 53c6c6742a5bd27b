"""What is believed of one database, and when it may be asked again. Pure: the time is an argument."""

from __future__ import annotations

from dataclasses import dataclass, replace

FIRST_DELAY = 0.5
LONGEST_DELAY = 30.0


@dataclass(frozen=True, slots=True)
class Standing:
    """Closed while `failures` is 0, open until `retry_at`, half-open after it: then one probe decides.

    There is no end to the probing: however often it failed, after at most `LONGEST_DELAY` it is tried again.
    """

    failures: int = 0
    retry_at: float = 0.0
    good_at: float | None = None
    doubted: bool = False
    reason: str = "never connected"

    def is_good(self, now: float, within: float) -> bool:
        """Whether the last probe was good, is no older than `within` seconds, and nothing spoke against it."""
        return (
            self.good_at is not None
            and not self.failures
            and not self.doubted
            and now - self.good_at <= within
        )

    def may_probe(self, now: float) -> bool:
        return not self.failures or now >= self.retry_at

    def retry_after(self, now: float) -> float:
        return max(0.0, self.retry_at - now) if self.failures else 0.0

    def succeeded(self, now: float) -> Standing:
        return Standing(good_at=now, reason="")

    def failed(self, now: float, reason: str, jitter: float) -> Standing:
        """`jitter` in [0, 1) spreads the next probes of many processes over a fifth of the delay."""
        delay = min(FIRST_DELAY * 2 ** min(self.failures, 16), LONGEST_DELAY)
        return replace(
            self,
            failures=self.failures + 1,
            retry_at=now + delay * (1 - jitter / 5),
            doubted=False,
            reason=reason,
        )

    def in_doubt(self) -> Standing:
        """A connection broke: the next user asks before it trusts."""
        return replace(self, doubted=True)
