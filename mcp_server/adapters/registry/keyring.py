"""`api-keys.json`: the key records as sign-in reads them, in every mode, without asking a store."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path

from mcp_server.adapters import faults
from mcp_server.adapters.registry.documents import KeysDocument
from mcp_server.adapters.registry.layout import FORMAT, Layout
from mcp_server.adapters.registry.sealed import damage, read_document, replace, seal
from mcp_server.adapters.registry.state import State
from mcp_server.domain.keys import ApiKey

ABSENT_SECONDS = 0.5
_ABSENT_KEPT = 1_024

Fallback = Callable[[str], Awaitable[ApiKey | None]]


class RegistryKeyRing:
    """Reads the projection again whenever it was replaced. Nothing of it is kept in readable order in memory:
    records are
    found under a digest with a key drawn here, then compared in constant time."""

    def __init__(
        self, root: Path, fallback: Fallback | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`fallback` asks the primary store for a key that the projection lacks; its answer 'no' holds for
        half a second.
        """
        self._layout = Layout(root)
        self._fallback = fallback
        self._clock = clock
        self._secret = os.urandom(32)
        self._mark: tuple[int, int, int] | None = None
        self._keys: dict[bytes, ApiKey] = {}
        self._absent: OrderedDict[bytes, float] = OrderedDict()

    async def find(self, key_hash: str) -> ApiKey | None:
        self._read_again()
        name = self._blind(key_hash)
        found = self._keys.get(name)
        if found is not None and hmac.compare_digest(found.key_hash, key_hash):
            return found
        return await self._ask(name, key_hash)

    async def _ask(self, name: bytes, key_hash: str) -> ApiKey | None:
        if self._fallback is None or self._absent.get(name, 0.0) > self._clock():
            return None
        found = await self._fallback(key_hash)
        if found is None:
            self._absent[name] = self._clock() + ABSENT_SECONDS
            self._absent.move_to_end(name)
            if len(self._absent) > _ABSENT_KEPT:
                self._absent.popitem(last=False)
        return found

    def _read_again(self) -> None:
        mark = _mark(self._layout)
        if mark != self._mark:
            document = read_document(self._layout.keys, KeysDocument)
            self._keys = {self._blind(key.key_hash): key for key in document.keys}
            self._mark = mark

    def _blind(self, key_hash: str) -> bytes:
        return hashlib.blake2b(key_hash.encode(), key=self._secret, digest_size=16).digest()


def write_projection(layout: Layout, state: State) -> None:
    """Needs the write lock. Raises OSError."""
    body = {
        "format": FORMAT,
        "home": state.home,
        "seq": state.keys_seq,
        "keys": [record.model_dump(mode="json") for record in state.records[ApiKey.noun].values()],
    }
    replace(layout.keys, seal(body))
    faults.at("registry.projected")


def projected_seq(layout: Layout) -> int:
    """The line as of which the projection is; -1 when there is none. Raises Corrupt."""
    try:
        return read_document(layout.keys, KeysDocument).seq
    except FileNotFoundError:
        return -1


def _mark(layout: Layout) -> tuple[int, int, int]:
    try:
        found = os.stat(layout.keys)
    except FileNotFoundError as error:
        raise damage(layout.keys, 1, "the file is missing; opening the home makes it again") from error
    return found.st_ino, found.st_mtime_ns, found.st_size
