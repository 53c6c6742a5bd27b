"""A DNS server on loopback, UDP and TCP, that knows what a test tells it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.services.ports import ReservedPort


@dataclass
class Names:
    """`records`: by name, texts such as `A 192.0.2.1`; a name that is not there does not exist.

    `mood` answers every question the same way: `servfail`, `silent`, or `truncated` (over UDP only).
    """

    records: dict[str, list[str]] = field(default_factory=dict)
    mood: str | None = None
    over_tcp: int = 0
    address: str = ""

    def answer(self, wire: bytes, *, tcp: bool) -> bytes | None:
        question = dns.message.from_wire(wire)
        reply = dns.message.make_response(question, recursion_available=True)
        self.over_tcp += tcp
        if self.mood == "silent":
            return None
        if self.mood == "servfail":
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif self.mood == "truncated" and not tcp:
            reply.flags |= dns.flags.TC
        else:
            self._fill(reply, question.question[0].name.to_text().rstrip("."), question.question[0].rdtype)
        return reply.to_wire()

    def _fill(self, reply: dns.message.Message, name: str, kind: dns.rdatatype.RdataType) -> None:
        if name not in self.records:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        for text in self.records.get(name, []):
            written, _, content = text.partition(" ")
            if written == "CNAME":
                reply.answer.append(dns.rrset.from_text(f"{name}.", 5, "IN", "CNAME", f"{content}."))
                self._fill(reply, content, kind)
            elif written == dns.rdatatype.to_text(kind):
                reply.answer.append(dns.rrset.from_text(f"{name}.", 5, "IN", written, content))


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, names: Names) -> None:
        self._names = names

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._names.answer(data, tcp=False)
        if answer is not None:
            self._transport.sendto(answer, addr)


@asynccontextmanager
async def dns_server() -> AsyncIterator[Names]:
    names = Names()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2), "big")
        answer = names.answer(await reader.readexactly(length), tcp=True)
        if answer is not None:
            writer.write(len(answer).to_bytes(2, "big") + answer)
            await writer.drain()
        writer.close()

    reserved = ReservedPort()
    port = reserved.number
    reserved.release()
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Datagrams(names), local_addr=("127.0.0.1", port)
    )
    names.address = f"127.0.0.1:{port}"
    try:
        yield names
    finally:
        transport.close()
        server.close()
        await server.wait_closed()
