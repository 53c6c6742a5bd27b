"""What counts as an answer, asked of small servers that answer anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mcp_server.adapters.readiness.sockets import SocketReadiness


@asynccontextmanager
async def answering(reply: bytes) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", None),
        (b"HTTP/1.0 204 No Content\r\n\r\n", None),
        (b"HTTP/1.1 200\r\n\r\n", None),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", "redirect"),
        (b"HTTP/1.1 500 Oops\r\n\r\n", "500"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "404"),
        (b"SSH-2.0-OpenSSH\r\n", "not HTTP"),
        (b"", "refused or cut"),
        (b"x" * 100_000, "refused or cut"),
    ],
)
async def test_only_2xx_is_healthy(reply, word):
    async with answering(reply) as port:
        answer = await SocketReadiness().http(port, "/health", seconds=5)
    assert (answer is None) == (word is None)
    assert word is None or word in str(answer)


async def test_silence_is_bounded_and_a_closed_port_is_no_answer():
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    server = await asyncio.start_server(nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        assert "no answer within" in str(await SocketReadiness().http(port, "/", seconds=0.2))
        assert await SocketReadiness().tcp("127.0.0.1", port, seconds=1) is None
    assert await SocketReadiness().tcp("127.0.0.1", port, seconds=1) == "nothing listens on its port"
