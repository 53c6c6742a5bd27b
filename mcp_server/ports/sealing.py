"""Secrets at rest: sealed for one place, opened only there."""

from __future__ import annotations

from typing import Protocol


class Sealer(Protocol):
    """A sealed text opens only under the context under which it was sealed, and only unchanged.

    The context says where the secret belongs, in a fixed order and number of parts per kind of secret: team,
    project, environment, name, version. Every call raises Unavailable, naming the setting, while the server
    has no usable key.
    """

    @property
    def key_id(self) -> str:
        """Names the key that seals and tells nothing of it; the same on every server that has the key."""
        ...

    def seal(self, plaintext: bytes, context: tuple[str, ...]) -> str:
        """A text of ASCII letters, digits and `.-_`; twice the same plaintext gives two texts."""
        ...

    def open(self, sealed: str, context: tuple[str, ...]) -> bytes:
        """Raises Unavailable when it was sealed with a key that this server lacks, Corrupt when it was
        changed or belongs to another context.
        """
        ...

    def is_current(self, sealed: str) -> bool:
        """Whether the newest key sealed it; else it is to be opened and sealed again."""
        ...

    def fingerprint(self, plaintext: bytes, context: tuple[str, ...]) -> str:
        """12 hexadecimal digits: equal for equal plaintexts under one context and key. Tells nothing else to
        whoever lacks the key."""
        ...
