"""Sealed JSON: one line that ends in the checksum of everything before it, so that no changed byte passes
unseen.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from mcp_server.domain.errors import Corrupt, Invalid
from mcp_server.domain.records import Value

D = TypeVar("D", bound=Value)
_SUM_CHARACTERS = 32
_TRAILER_BYTES = len(b',"sum":""}') + _SUM_CHARACTERS
_TRAILER = re.compile(rb',"sum":"[0-9a-f]{32}"\}')
HOW_TO_MEND = (
    "Run 'quaymaster registry verify' to see all damage; 'quaymaster registry verify --set-aside' moves the "
    "damaged part to a file beside it. Restore from a backup where there is one."
)


class Damaged(ValueError):
    """These bytes are not what was written."""


def seal(body: Mapping[str, Any]) -> bytes:
    """`body` (not empty) as one line with its checksum and a newline. Raises Invalid for what JSON cannot
    hold.
    """
    try:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        prefix = text[:-1].encode()
    except ValueError as error:
        raise Invalid("a value cannot be stored: text must be Unicode and numbers finite") from error
    return prefix + _trailer(prefix) + b"\n"


def unseal(raw: bytes) -> dict[str, Any]:
    """The body of a sealed line without its newline, `sum` inside. Raises Damaged."""
    prefix = raw[:-_TRAILER_BYTES]
    if raw[-_TRAILER_BYTES:] != _trailer(prefix):
        raise Damaged("the checksum does not fit")
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise Damaged("not JSON") from error
    if not isinstance(body, dict):
        raise Damaged("not an object")
    return body


def intact(raw: bytes) -> bool:
    """Whether a line without its newline carries its own checksum."""
    return raw[-_TRAILER_BYTES:] == _trailer(raw[:-_TRAILER_BYTES])


def sum_of(sealed: bytes) -> str:
    """The checksum that a line from `seal` (newline inside) carries."""
    return sealed[-3 - _SUM_CHARACTERS : -3].decode()


def ending(total: str) -> bytes:
    """The bytes in which the sealed line with this checksum ends."""
    return f'{total}"}}\n'.encode()


def hides_a_line(tail: bytes) -> bool:
    """Whether bytes without a newline begin with a whole line: then its newline was damaged, for a torn write
    is a prefix.
    """
    return any(match.end() < len(tail) and intact(tail[: match.end()]) for match in _TRAILER.finditer(tail))


def read_document(path: Path, kind: type[D]) -> D:
    """A file that is one sealed line. Raises Corrupt when it is anything else, FileNotFoundError when it is
    away.
    """
    raw = path.read_bytes()
    if not raw.endswith(b"\n"):
        raise damage(path, 1, "the last byte is not a newline")
    try:
        return kind.model_validate(unseal(raw[:-1]))
    except Damaged as error:
        raise damage(path, 1, str(error)) from error
    except ValidationError as error:
        raise damage(path, 1, f"not a document of this version ({_where(error)})") from error


def damage(path: Path, line: int, what: str) -> Corrupt:
    """The error for a damaged file; it names the file, the line and what to do."""
    return Corrupt(f"{path} line {line}: {what}", next=HOW_TO_MEND, file=str(path), line=line)


def replace(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that readers and crashes find the old file or the new one. Raises OSError."""
    aside = path.with_name(path.name + ".tmp")
    try:
        write_new(aside, data)
        os.replace(aside, path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_new(path: Path, data: bytes) -> None:
    """Write and fsync a file; its directory is not synced."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data, 0)
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _trailer(prefix: bytes) -> bytes:
    return b',"sum":"' + hashlib.sha256(prefix).hexdigest()[:_SUM_CHARACTERS].encode() + b'"}'


def _where(error: ValidationError) -> str:
    return ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors()[:3])
