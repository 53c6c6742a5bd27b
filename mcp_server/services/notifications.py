"""Notifications: a team's channels are told what happened, later, a few times if need be, and never at a call's cost."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import get_args

import anyio
from anyio.abc import TaskGroup
from pydantic import SecretStr

from mcp_server.domain.errors import Invalid, NotFound, QuaymasterError, RateLimited
from mcp_server.domain.happenings import Channel, Happening, message
from mcp_server.ports.notifier import Webhook
from mcp_server.ports.store import Store

log = logging.getLogger(__name__)
CHANNELS: tuple[Channel, ...] = get_args(Channel)
MOST_WAITING = 20
MOST_LINES = 500
AT_ONCE = 8
TRIES = 4
PAUSE = 1.0
LEAVING_SECONDS = 3.0

Line = tuple[str, Channel]


class Notifications:
    """`ports.notifier.Notifier`. Each channel of a team has its own short line: one that is dead delays no other.

    When a line is full its oldest word is dropped. `pause`: seconds before the second try; four times as long
    before each later one.
    """

    def __init__(self, store: Store, webhook: Webhook, *, tries: int = TRIES, pause: float = PAUSE) -> None:
        self._store = store
        self._webhook = webhook
        self._tries = tries
        self._pause = pause
        self._lines: dict[Line, deque[Happening]] = {}
        self._group: TaskGroup | None = None
        self._posting = anyio.CapacityLimiter(AT_ONCE)
        self._empty = anyio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Words are sent inside; on leaving, what waits has a few seconds to go out."""
        async with anyio.create_task_group() as group:
            self._group = group
            try:
                yield
            finally:
                with anyio.move_on_after(LEAVING_SECONDS, shield=True):
                    await self.idle()
                self._group = None
                group.cancel_scope.cancel()

    async def tell(self, team: str, event: Happening) -> None:
        for channel in CHANNELS:
            self._queue((team, channel), event)

    async def idle(self) -> None:
        """Returns when nothing waits and nothing is being sent."""
        while self._lines:
            self._empty = anyio.Event()
            await self._empty.wait()

    def _queue(self, line: Line, event: Happening) -> None:
        waiting = self._lines.get(line)
        if waiting is not None:
            if len(waiting) == waiting.maxlen:
                log.warning("a notification was dropped: too many wait", extra={"team": line[0]})
            waiting.append(event)
        elif self._group is None or len(self._lines) >= MOST_LINES:
            log.warning("a notification was dropped", extra={"team": line[0]})
        else:
            self._lines[line] = deque([event], maxlen=MOST_WAITING)
            self._group.start_soon(self._send_all, line)

    async def _send_all(self, line: Line) -> None:
        """The line is gone when it is empty, however sending ends."""
        waiting = self._lines[line]
        try:
            while waiting:
                await self._send(line, waiting.popleft())
        finally:
            self._lines.pop(line, None)
            if not self._lines:
                self._empty.set()

    async def _send(self, line: Line, event: Happening) -> None:
        """Never raises: what could not be sent is a line in the log."""
        team, channel = line
        for number in range(1, self._tries + 1):
            try:
                await self._try(team, channel, event)
                return
            except (Invalid, NotFound) as error:
                log.warning("a notification was refused: %s", error.message, extra={"team": team})
                return
            except QuaymasterError as error:
                if number == self._tries:
                    log.warning("a notification was given up: %s", error.message, extra={"team": team})
                    return
                wait = error.details["retry_after"] if isinstance(error, RateLimited) else 0.0
                await anyio.sleep(max(wait, self._pause * 4 ** (number - 1)))
            except Exception:
                # Nothing of the error is written: it may hold the address.
                log.warning("a notification failed", extra={"team": team})
                return

    async def _try(self, team: str, channel: Channel, event: Happening) -> None:
        """The address is read for each try, so that one that was taken away is not posted to any more."""
        found = await self._store.read(lambda tx: tx.teams.get(team))
        address = None if found is None else getattr(found.settings.notifications, channel)
        if address is None:
            return
        async with self._posting:
            await self._webhook.post(SecretStr(address), message(channel, event))
