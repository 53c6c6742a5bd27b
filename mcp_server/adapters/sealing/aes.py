"""Sealing with AES-256-GCM: `v1.KEYID.NONCE-AND-CIPHERTEXT`, the last part in base64url without padding."""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Sequence

from mcp_server.domain.errors import Corrupt, Unavailable

VERSION = "v1"
NONCE = 12
KEY = 32
LOST = "Set QUAYMASTER_SECRET_KEY to the key that sealed it, or restore the home's secret.key."

Keys = Callable[[bool], Sequence[bytes]]
"""The keys, newest first; may raise Unavailable. Called again for a key that is not known yet. True: to seal, so
that one is made where there is none; who only opens makes none, for a lost key does not come back by it."""


class AesSealer:
    def __init__(self, keys: Keys) -> None:
        """The keys are asked for at each sealing, for another process may have made a newer one meanwhile; a
        server without a usable one starts all the same."""
        self._keys = keys
        self._by_id: dict[str, bytes] = {}
        self._newest = ""

    @property
    def key_id(self) -> str:
        self._load(to_seal=True)
        return self._newest

    def seal(self, plaintext: bytes, context: tuple[str, ...]) -> str:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key_id, nonce = self.key_id, os.urandom(NONCE)
        sealed = AESGCM(self._by_id[key_id]).encrypt(nonce, plaintext, associated(key_id, context))
        return f"{VERSION}.{key_id}.{urlsafe_b64encode(nonce + sealed).decode().rstrip('=')}"

    def open(self, sealed: str, context: tuple[str, ...]) -> bytes:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key_id, data = _parts(sealed)
        try:
            return AESGCM(self._key(key_id)).decrypt(data[:NONCE], data[NONCE:], associated(key_id, context))
        except InvalidTag as error:
            raise Corrupt(
                f"A sealed secret was changed, or belongs elsewhere ({_where(context)})."
            ) from error

    def is_current(self, sealed: str) -> bool:
        return _parts(sealed)[0] == self.key_id

    def fingerprint(self, plaintext: bytes, context: tuple[str, ...]) -> str:
        key_id = self.key_id
        own = hmac.digest(self._by_id[key_id], b"quaymaster fingerprint", "sha256")
        return hmac.digest(own, associated(key_id, context) + plaintext, "sha256").hex()[:12]

    def _key(self, key_id: str) -> bytes:
        """Another server of this home may have added a key since ours were read."""
        if key_id not in self._by_id:
            self._load(to_seal=False)
        if key_id not in self._by_id:
            raise Unavailable(
                f"This server lacks the key {key_id}, with which a secret is sealed.", next=LOST
            )
        return self._by_id[key_id]

    def _load(self, *, to_seal: bool) -> None:
        ids = {key_id_of(key): key for key in self._keys(to_seal)}
        self._by_id |= ids
        self._newest = next(iter(ids), "")


def key_id_of(key: bytes) -> str:
    """Eight bytes of a hash made for this purpose alone."""
    return hashlib.sha256(b"quaymaster key id\x00" + key).hexdigest()[:16]


def associated(key_id: str, context: tuple[str, ...]) -> bytes:
    """Every part with its length before it, so that no two contexts give the same bytes."""
    parts = [part.encode() for part in (VERSION, key_id, *context)]
    return b"".join(len(part).to_bytes(4) + part for part in parts)


def _parts(sealed: str) -> tuple[str, bytes]:
    version, _, rest = sealed.partition(".")
    key_id, _, text = rest.partition(".")
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (NotBase64, ValueError) as error:
        raise Corrupt("A sealed secret is not in the form in which it was written.") from error
    canonical = urlsafe_b64encode(data).decode().rstrip("=") == text
    if version != VERSION or not canonical or len(data) < NONCE:
        raise Corrupt("A sealed secret is not in the form in which it was written.")
    return key_id, data


def _where(context: tuple[str, ...]) -> str:
    return "/".join(context)
