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

Paths: /  /health  /env/NAME  /sleep/SECONDS  /pid  /crash  /unhealthy  /healthy
"""

import asyncio
import os
import signal
import socket
import sys
import time


def E(name: str, default: str = "") -> str:
    return os.environ.get(name, default)


VERSION, PORT = E("VERSION", "dev"), int(E("PORT", "8080"))
START = time.monotonic()


class State:
    healthy = E("UNHEALTHY", "0") != "1"
    stopping = False
    busy = 0


def say(text: str) -> None:
    print(f"demo {VERSION} {text}", flush=True)


def crash() -> None:
    say("crashing")
    os._exit(int(E("CRASH_CODE", "3")))


def health() -> tuple[int, str]:
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


REASON = {200: "OK", 404: "Not Found", 503: "Service Unavailable", 400: "Bad Request"}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            State.busy += 1
            try:
                first, *lines = head.decode("latin1").split("\r\n")
                method, target, proto = first.split(" ", 2)
                hdr = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
                if int(hdr.get("content-length") or 0):
                    await reader.readexactly(int(hdr["content-length"]))
                code, body = await answer(target.split("?")[0])
                close = State.stopping or "close" in hdr.get("connection", "").lower() or proto == "HTTP/1.0"
                data = b"" if method == "HEAD" else body.encode()
                writer.write(
                    (
                        f"HTTP/1.1 {code} {REASON[code]}\r\nContent-Type: text/plain\r\n"
                        f"Content-Length: {len(body.encode())}\r\nX-Version: {VERSION}\r\n"
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
