"""Audit rows of calls that changed nothing, gathered and kept in batches.

A row waits at most one second. The queue is bounded: what does not fit is dropped and counted, never waited
for.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

import anyio

from mcp_server.domain.audit import AuditRow
from mcp_server.domain.errors import QuaymasterError
from mcp_server.ports.store import Store

CAPACITY = 10_000
BATCH = 500
PAUSE = 0.5

log = logging.getLogger(__name__)


class Trail:
    """`dropped` counts rows lost because the store could not keep up; `failing` is why they wait now."""

    def __init__(self, store: Store, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._store = store
        self._clock = clock
        self._rows: deque[AuditRow] = deque()
        self._used: dict[str, datetime] = {}
        self.dropped = 0
        self.failing: str | None = None

    @property
    def waiting(self) -> int:
        """Rows that are queued."""
        return len(self._rows)

    def now(self) -> datetime:
        return self._clock()

    def add(self, row: AuditRow, *, used: str | None = None) -> None:
        """Queue one row; `used` is the key that the call came with."""
        if len(self._rows) >= CAPACITY:
            self.dropped += 1
        else:
            self._rows.append(row)
        if used is not None:
            self._used[used] = row.timestamp

    async def run(self) -> None:
        """Write batches until cancelled; what is queued then is written by a last, bounded `flush`."""
        try:
            while True:
                await anyio.sleep(PAUSE)
                await self._try()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await self.flush()

    async def _try(self) -> None:
        """A fault that nobody foresaw must not end the writing of audit rows."""
        try:
            await self.flush()
        except Exception as error:
            self.failing = type(error).__name__
            log.exception("audit rows wait")

    async def flush(self) -> None:
        """Write everything queued.

        On a failing store, or when cancelled, the rows stay queued: writing one twice is harmless.
        """
        while self._rows or self._used:
            rows = [self._rows.popleft() for _ in range(min(BATCH, len(self._rows)))]
            used, self._used = self._used, {}
            try:
                await self._store.record(rows, used)
            except QuaymasterError as error:
                self._again(rows, used)
                if self.failing != error.message:
                    log.warning("audit rows wait: %s", error.message)
                self.failing = error.message
                return
            except BaseException:
                self._again(rows, used)
                raise
            if self.failing is not None:
                log.info("audit rows are written again")
            self.failing = None

    def _again(self, rows: list[AuditRow], used: dict[str, datetime]) -> None:
        self._rows.extendleft(reversed(rows))
        self._used = used | self._used
