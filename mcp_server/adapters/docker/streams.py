"""What the engine sends piece by piece: logs, progress, the output of commands."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mcp_server.adapters.docker.engine import Engine
from mcp_server.domain.errors import Invalid
from mcp_server.domain.workloads import Executed, Logs
from mcp_server.ports.orchestrator import Sink

if TYPE_CHECKING:
    import aiohttp
    from aiodocker.stream import Message, Stream

STDERR = 2
STDERR_KEPT = 8192
MAX_LINE = 1_048_576
PIECE = 65536
READ_LOGS = 20.0
QUIET = 0.5


async def frames(content: aiohttp.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """Stream number (1 output, 2 errors) and piece, until the end."""
    while True:
        try:
            number, size = struct.unpack(">BxxxL", await content.readexactly(8))
            yield number, await content.readexactly(size)
        except asyncio.IncompleteReadError:
            return


async def json_lines(content: aiohttp.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """The objects of an answer that is one JSON object after another, a line each."""
    rest = b""
    async for piece in content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.strip():
                yield json.loads(line)
        if len(rest) > MAX_LINE:
            return
    if rest.strip():
        yield json.loads(rest)


async def read_logs(engine: Engine, container: str, params: Mapping[str, Any], max_bytes: int) -> Logs:
    """The end of the logs; what comes before the last `max_bytes` is dropped while it is read."""
    kept, dropped = bytearray(), False
    async with engine.answer(
        "GET", f"containers/{container}/logs", params=params, seconds=READ_LOGS
    ) as response:
        async for _, piece in frames(response.content):
            kept += piece
            if len(kept) > max_bytes:
                dropped = True
                del kept[: len(kept) - max_bytes]
    return Logs(text=kept.decode(errors="replace"), truncated=dropped)


async def run_inside(
    engine: Engine,
    container: str,
    request: Mapping[str, Any],
    *,
    stdin: bytes | AsyncIterable[bytes] | None,
    stdout: Sink | None,
    max_output: int,
    seconds: float,
) -> Executed:
    """Run a command by POST /containers/ID/exec; `request` is its body."""
    from aiodocker.execs import Exec

    output, errors = _Output(stdout, max_output), bytearray()
    async with engine.call(seconds) as docker:
        made = await engine.send("POST", f"containers/{container}/exec", body=request)
        stream = Exec(docker, made["Id"], tty=False).start(detach=False)
        async with stream:
            feeder = asyncio.create_task(_feed(stream, stdin))
            try:
                while (message := await _next(engine, made["Id"], stream, feeder)) is not None:
                    if message.stream == STDERR:
                        errors += message.data
                        del errors[: max(0, len(errors) - STDERR_KEPT)]
                    else:
                        await output.take(message.data)
            finally:
                await _end(feeder)
        ended = await _ended(engine, made["Id"])
    return Executed(
        exit_code=ended["ExitCode"],
        stdout=bytes(output.kept),
        stderr=errors.decode(errors="replace"),
        truncated=output.truncated,
    )


async def _next(engine: Engine, command: str, stream: Stream, feeder: asyncio.Task[None]) -> Message | None:
    """The next piece of output, None at the end.

    The engine never ends the output of a command that ended without reading its input, so that is asked for.
    """
    while True:
        try:
            async with asyncio.timeout(QUIET):
                return await stream.read_out()
        except TimeoutError:
            if not feeder.done() and not (await _state(engine, command))["Running"]:
                return None


class _Output:
    """Passes output on to a sink, or collects its beginning."""

    def __init__(self, sink: Sink | None, max_output: int) -> None:
        self._sink = sink
        self._max = max_output
        self.kept = bytearray()
        self.truncated = False

    async def take(self, piece: bytes) -> None:
        if self._sink is not None:
            await self._sink(piece)
            return
        room = self._max - len(self.kept)
        self.kept += piece[:room]
        self.truncated = self.truncated or len(piece) > room


async def _feed(stream: Stream, stdin: bytes | AsyncIterable[bytes] | None) -> None:
    """Give all of the input, then its end. A command that ends without reading it all is no error of ours.

    When the source of the input fails, the connection is cut, so that nobody waits for the rest.
    """
    if stdin is None:
        return
    try:
        async for piece in _pieces(stdin):
            with suppress(ConnectionError, RuntimeError):
                await stream.write_in(piece)
        _write_end(stream)
    except BaseException:
        if transport := _transport(stream):
            transport.abort()
        raise


async def _pieces(data: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(data, bytes):
        for start in range(0, len(data), PIECE):
            yield data[start : start + PIECE]
    else:
        async for piece in data:
            yield piece


def _write_end(stream: Stream) -> None:
    """Close our half of the connection: the command reads the end of its input and may still write."""
    transport = _transport(stream)
    if transport is None or transport.is_closing():
        return
    if not transport.can_write_eof():
        raise Invalid("Input for a command cannot be ended over this connection to the engine (TLS).")
    transport.write_eof()


def _transport(stream: Stream) -> asyncio.Transport | None:
    response = stream._resp
    return response.connection.transport if response and response.connection else None


async def _end(feeder: asyncio.Task[None]) -> None:
    """An error of the input's source is the caller's to see; a feeder that still waits is not needed any
    more.
    """
    if feeder.done():
        feeder.result()
        return
    feeder.cancel()
    with suppress(asyncio.CancelledError):
        await feeder


async def _ended(engine: Engine, command: str) -> dict[str, Any]:
    """The output ends a moment before the engine has noted the exit code."""
    while True:
        state = await _state(engine, command)
        if not state["Running"] and state["ExitCode"] is not None:
            return state
        await asyncio.sleep(0.01)


async def _state(engine: Engine, command: str) -> dict[str, Any]:
    state: dict[str, Any] = await engine.send("GET", f"exec/{command}/json")
    return state
