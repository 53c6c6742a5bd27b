"""Whether there is an engine: asked once for many, within two seconds, and kept for a minute.

That nothing was heard in time is no answer: it is kept just long enough that not each of many callers waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from mcp_server.adapters.docker.engine import CHECK, Engine
from mcp_server.domain.errors import QuaymasterError
from mcp_server.domain.workloads import EngineStatus

PATIENCE = 2.0
KEPT_FOR = 60.0
SILENCE_KEPT_FOR = 5.0


class Detection:
    """The newest answer. What a call finds out in between about a lost engine ends an older answer's life."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._turn = asyncio.Lock()
        self._status: EngineStatus | None = None
        self._asked_at = float("-inf")
        self._questions = 0

    async def status(self, refresh: bool) -> EngineStatus:
        """Callers at one time share one question; with `refresh` only one that began after their call."""
        begun = self._questions
        if not refresh and (kept := self._kept()):
            return kept
        async with self._turn:
            kept = self._kept()
            if kept and (not refresh or self._questions > begun):
                return kept
            self._questions += 1
            self._asked_at = self._clock()
            self._status = await self._ask()
            return self._status

    def _kept(self) -> EngineStatus | None:
        age = self._clock() - self._asked_at
        lost_since = self._engine.lost_at > self._asked_at and self._status and self._status.available
        silent = self._status is not None and self._status.silent
        return None if age >= (SILENCE_KEPT_FOR if silent else KEPT_FOR) or lost_since else self._status

    async def _ask(self) -> EngineStatus:
        address = self._engine.address
        try:
            self._engine.load()
            async with asyncio.timeout(PATIENCE):
                version = await self._engine.send("GET", "version")
                info = await self._info()
        except TimeoutError:
            reason = f"The Docker engine did not answer within {PATIENCE:g} seconds; it may only be busy."
            return _none(address, reason, silent=True)
        except QuaymasterError as error:
            return _none(address, error.message, error.next)
        except (ValueError, OSError) as error:
            return _none(address, str(error))
        if (system := version.get("Os", "linux")) != "linux":
            return _none(address, f"The Docker engine runs containers of {system}; Linux is needed.")
        return EngineStatus(
            available=True,
            address=address,
            version=version["Version"],
            api_version=version["ApiVersion"],
            memory=info.get("MemTotal"),
            cpus=info.get("NCPU"),
        )

    async def _info(self) -> dict[str, Any]:
        """What the host has. An engine that does not tell is an engine all the same."""
        try:
            answer: dict[str, Any] = await self._engine.send("GET", "info", seconds=PATIENCE / 2)
        except QuaymasterError:
            return {}
        return answer


def _none(address: str, reason: str, remedy: str | None = None, *, silent: bool = False) -> EngineStatus:
    return EngineStatus(
        available=False, address=address, reason=reason, remedy=remedy or CHECK, silent=silent
    )
