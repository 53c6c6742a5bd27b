"""PostgreSQL's SCRAM verifiers: what a server keeps of a password, made without the server seeing the
password.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode

ITERATIONS = 4096
SALT_BYTES = 16


def verifier(password: str, salt: bytes, iterations: int = ITERATIONS) -> str:
    """`SCRAM-SHA-256$...`, which CREATE ROLE and initdb take in the place of a password and store as it is.

    `salt` is random, once for each verifier. Only printable ASCII passwords: ValueError for others, because
    for those the client's preparation of the text would matter.
    """
    if not password or not password.isascii() or not password.isprintable():
        raise ValueError("a password of printable ASCII characters is needed")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${iterations}:{_text(salt)}${_text(stored)}:{_text(server)}"


def _text(data: bytes) -> str:
    return b64encode(data).decode()
