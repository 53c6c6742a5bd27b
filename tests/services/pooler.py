"""A connection pooler in transaction mode: after a transaction the next one may be another server connection's.

It hands a client's transactions to one of two server connections, and changes between them when the test says so.
Its own server connections are made by asyncpg, whose transports it then takes over.
"""

import asyncio
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import asyncpg

SSL_REQUEST = 80877103
IDLE = b"Z\x00\x00\x00\x05I"


class TransactionPooler:
    """`elsewhere(sent)`: asked with what the client sends outside of a transaction, whether that goes to the
    other server connection from then on."""

    def __init__(self, url: str, elsewhere: Callable[[bytes], bool]) -> None:
        self._url = url
        self._elsewhere = elsewhere
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(lambda: [each.cancel() for each in asyncio.all_tasks(self._loop)])
        self._loop.call_soon_threadsafe(lambda: self._loop.call_later(0.1, self._loop.stop))
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> int:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._greet(reader, writer)
            servers = [await Server.connected(self._url, writer) for _ in range(2)]
            try:
                await self._pass_on(reader, servers)
            finally:
                for each in servers:
                    each.end()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            length, code = struct.unpack(">II", await reader.readexactly(8))
            await reader.readexactly(length - 8)
            if code != SSL_REQUEST:
                break
            writer.write(b"N")
        parameters = {
            "server_version": "16.0",
            "client_encoding": "UTF8",
            "standard_conforming_strings": "on",
        }
        writer.write(b"R" + struct.pack(">II", 8, 0))
        for name, value in parameters.items():
            body = f"{name}\0{value}\0".encode()
            writer.write(b"S" + struct.pack(">I", len(body) + 4) + body)
        writer.write(b"K" + struct.pack(">III", 12, 1, 1) + IDLE)

    async def _pass_on(self, reader: asyncio.StreamReader, servers: list["Server"]) -> None:
        place = 0
        while True:
            head = await reader.readexactly(5)
            message = head + await reader.readexactly(struct.unpack(">I", head[1:])[0] - 4)
            if head[:1] == b"X":
                return
            servers[place].send(message)
            if head[:1] in b"QS" and self._elsewhere(message):
                await servers[place].until_idle()
                place = 1 - place


class Server(asyncio.Protocol):
    """One server connection; what it says goes to the client."""

    def __init__(self, connection: Any, client: asyncio.StreamWriter) -> None:
        self._connection = connection  # ends its transport when it is let go
        self._transport = connection._transport
        self._client = client
        self._idle = asyncio.Event()
        self._idle.set()

    @classmethod
    async def connected(cls, url: str, client: asyncio.StreamWriter) -> "Server":
        connection: Any = await asyncpg.connect(url, statement_cache_size=0)
        server = cls(connection, client)
        connection._transport.set_protocol(server)
        return server

    def send(self, message: bytes) -> None:
        self._idle.clear()
        self._transport.write(message)

    def data_received(self, data: bytes) -> None:
        self._client.write(data)
        if data.endswith(IDLE):
            self._idle.set()

    async def until_idle(self) -> None:
        await asyncio.wait_for(self._idle.wait(), 20)

    def end(self) -> None:
        self._transport.abort()
