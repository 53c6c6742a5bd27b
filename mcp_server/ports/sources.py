"""What an image is built from: a project's directory, or a state of it that git knows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Sources(Protocol):
    """Archives are tar, given piece by piece while the context is open, and gone afterwards.

    Both raise Invalid for what is no such directory or state, or is too large, and Unavailable when the disk or
    git refuses.
    """

    def directory(
        self, root: str, dockerfile: str = "Dockerfile"
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The files below `root` as they are, without `.git`, dotenv files and what `.dockerignore` leaves out (or
        the list beside the Dockerfile). Links are kept as links; nothing outside is read.
        """
        ...

    def revision(self, root: str, ref: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """What git has under this branch, tag or commit, as it was committed: no filter of the repository is run, and
        nothing else that its configuration names.
        """
        ...

    def given(self, archive: bytes) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """An archive that came with the call: tar, plain or compressed."""
        ...
