"""Named steps at which a test may end or stop this process, to prove what survives.

`QUAYMASTER_FAULT=POINT:SIGNAL[:N]` sends SIGNAL (KILL, STOP, TERM) to this process when it passes POINT for the N-th time
(default 1). Unset, which is always so in production, passing a point costs one comparison.
"""

from __future__ import annotations

import os
import signal


class _Fault:
    def __init__(self, text: str) -> None:
        point, name, *rest = text.split(":")
        self.point = point
        self.signal = signal.Signals[f"SIG{name}"]
        self.left = int(rest[0]) if rest else 1

    def passing(self, point: str) -> None:
        if point != self.point:
            return
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), self.signal)


_FAULT = _Fault(os.environ["QUAYMASTER_FAULT"]) if "QUAYMASTER_FAULT" in os.environ else None


def at(point: str) -> None:
    """Pass a named step."""
    if _FAULT is not None:
        _FAULT.passing(point)
