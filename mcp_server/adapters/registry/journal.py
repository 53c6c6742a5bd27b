"""A segment of the journal: sealed lines, appended and fsynced one by one, read by whoever likes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mcp_server.adapters.registry.documents import LineDocument, PendingDocument, Said
from mcp_server.adapters.registry.sealed import (
    Damaged,
    damage,
    ending,
    hides_a_line,
    seal,
    sum_of,
    unseal,
    write_all,
)
from mcp_server.adapters.registry.state import Entry
from mcp_server.domain.audit import AuditRow
from mcp_server.domain.changes import Line, change_from_json, change_to_json
from mcp_server.domain.errors import Invalid
from mcp_server.ports.mirror import Position


class Shrunk(Exception):
    """The file is shorter than what was read of it: its writer took a line back after a failed fsync."""


class Segment:
    """An open segment. `end` is the offset after the last line that was read or appended here, `lines` how
    many.
    """

    def __init__(self, path: Path) -> None:
        """Raises FileNotFoundError."""
        self.path = path
        self.end = 0
        self.lines = 0
        self.fd = _open(path)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def read_on(self, seq: int, prev: str) -> Iterator[Entry]:
        """The whole lines after `end`, which must follow line `seq`; `end` moves past each as it is given.

        An unfinished last line is left alone. Raises Corrupt for any other damage, Shrunk when lines were
        taken back.
        """
        data = self._new_bytes()
        start = 0
        while (newline := data.find(b"\n", start)) >= 0:
            entry = self._entry(data[start:newline], seq, prev)
            self.end += newline + 1 - start
            self.lines += 1
            start = newline + 1
            seq, prev = entry.seq, entry.sum
            yield entry
        if start < len(data) and hides_a_line(data[start:]):
            raise damage(self.path, self.lines + 1, "the newline after a whole line is damaged")

    def holds(self, last: str) -> bool:
        """Whether the line that was read last, with this checksum, is still the one before `end`.

        A line is read before its fsync. Where that failed it was taken back, and another may stand in its place,
        as long as it.
        """
        expected = ending(last)
        return self.end == 0 or read_range(self.fd, self.end - len(expected), self.end) == expected

    def append(self, raw: bytes) -> None:
        """Write a line at the end; it is not durable yet. What a failed write left is taken back. Raises
        OSError.
        """
        try:
            write_all(self.fd, raw, self.end)
        except OSError:
            self.take_back()
            raise

    def appended(self, raw: bytes) -> None:
        """The line counts now."""
        self.end += len(raw)
        self.lines += 1

    def take_back(self) -> None:
        """Cut everything after the last line that counts. Needs the write lock. Raises OSError."""
        os.ftruncate(self.fd, self.end)

    def _new_bytes(self) -> bytes:
        size = self.size()
        if size == self.end:
            return b""
        if size < self.end:
            raise Shrunk
        return read_range(self.fd, self.end, size)

    def _entry(self, raw: bytes, seq: int, prev: str) -> Entry:
        try:
            entry = decode(raw)
        except Damaged as error:
            raise damage(self.path, self.lines + 1, str(error)) from error
        except (ValueError, KeyError) as error:
            raise damage(self.path, self.lines + 1, "not a line of this version") from error
        if entry.seq != seq + 1:
            raise damage(self.path, self.lines + 1, f"line {entry.seq} follows line {seq}")
        if entry.prev != prev:
            raise damage(self.path, self.lines + 1, "does not continue the line before it")
        return entry


def _open(path: Path) -> int:
    """A copy on a file system that takes no writes can be read all the same."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def audit_of(fd: int, end: int) -> Iterator[AuditRow]:
    """The audit rows of a segment's lines below `end`, which have been read before. Those of pending lines
    are left out.
    """
    for raw in read_range(fd, 0, end).split(b"\n"):
        if raw and b'"audit":[]' not in raw:
            document = LineDocument.model_validate(unseal(raw))
            if not document.pending:
                yield from document.audit


def read_range(fd: int, start: int, end: int) -> bytes:
    """The bytes of a file from `start` to `end`, fewer where it is shorter."""
    pieces = []
    while start < end and (piece := os.pread(fd, end - start, start)):
        pieces.append(piece)
        start += len(piece)
    return b"".join(pieces)


def encode(
    seq: int,
    kind: str,
    line: Line,
    *,
    pending: bool,
    position: Position | None,
    said: Said | None,
    prev: str,
) -> tuple[bytes, str]:
    """A line as it is written, newline inside, and its checksum. Raises Invalid for what JSON cannot hold."""
    try:
        content = line_to_json(line)
    except ValueError as error:
        raise Invalid("a value cannot be stored: text must be Unicode") from error
    body: dict[str, Any] = {"seq": seq, "kind": kind, **content, "pending": pending}
    if position is not None:
        body["position"] = asdict(position)
    if said is not None:
        body["facts"] = said.model_dump(mode="json", exclude_defaults=True)
    body["prev"] = prev
    raw = seal(body)
    return raw, sum_of(raw)


def decode(raw: bytes) -> Entry:
    """A line without its newline. Raises Damaged for damaged bytes, ValueError or KeyError for an unknown
    content.
    """
    document = LineDocument.model_validate(unseal(raw))
    return Entry(
        seq=document.seq,
        kind=document.kind,
        line=line_of(document),
        pending=document.pending,
        position=document.position,
        said=document.facts,
        prev=document.prev,
        sum=document.sum,
    )


def line_to_json(line: Line) -> dict[str, Any]:
    return {
        "id": line.id,
        "at": line.at.isoformat(),
        "actor": line.actor,
        "action": line.action,
        "changes": [change_to_json(change) for change in line.changes],
        "audit": [row.model_dump(mode="json", exclude_defaults=True) for row in line.audit],
    }


def line_of(document: LineDocument | PendingDocument) -> Line:
    """Raises ValueError or KeyError for a record that this version does not know."""
    return Line(
        id=document.id,
        at=document.at,
        actor=document.actor,
        action=document.action,
        changes=tuple(change_from_json(change.model_dump()) for change in document.changes),
        audit=document.audit,
    )
