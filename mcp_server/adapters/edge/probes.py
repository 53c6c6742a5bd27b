"""Requests through the proxy's public port, to see what a visitor would see and which slot it came from."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Literal

from mcp_server.domain.routes import NOBODY_LISTENS, Probe
from mcp_server.domain.slots import SlotName

PROBE_HEADER = "X-Quaymaster-Probe"
SLOT_HEADER = "X-Quaymaster-Slot"
EDGE_HEADER = "X-Quaymaster-Edge"

TIMEOUT = 5.0
MAX_BODY = 1024 * 1024
PATH = re.compile(r"/[!-~]{0,2000}")


@dataclass(frozen=True)
class Door:
    """Where the proxy's public ports are reached from here, and how its visitors come in.

    `token` is the word that makes a request a probe; the proxy takes it out before an application sees it.
    """

    address: str
    http_port: int
    https_port: int
    tls: Literal["acme", "staging", "internal", "off"]
    token: str

    def url(self, host: str) -> str:
        if self.tls == "off":
            scheme, port, usual = "http", self.http_port, 80
        else:
            scheme, port, usual = "https", self.https_port, 443
        return f"{scheme}://{host}" + ("" if port == usual else f":{port}")


@dataclass(frozen=True)
class Answer:
    """`refused`: it came no further than the TLS handshake."""

    probe: Probe
    edge: str | None = None
    refused: bool = False


class NoHandshake(OSError):
    """There was no certificate, or not in time."""


def probe(door: Door, host: str, path: str, *, secure: bool) -> Answer:
    """One GET on a connection of its own; blocks at most TIMEOUT seconds. Certificates are not judged.

    Raises ValueError when the path is no path; everything that goes wrong on the way is in the answer.
    """
    if not PATH.fullmatch(path):
        raise ValueError("a path begins with '/' and holds printable ASCII only")
    begun = time.monotonic()
    try:
        status, headers = _get(door, host, path, secure=secure, deadline=begun + TIMEOUT)
    except (OSError, http.client.HTTPException) as error:
        failed = Probe(milliseconds=_since(begun), error=_reason(error), secure=secure)
        return Answer(failed, refused=isinstance(error, NoHandshake))
    slot = _slot(headers.get(SLOT_HEADER))
    found = Probe(status=status, slot=slot, milliseconds=_since(begun), secure=secure)
    return Answer(found, headers.get(EDGE_HEADER))


def _get(
    door: Door, host: str, path: str, *, secure: bool, deadline: float
) -> tuple[int, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(host)
    connection.sock = _connect(door, host, secure=secure)
    try:
        connection.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
        for name, value in (("Host", host), (PROBE_HEADER, door.token), ("Connection", "close")):
            connection.putheader(name, value)
        connection.putheader("User-Agent", "quaymaster-probe")
        connection.endheaders()
        response = connection.getresponse()
        _read(response, connection.sock, deadline)
        return response.status, response.headers
    finally:
        connection.close()


def _connect(door: Door, host: str, *, secure: bool) -> socket.socket:
    plain = socket.create_connection((door.address, door.https_port if secure else door.http_port), TIMEOUT)
    if not secure:
        return plain
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except OSError as error:
        plain.close()
        raise NoHandshake("no TLS handshake") from error


def _read(response: http.client.HTTPResponse, sock: socket.socket | None, deadline: float) -> None:
    """All of the body, or its first MAX_BODY bytes; a body that stops before its end is an error."""
    left = MAX_BODY
    while left > 0:
        if (seconds := deadline - time.monotonic()) <= 0:
            raise TimeoutError("no complete answer in time")
        if sock is not None and sock.fileno() >= 0:
            sock.settimeout(seconds)
        piece = response.read1(min(left, 65536))
        if not piece:
            break
        left -= len(piece)
    if left and response.length:
        raise http.client.IncompleteRead(b"", response.length)


def _slot(text: str | None) -> SlotName | None:
    if text == "blue":
        return "blue"
    return "green" if text == "green" else None


def _since(begun: float) -> float:
    return round((time.monotonic() - begun) * 1000, 3)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no complete answer within {TIMEOUT:g} s"
    if isinstance(error, ConnectionRefusedError):
        return NOBODY_LISTENS
    if isinstance(error, NoHandshake):
        return "the TLS handshake failed: no certificate for this host name"
    return "the connection was cut before the answer was complete"
