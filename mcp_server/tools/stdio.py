"""Serving one client over stdin and stdout, with a clean stop on end of input, SIGTERM and SIGINT.

Nothing but the protocol reaches stdout: while serving, file descriptor 1 is stderr, and the wire a
private duplicate. After the end of input, or a signal, running calls may finish; a second signal ends
them.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp.types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)

from mcp_server.tools.server import QuaymasterServer
from mcp_server.tools.visits import Visit

log = logging.getLogger(__name__)
LONGEST_LINE = 16 * 2**20
DRAIN_SECONDS = 10.0
FLUSH_SECONDS = 2.0
PIPE_BUF = 4096
"""What a pipe that polls as writable takes without blocking (POSIX: 512 at the least, Linux and macOS
more)."""


async def serve_stdio(server: QuaymasterServer, visit: Visit, *, drain: float = DRAIN_SECONDS) -> None:
    """Serve until the client has gone or a signal came. `drain` in seconds bounds what still runs then."""
    with server.door.open_for(visit), _private_wire() as (incoming, outgoing):
        await _Connection(server, incoming, outgoing, drain).serve()


class _Connection:
    """The messages of one client; knows which requests are still without an answer."""

    def __init__(self, server: QuaymasterServer, incoming: int, outgoing: int, drain: float) -> None:
        self._server = server
        self._incoming = incoming
        self._outgoing = outgoing
        self._drain = drain
        self._open: set[Any] = set()
        self._answered = anyio.Event()
        self._reading = anyio.CancelScope()

    async def serve(self) -> None:
        to_server, from_client = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        to_client, from_server = anyio.create_memory_object_stream[SessionMessage](0)
        inner = self._server.inner
        async with anyio.create_task_group() as signals:
            signals.start_soon(self._watch_signals, signals.cancel_scope)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, to_server, to_client.clone())
                tasks.start_soon(self._write, from_server)
                await inner.run(from_client, to_client, inner.create_initialization_options())
                tasks.cancel_scope.deadline = anyio.current_time() + FLUSH_SECONDS
            signals.cancel_scope.cancel()

    async def _watch_signals(self, scope: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                if self._reading.cancel_called:
                    scope.cancel()
                self._reading.cancel()

    async def _read(
        self,
        to_server: MemoryObjectSendStream[SessionMessage | Exception],
        to_client: MemoryObjectSendStream[SessionMessage],
    ) -> None:
        async with to_server, to_client:
            with self._reading:
                async for line in _lines(self._incoming):
                    try:
                        message = self._received(line)
                    except ValueError:
                        await to_client.send(_no_message(line))
                    else:
                        await to_server.send(message)
            self._server.end_listening()
            with anyio.move_on_after(self._drain):
                while self._open:
                    await self._answered.wait()

    def _received(self, line: bytes) -> SessionMessage:
        """Raises ValueError for what is no message."""
        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
        if isinstance(message, JSONRPCRequest):
            self._open.add(message.id)
        elif isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
            self._settle((message.params or {}).get("requestId"))
        return SessionMessage(message)

    async def _write(self, from_server: MemoryObjectReceiveStream[SessionMessage]) -> None:
        async with from_server:
            async for each in from_server:
                text = each.message.model_dump_json(by_alias=True, exclude_unset=True)
                try:
                    await _write(self._outgoing, text.encode() + b"\n")
                except OSError as error:
                    log.info("the client no longer reads", extra={"error": type(error).__name__})
                    self._reading.cancel()
                if isinstance(each.message, (JSONRPCResponse, JSONRPCError)):
                    self._settle(each.message.id)

    def _settle(self, request: Any) -> None:
        if isinstance(request, (str, int)):
            self._open.discard(request)
        self._answered.set()
        self._answered = anyio.Event()


def _no_message(line: bytes) -> SessionMessage:
    """The error for a line that nobody can answer otherwise: a client that waits learns that it waits in vain."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        code, reason, asked = PARSE_ERROR, "a line that is not JSON", None
    else:
        code, reason = INVALID_REQUEST, "a line that is no JSON-RPC message"
        asked = said.get("id") if isinstance(said, dict) and "method" in said else None
    log.warning("the client sent %s", reason)
    number = asked if isinstance(asked, str) or type(asked) is int else None
    error = ErrorData(code=code, message=f"This is {reason}.")
    return SessionMessage(JSONRPCError(jsonrpc="2.0", id=number, error=error))


async def _lines(descriptor: int) -> AsyncIterator[bytes]:
    """Lines until the end of input; empty ones are left out. Ends at a line that is too long, too."""
    buffer = bytearray()
    async for chunk in _chunks(descriptor):
        buffer += chunk
        *lines, rest = buffer.split(b"\n")
        buffer = bytearray(rest)
        for line in lines:
            if line.strip():
                yield bytes(line)
        if len(buffer) > LONGEST_LINE:
            log.error("a message is longer than %s bytes", LONGEST_LINE)
            return


async def _chunks(descriptor: int) -> AsyncIterator[bytes]:
    while True:
        try:
            await anyio.wait_readable(descriptor)
        except PermissionError:
            await anyio.lowlevel.checkpoint()  # a file or the null device: always readable, and not pollable
        chunk = os.read(descriptor, 65536)
        if not chunk:
            return
        yield chunk


async def _write(descriptor: int, data: bytes) -> None:
    """Write all of it; only what may block goes to a thread."""
    if len(data) <= PIPE_BUF and select.select([], [descriptor], [], 0)[1]:
        _write_all(descriptor, data)
    else:
        await anyio.to_thread.run_sync(_write_all, descriptor, data, abandon_on_cancel=True)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@contextmanager
def _private_wire() -> Iterator[tuple[int, int]]:
    """Duplicates of stdin and stdout, while 0 reads nothing and 1 is stderr, for children and stray
    prints too."""
    incoming, outgoing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    try:
        yield incoming, outgoing
    finally:
        os.dup2(incoming, 0)
        os.dup2(outgoing, 1)
