"""As much of HTTP/2 as a load needs: GET on many streams of one connection, nothing of what was lost hidden."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

DATA, HEADERS, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 32
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
OK = 0x88
"""`:status: 200` of the static table."""


@dataclass
class _Stream:
    ended: asyncio.Future[str]
    ok: bool = False
    body: bytes = b""


@dataclass
class Http2:
    """A connection to 127.0.0.1 that never comes back once it is gone. `async with` opens and closes it."""

    port: int
    host: str
    trust: ssl.SSLContext
    _next: int = 1
    _streams: dict[int, _Stream] = field(default_factory=dict)
    _gone: str | None = None

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.trust, server_hostname=self.host
        )
        found = self._writer.get_extra_info("ssl_object").selected_alpn_protocol()
        if found != "h2":
            raise ConnectionError(f"the other side speaks {found}")
        self._writer.write(PREFACE + _frame(SETTINGS, 0, 0))
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        self._writer.close()

    async def get(self, path: str) -> str:
        """The body of a 200. Raises ConnectionError for anything else."""
        if self._gone is not None:
            raise ConnectionError(self._gone)
        number, self._next = self._next, self._next + 2
        stream = self._streams[number] = _Stream(asyncio.get_running_loop().create_future())
        # GET and https by their place in the static table, path and authority as they are.
        block = b"\x82\x87" + _literal(4, path) + _literal(1, self.host)
        self._writer.write(_frame(HEADERS, END_STREAM | END_HEADERS, number, block))
        try:
            return await stream.ended
        finally:
            del self._streams[number]

    async def _read(self) -> None:
        why = "closed"
        try:
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                self._take(head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFFFFFF, payload)
        except (OSError, asyncio.IncompleteReadError) as error:
            why = type(error).__name__
        finally:
            self._gone = self._gone or why
            for stream in self._streams.values():
                if not stream.ended.done():
                    stream.ended.set_exception(ConnectionError(self._gone))

    def _take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        stream = self._streams.get(number)
        if kind == SETTINGS and not flags & ACK:
            self._writer.write(_frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._writer.write(_frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self._gone = "told to go away"
        elif kind == RESET and stream is not None:
            stream.ended.set_exception(ConnectionError("the stream was reset"))
        elif kind == HEADERS and stream is not None:
            skipped = (1 if flags & PADDED else 0) + (5 if flags & PRIORITY else 0)
            stream.ok = stream.ok or payload[skipped] == OK
        elif kind == DATA:
            if payload:
                self._writer.write(_frame(WINDOW, 0, 0, len(payload).to_bytes(4, "big")))
            if stream is not None:
                stream.body += payload
        if kind in (HEADERS, DATA) and flags & END_STREAM and stream is not None:
            self._end(stream)

    def _end(self, stream: _Stream) -> None:
        if stream.ok:
            stream.ended.set_result(stream.body.decode(errors="replace"))
        else:
            stream.ended.set_exception(ConnectionError("not 200"))


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _literal(name: int, value: str) -> bytes:
    """A field whose name is in the static table, not to be indexed; up to 126 bytes, without Huffman's code."""
    raw = value.encode()
    if len(raw) > 126:
        raise ValueError("a short value, please")
    return bytes((name, len(raw))) + raw
