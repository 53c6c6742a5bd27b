"""Demo web app of the tests: answers /health and /, and misbehaves on demand.

Environment (all optional)
  VERSION=v1          printed by / and in the X-Version header
  PORT=8080
  START_DELAY=0       seconds before the port is opened (slow start)
  UNHEALTHY=0         1: /health answers 503 from the start
  UNHEALTHY_AFTER=    seconds after which /health turns 503
  CRASH_AFTER=        seconds after which the process exits with CRASH_CODE (0: at once)
  CRASH_CODE=3
  SLOW=0              seconds that every answer of / takes
  DRAIN=0             seconds that /health says 503 after SIGTERM while / still answers
  GRACE=10            longest wait for running requests after the listener is closed
  IGNORE_TERM=0       1: SIGTERM is ignored (tests the kill path)
  REDIRECT=0          1: /health answers 302
  LEAK=0              MB that are taken and kept every 20 ms once the port is open

Paths: /  /health  /env/NAME  /sleep/SECONDS  /pid  /crash  /unhealthy  /healthy  /leak/MB  /database
Any request to upgrade becomes a websocket that echoes short messages. /database signs in to DATABASE_URL and
answers with the name of the database that it got into.
"""

import asyncio
import base64
import hashlib
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine

from database import signed_in  # type: ignore[import-not-found]


def E(name: str, default: str = "") -> str:
    return os.environ.get(name, default)


VERSION, PORT = E("VERSION", "dev"), int(E("PORT", "8080"))
START = time.monotonic()


class State:
    healthy = E("UNHEALTHY", "0") != "1"
    stopping = False
    busy = 0
    kept: tuple[bytearray, ...] = ()


def say(text: str) -> None:
    print(f"demo {VERSION} {text}", flush=True)


def crash() -> None:
    say("crashing")
    os._exit(int(E("CRASH_CODE", "3")))


async def leak(megabytes: int) -> None:
    while megabytes:
        State.kept = (*State.kept, bytearray(b"x" * (megabytes << 20)))
        await asyncio.sleep(0.02)


def health() -> tuple[int, str]:
    if E("REDIRECT") == "1":
        return 302, "moved\n"
    after = E("UNHEALTHY_AFTER")
    bad = not State.healthy or State.stopping or (after and time.monotonic() - START > float(after))
    return (503, "unhealthy\n") if bad else (200, "ok\n")


async def answer(path: str) -> tuple[int, str]:
    if path == "/health":
        return health()
    if path == "/crash":
        asyncio.get_running_loop().call_later(0.05, os._exit, int(E("CRASH_CODE", "3")))
        return 200, "crashing\n"
    if path in ("/healthy", "/unhealthy"):
        State.healthy = path == "/healthy"
        return 200, path[1:] + "\n"
    if path.startswith("/leak/"):
        asyncio.get_running_loop().call_later(0.05, start, leak(int(path[6:])))
        return 200, "leaking\n"
    if path == "/database":
        return 200, await asyncio.to_thread(signed_in, E("DATABASE_URL")) + "\n"
    if path == "/pid":
        return 200, f"{os.getpid()}\n"
    if path.startswith("/env/"):
        value = os.environ.get(path[5:])
        return (200, value + "\n") if value is not None else (404, "unset\n")
    if path.startswith("/sleep/"):
        await asyncio.sleep(float(path[7:]))
        return 200, "slept\n"
    if path == "/":
        if float(E("SLOW", "0")):
            await asyncio.sleep(float(E("SLOW", "0")))
        return 200, f"{VERSION} {socket.gethostname()}\n"
    return 404, "no such path\n"


def start(work: Coroutine[None, None, None]) -> None:
    running.add(asyncio.get_running_loop().create_task(work))


async def echo(key: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    accept = base64.b64encode(hashlib.sha1(key.encode() + GUID, usedforsecurity=False).digest()).decode()
    writer.write(
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    while True:
        _, second = await reader.readexactly(2)
        mask = await reader.readexactly(4)
        data = bytes(one ^ mask[i % 4] for i, one in enumerate(await reader.readexactly(second & 0x7F)))
        writer.write(bytes((0x82, len(data))) + data)
        await writer.drain()


GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
running: set[asyncio.Task[None]] = set()
REASON = {200: "OK", 302: "Found", 404: "Not Found", 503: "Service Unavailable", 400: "Bad Request"}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            State.busy += 1
            try:
                first, *lines = head.decode("latin1").split("\r\n")
                method, target, proto = first.split(" ", 2)
                hdr = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
                if hdr.get("upgrade", "").lower() == "websocket":
                    await echo(hdr["sec-websocket-key"], reader, writer)
                if int(hdr.get("content-length") or 0):
                    await reader.readexactly(int(hdr["content-length"]))
                code, body = await answer(target.split("?")[0])
                close = State.stopping or "close" in hdr.get("connection", "").lower() or proto == "HTTP/1.0"
                data = b"" if method == "HEAD" else body.encode()
                writer.write(
                    (
                        f"HTTP/1.1 {code} {REASON[code]}\r\nContent-Type: text/plain\r\n"
                        f"Content-Length: {len(body.encode())}\r\nX-Version: {VERSION}\r\n"
                        f"{'Location: /elsewhere' + chr(13) + chr(10) if code == 302 else ''}"
                        f"Connection: {'close' if close else 'keep-alive'}\r\n\r\n"
                    ).encode()
                    + data
                )
                await writer.drain()
            finally:
                State.busy -= 1
            if close:
                break
    except (asyncio.IncompleteReadError, ConnectionError, ValueError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()


async def main() -> None:
    loop, term = asyncio.get_running_loop(), asyncio.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(
            sig, (lambda: say("SIGTERM ignored")) if E("IGNORE_TERM") == "1" else term.set
        )
    if E("CRASH_AFTER"):
        loop.call_later(float(E("CRASH_AFTER")), crash)
    if float(E("START_DELAY", "0")):
        try:
            await asyncio.wait_for(term.wait(), float(E("START_DELAY")))
            return
        except TimeoutError:
            pass
    server = await asyncio.start_server(serve, None, PORT, backlog=512)
    say(f"listening on {PORT} after {time.monotonic() - START:.3f}s")
    start(leak(int(E("LEAK", "0"))))
    await term.wait()
    State.stopping = True
    say("SIGTERM: draining")
    await asyncio.sleep(float(E("DRAIN", "0")))
    server.close()
    end = time.monotonic() + float(E("GRACE", "10"))
    while State.busy and time.monotonic() < end:
        await asyncio.sleep(0.02)
    say(f"bye ({State.busy} cut off)")


if __name__ == "__main__":
    asyncio.run(main())
    sys.exit(0)
