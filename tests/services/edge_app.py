"""An application behind the edge, run as a script: `edge_app.py NAME PORT`.

`/` answers NAME, `/sleep/SECONDS` answers it later, `/headers` shows what arrived, `/forge` claims to be the
edge, any request to upgrade becomes a websocket that echoes short messages. SIGTERM ends it at once.
"""

import asyncio
import base64
import hashlib
import sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def serve(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin1").split("\r\n")
            headers = {
                key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines[1:])
            }
            if headers.get("upgrade", "").lower() == "websocket":
                await echo(headers["sec-websocket-key"], reader, writer)
                return
            await reader.readexactly(int(headers.get("content-length", "0")))
            path = lines[0].split(" ")[1]
            if path.startswith("/sleep/"):
                await asyncio.sleep(float(path[7:]))
            body = head if path.startswith("/headers") else name.encode()
            forged = "X-Quaymaster-Slot: green\r\nX-Quaymaster-Edge: me\r\n" if path == "/forge" else ""
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{forged}\r\n".encode() + body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def echo(key: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    accept = base64.b64encode(hashlib.sha1(key.encode() + GUID, usedforsecurity=False).digest()).decode()
    writer.write(
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    while True:
        first, second = await reader.readexactly(2)
        mask = await reader.readexactly(4)
        data = bytes(one ^ mask[i % 4] for i, one in enumerate(await reader.readexactly(second & 0x7F)))
        writer.write(bytes((first, len(data))) + data)
        await writer.drain()


async def main(name: str, port: int) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(name, reader, writer)

    server = await asyncio.start_server(accept, "127.0.0.1", port, backlog=512)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
