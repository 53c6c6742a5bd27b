"""Head and body of an answer leave in one piece: each piece costs a system call, and wakes its reader once more."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 64 * 1024
"""Bytes that are gathered; with more the transport decides at once whether the writer has to pause."""


class Gathering:
    """A transport whose small writes of one turn of the event loop leave together, at the end of the turn."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._due: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not data:
            return
        if not self._due:
            self._loop.call_soon(self._leave)
        self._due.append(data)
        self._size += len(data)
        if self._size > MOST:
            self._leave()

    def close(self) -> None:
        self._leave()
        self._transport.close()

    def _leave(self) -> None:
        due, self._due, self._size = self._due, [], 0
        if due:
            self._transport.write(due[0] if len(due) == 1 else b"".join(due))


class GatheringProtocol(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", Gathering(transport)))
