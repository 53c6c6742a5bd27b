"""`ports.readiness.Readiness` over plain sockets: nothing is followed, retried or remembered."""

from __future__ import annotations

import asyncio
import re

import anyio

LOOPBACK = "127.0.0.1"
STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: |\r?$)")


class SocketReadiness:
    async def http(self, port: int, path: str, *, seconds: float) -> str | None:
        try:
            with anyio.fail_after(seconds):
                return _judged(await _first_line(port, path))
        except TimeoutError:
            return f"no answer within {seconds:g} s"
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            return "the connection was refused or cut"

    async def tcp(self, address: str, port: int, *, seconds: float) -> str | None:
        try:
            with anyio.fail_after(seconds):
                _, writer = await asyncio.open_connection(address, port)
                writer.close()
        except (OSError, TimeoutError):
            return "nothing listens on its port"
        return None


async def _first_line(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection(LOOPBACK, port, limit=8192)
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: quaymaster-health\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n".encode("ascii")
        )
        return await reader.readuntil(b"\n")
    finally:
        writer.close()


def _judged(line: bytes) -> str | None:
    found = STATUS.match(line.rstrip(b"\r\n") + b"\r")
    if found is None:
        return "the answer is not HTTP"
    status = int(found[1])
    if 200 <= status < 300:
        return None
    return f"status {status}" + (": a redirect is not healthy" if 300 <= status < 400 else "")
