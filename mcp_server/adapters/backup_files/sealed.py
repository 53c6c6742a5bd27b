"""Sealed files: a line of JSON with the file's own key, itself sealed, then pieces of AES-256-GCM.

A piece is four bytes of its length and the ciphertext; its nonce is its number and whether it is the last, its
associated data the first line. So pieces cannot be left out, moved, taken from another file or cut off.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

import anyio
import anyio.to_thread

from mcp_server.adapters import faults
from mcp_server.domain.backups import Stored
from mcp_server.domain.errors import Corrupt, NotFound, Unavailable
from mcp_server.ports.backups import Sink
from mcp_server.ports.sealing import Sealer

T = TypeVar("T")
FORMAT = "quaymaster backup 1"
PIECE = 1024 * 1024
KEY = 32
LONGEST_LINE = 16_384
UNFINISHED = ".writing"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,120}")


class SealedFiles:
    def __init__(self, folder: Path, sealer: Sealer) -> None:
        self._folder = folder
        self._sealer = sealer

    @asynccontextmanager
    async def writing(self, name: str, context: tuple[str, ...]) -> AsyncIterator[Sink]:
        path = self._path(name)
        aside = path.with_name(path.name + UNFINISHED)
        writer = await _on_disk(partial(self._begin, aside, context))
        try:
            yield writer.take
            await writer.end()
            faults.at("backups.file.written")
            await _on_disk(partial(_put_in_place, aside, path))
        except BaseException:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(writer.drop)
            raise

    async def reading(self, name: str, context: tuple[str, ...]) -> AsyncIterator[bytes]:
        path = self._path(name)
        file: IO[bytes] = await _on_disk(lambda: path.open("rb"))
        try:
            line = await _on_disk(partial(file.readline, LONGEST_LINE))
            aead = self._opened(line, context)
            number, last = 0, False
            while not last:
                head = await _on_disk(partial(file.read, 4))
                sealed = (
                    await _on_disk(partial(file.read, struct.unpack(">I", head)[0]))
                    if len(head) == 4
                    else b""
                )
                last = not await _on_disk(partial(_more, file))
                yield await anyio.to_thread.run_sync(partial(_unsealed, aead, sealed, number, last, line))
                number += 1
        finally:
            file.close()

    async def reseal(self, name: str, context: tuple[str, ...]) -> bool:
        """Written anew: its pieces are bound to the line that holds its key."""
        path = self._path(name)
        if self._sealer.is_current(_sealed_key(await _on_disk(partial(_first_line, path)))):
            return False
        async with self.writing(name, context) as sink:
            async for piece in self.reading(name, context):
                await sink(piece)
        faults.at("backups.file.resealed")
        return True

    async def stored(self, name: str) -> Stored:
        return await _on_disk(partial(_digest, self._path(name)))

    async def remove(self, name: str) -> None:
        for each in (name, name + UNFINISHED):
            await _on_disk(partial(self._path(each).unlink, missing_ok=True))

    async def names(self) -> Sequence[str]:
        return await _on_disk(self._names)

    def _names(self) -> list[str]:
        return sorted(path.name for path in self._folder.iterdir()) if self._folder.exists() else []

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise NotFound("there is no backup file of this name")
        return self._folder / name

    def _begin(self, aside: Path, context: tuple[str, ...]) -> _Writer:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = secrets.token_bytes(KEY)
        line = json.dumps({"format": FORMAT, "key": self._sealer.seal(key, context)}).encode() + b"\n"
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        return _Writer(os.fdopen(descriptor, "wb"), aside, key, line)

    def _opened(self, line: bytes, context: tuple[str, ...]) -> object:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        return AESGCM(self._sealer.open(_sealed_key(line), context))


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(LONGEST_LINE)


def _sealed_key(line: bytes) -> str:
    try:
        head = json.loads(line)
        if head["format"] != FORMAT:
            raise ValueError
        return str(head["key"])
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt("the backup's file is not in the form in which it was written") from error


class _Writer:
    def __init__(self, file: IO[bytes], path: Path, key: bytes, line: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._file = file
        self._path = path
        self._aead = AESGCM(key)
        self._line = line
        self._waiting = bytearray()
        self._number = 0
        file.write(line)

    async def take(self, data: bytes) -> None:
        self._waiting += data
        while len(self._waiting) > PIECE:
            piece = bytes(self._waiting[:PIECE])
            del self._waiting[:PIECE]
            await _on_disk(partial(self._write, piece, False))

    async def end(self) -> None:
        await _on_disk(partial(self._write, bytes(self._waiting), True))
        await _on_disk(self._close)

    def drop(self) -> None:
        with suppress(OSError):  # what waits in its buffer finds no room either
            self._file.close()
        self._path.unlink(missing_ok=True)

    def _write(self, piece: bytes, last: bool) -> None:
        sealed = self._aead.encrypt(_nonce(self._number, last), piece, self._line)
        self._file.write(struct.pack(">I", len(sealed)) + sealed)
        self._number += 1

    def _close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11) + (b"\x01" if last else b"\x00")


def _unsealed(aead: object, sealed: bytes, number: int, last: bool, line: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    assert isinstance(aead, AESGCM)  # noqa: S101  # imported late, so typed late
    try:
        return aead.decrypt(_nonce(number, last), sealed, line)
    except (InvalidTag, ValueError) as error:
        raise Corrupt("the backup's file was changed, or cut off") from error


def _more(file: IO[bytes]) -> bool:
    at = file.tell()
    found = file.read(1)
    file.seek(at)
    return bool(found)


def _digest(path: Path) -> Stored:
    with path.open("rb") as file:
        return Stored(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _put_in_place(aside: Path, path: Path) -> None:
    aside.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _on_disk(work: Callable[[], T]) -> T:
    try:
        return await anyio.to_thread.run_sync(work)
    except FileNotFoundError as error:
        raise NotFound("the backup's file is gone from this host") from error
    except OSError as error:
        raise Unavailable(
            f"the backup's file cannot be used ({error.strerror or type(error).__name__})"
        ) from error
