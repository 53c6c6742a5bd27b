"""Steps that need not wait for each other, with one error at the end, as if they had been done in turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import anyio

from mcp_server.domain.errors import QuaymasterError


class Together:
    """The block and what was begun in it run side by side. All of them end; then the first refusal is raised."""

    def __init__(self) -> None:
        self._group = anyio.create_task_group()
        self._refusals: list[QuaymasterError] = []

    def begin(self, step: Callable[[], Awaitable[None]]) -> None:
        self._group.start_soon(self._run, step)

    async def _run(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except QuaymasterError as error:
            self._refusals.append(error)

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, QuaymasterError):
            await self._group.__aexit__(None, None, None)
            return
        await self._group.__aexit__(kind, error, trace)
        if self._refusals:
            raise self._refusals[0]
