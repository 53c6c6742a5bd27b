"""Clients that never try again, so that everything lost is counted."""

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from .http2 import Http2

ANSWER_WITHIN = 8.0


class Answer(NamedTuple):
    """`sent` and `received` by the monotonic clock; `text` is the name of the application that answered."""

    host: str
    sent: float
    received: float
    text: str


@dataclass
class Load:
    """What happened to the requests of one run. `sockets`: websockets that are open; `streamed`: answers
    on streams of HTTP/2. With `trust` all of it goes
    over TLS.
    """

    port: int
    trust: ssl.SSLContext | None = None
    answers: list[Answer] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    echoes: int = 0
    streamed: int = 0
    sockets: int = 0
    _stop: bool = False

    def stop(self) -> None:
        """Every client ends after its present request."""
        self._stop = True

    def now(self) -> float:
        return time.monotonic()

    def wrong(self, host: str, since: float, until: float, expected: str) -> list[Answer]:
        """Answers to this host's requests, sent and answered in this time, that came from another slot."""
        within = [
            one for one in self.answers if one.host == host and since <= one.sent and one.received < until
        ]
        return [one for one in within if one.text != expected]

    async def more_answers(self, count: int) -> None:
        """Returns when so many more requests were answered."""
        enough = len(self.answers) + count
        async with asyncio.timeout(60):
            while len(self.answers) < enough:
                await asyncio.sleep(0.01)

    async def keep_alive(self, host: str, *, idle: float = 0, path: str = "/") -> None:
        """Requests one after the other on one connection, which must never be closed."""
        reader, writer = await self._connected(host)
        try:
            while not self._stop:
                await self._request(host, path, reader, writer, "keep-alive")
                await asyncio.sleep(idle)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self.lost.append(f"{host} keep-alive: {type(error).__name__}")
        finally:
            writer.close()

    async def fresh(self, host: str) -> None:
        """A new connection for each request."""
        while not self._stop:
            try:
                reader, writer = await self._connected(host)
                try:
                    await self._request(host, "/", reader, writer, "close")
                finally:
                    writer.close()
            except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
                self.lost.append(f"{host} new connection: {type(error).__name__}")

    async def multiplexed(self, host: str, *, streams: int, idle: float = 0, path: str = "/") -> None:
        """Requests on so many streams of one HTTP/2 connection, which must never be closed."""
        assert self.trust is not None
        trust = ssl.create_default_context()
        trust.set_alpn_protocols(["h2"])
        trust.load_verify_locations(cadata=_certificates(self.trust))
        async with Http2(self.port, host, trust) as connection:
            await asyncio.gather(*(self._on_stream(connection, host, path, idle) for _ in range(streams)))

    async def _on_stream(self, connection: Http2, host: str, path: str, idle: float) -> None:
        try:
            while not self._stop:
                sent = time.monotonic()
                async with asyncio.timeout(ANSWER_WITHIN):
                    text = await connection.get(path)
                self.answers.append(Answer(host, sent, time.monotonic(), text))
                self.streamed += 1
                await asyncio.sleep(idle)
        except (OSError, TimeoutError) as error:
            self.lost.append(f"{host} HTTP/2: {str(error) or type(error).__name__}")

    async def websocket(self, host: str, *, pause: float = 0.05) -> None:
        """One connection for the whole run; each message must come back, the last one after `stop`."""
        reader, writer = await self._connected(host)
        try:
            writer.write(
                f"GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101"):
                raise ConnectionError("no upgrade")
            self.sockets += 1
            last = False
            while not last:
                last = self._stop
                mask, text = os.urandom(4), os.urandom(8)
                masked = bytes(one ^ mask[i % 4] for i, one in enumerate(text))
                writer.write(bytes((0x82, 0x80 | len(text))) + mask + masked)
                async with asyncio.timeout(ANSWER_WITHIN):
                    back = await reader.readexactly(2 + len(text))
                if back[2:] != text:
                    raise ConnectionError("another message came back")
                self.echoes += 1
                await asyncio.sleep(0 if self._stop else pause)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self.lost.append(f"{host} websocket: {type(error).__name__}")
        finally:
            writer.close()

    async def _connected(self, host: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = None if self.trust is None else host
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.trust, server_hostname=name)

    async def _request(
        self, host: str, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str
    ) -> None:
        sent = time.monotonic()
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {kind}\r\n\r\n".encode())
        async with asyncio.timeout(ANSWER_WITHIN):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            )
            body = await reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            self.lost.append(f"{host} {kind}: {head[:12].decode(errors='replace')}")
        self.answers.append(Answer(host, sent, time.monotonic(), body.decode(errors="replace")))


def _certificates(trust: ssl.SSLContext) -> str:
    return "".join(ssl.DER_cert_to_PEM_cert(one) for one in trust.get_ca_certs(binary_form=True))


@asynccontextmanager
async def load(port: int, host: str, neighbour: str, *, scale: int = 1) -> AsyncIterator[Load]:
    """Busy and idle clients of the project that is switched, quiet ones and websockets of its neighbour."""
    run = Load(port)
    work = [
        *(run.keep_alive(host) for _ in range(8 * scale)),
        *(run.keep_alive(host, idle=0.5) for _ in range(10 * scale)),
        *(run.keep_alive(host, path="/sleep/1") for _ in range(2 * scale)),
        *(run.fresh(host) for _ in range(2 * scale)),
        *(run.websocket(neighbour) for _ in range(20 * scale)),
        *(run.websocket(host) for _ in range(2 * scale)),
        *(run.keep_alive(neighbour, idle=0.5) for _ in range(10 * scale)),
    ]
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield run
    finally:
        run.stop()
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks)
