"""A sign-in to PostgreSQL with nothing but Python's own library: enough to see that an address is good."""

import base64
import hashlib
import hmac
import os
import socket
import struct
from urllib.parse import unquote, urlsplit


def signed_in(url: str) -> str:
    """The name of the database behind this address. Raises OSError or RuntimeError with what was in the way."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 5432), timeout=10) as connection:
        connection.settimeout(10)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        name = parts.path.lstrip("/")
        words = f"user\0{user}\0database\0{name}\0\0".encode()
        connection.sendall(struct.pack("!II", len(words) + 8, 196608) + words)
        _expect(connection, 10)
        _prove(connection, password)
        query = b"SELECT current_database()\0"
        while _message(connection)[0] != b"Z":
            pass
        connection.sendall(b"Q" + struct.pack("!I", len(query) + 4) + query)
        while True:
            kind, body = _message(connection)
            if kind == b"D":
                return body[6:].decode()


def _prove(connection: socket.socket, password: str) -> None:
    """SCRAM-SHA-256 (RFC 5802, 7677) without channel binding."""
    bare = "n=,r=" + base64.b64encode(os.urandom(18)).decode()
    first = ("n,," + bare).encode()
    _send(connection, b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first)
    server = _expect(connection, 11).decode()
    fields = dict(part.split("=", 1) for part in server.split(","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    last = f"c=biws,r={fields['r']}"
    signature = hmac.digest(hashlib.sha256(key).digest(), f"{bare},{server},{last}".encode(), "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
    _send(connection, f"{last},p={proof}".encode())
    _expect(connection, 12)
    _expect(connection, 0)


def _send(connection: socket.socket, body: bytes) -> None:
    connection.sendall(b"p" + struct.pack("!I", len(body) + 4) + body)


def _expect(connection: socket.socket, wanted: int) -> bytes:
    kind, body = _message(connection)
    if kind != b"R" or struct.unpack("!I", body[:4])[0] != wanted:
        raise RuntimeError(f"the database said {body[:200]!r}")
    return body[4:]


def _message(connection: socket.socket) -> tuple[bytes, bytes]:
    kind = _exactly(connection, 1)
    return kind, _exactly(connection, struct.unpack("!I", _exactly(connection, 4))[0] - 4)


def _exactly(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = connection.recv(count - len(found))
        if not more:
            raise RuntimeError("the database hung up")
        found += more
    return found
