"""The files of an open home: reading on, appending, and beginning a new generation. Everything here is
synchronous.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from mcp_server.adapters import faults
from mcp_server.adapters.registry import audit_files, snapshot
from mcp_server.adapters.registry.audit_files import Live
from mcp_server.adapters.registry.documents import HeadDocument, HomeDocument, Kind, Said
from mcp_server.adapters.registry.journal import Segment, Shrunk, audit_of, encode
from mcp_server.adapters.registry.keyring import projected_seq, write_projection
from mcp_server.adapters.registry.layout import Layout
from mcp_server.adapters.registry.sealed import damage
from mcp_server.adapters.registry.state import Entry, State
from mcp_server.domain.changes import Line
from mcp_server.domain.errors import Corrupt
from mcp_server.ports.mirror import Position, Whole

SMALLEST_JOURNAL = 4 * 1024 * 1024
_ATTEMPTS = 10


class Files:
    """State and segment of one home, as of the last whole line. Methods that write need the write lock."""

    def __init__(self, layout: Layout) -> None:
        """Raises Corrupt, also when this is not a home."""
        self.layout = layout
        self.home: HomeDocument
        self.head: HeadDocument
        self.state: State
        self.segment: Segment | None = None
        self.snapshot_bytes = 0
        self._mark = (0, 0, 0)
        self._projected = -1
        self.load()

    def close(self) -> None:
        if self.segment is not None:
            self.segment.close()

    # Reading

    def load(self) -> None:
        """Read everything anew. A generation that ends meanwhile is read again."""
        for _ in range(_ATTEMPTS):
            mark = self._head_mark()
            try:
                self._load(mark)
            except (FileNotFoundError, Corrupt, Shrunk) as error:
                if self._head_mark() != mark or isinstance(error, Shrunk):
                    continue
                if isinstance(error, FileNotFoundError):
                    raise damage(Path(error.filename), 0, "the file is missing") from error
                raise
            return
        raise damage(self.layout.head, 1, "is replaced faster than it can be read")

    def catch_up(self) -> None:
        """Read what other processes appended; three system calls when there is nothing."""
        if self._head_mark() != self._mark or not self._open_segment().holds(self.state.sum):
            self.load()
            return
        try:
            self._read_on(self._open_segment(), self.state)
        except (Shrunk, Corrupt):
            self.load()

    def live_audit(self) -> Live:
        segment = self._open_segment()
        rows = [row for line in self.state.pending.values() for row in line.audit]
        return Live(os.dup(segment.fd), segment.end, [*rows, *self.state.retired_audit])

    def size(self) -> int:
        return self._open_segment().end

    def gauges(self) -> dict[str, float]:
        return {
            "journal_bytes": self.size(),
            "snapshot_bytes": self.snapshot_bytes,
            "journal_seq": self.state.seq,
        }

    def whole(self) -> bool:
        """Whether there is nothing to mend. Raises Corrupt for a damaged projection."""
        segment = self._open_segment()
        self._projected = max(self._projected, projected_seq(self.layout))
        return segment.size() == segment.end and self._projected >= self.state.keys_seq

    # Writing

    def mend(self) -> None:
        """What a writer that was killed left: an unfinished line is cut, the keys are projected. Raises
        OSError.
        """
        segment = self._open_segment()
        if segment.size() > segment.end:
            segment.take_back()
        self.project_keys()

    def line(
        self,
        kind: Kind,
        line: Line,
        *,
        pending: bool = False,
        position: Position | None = None,
        said: Said | None = None,
    ) -> tuple[bytes, Entry]:
        """The next line, and its bytes. Raises Invalid for what JSON cannot hold."""
        seq, prev = self.state.seq + 1, self.state.sum
        raw, total = encode(seq, kind, line, pending=pending, position=position, said=said, prev=prev)
        return raw, Entry(seq, kind, line, pending, position, said, prev, total)

    def write(self, raw: bytes) -> None:
        """Append; not durable yet. Raises OSError, and then nothing was appended."""
        self._open_segment().append(raw)
        faults.at("registry.appended")

    def sync(self) -> None:
        """Raises OSError: then nobody knows what the disk holds."""
        faults.at("registry.before_fsync")
        os.fdatasync(self._open_segment().fd)
        faults.at("registry.fsynced")

    def take_back(self) -> None:
        self._open_segment().take_back()

    def apply(self, raw: bytes, entry: Entry) -> None:
        self._open_segment().appended(raw)
        self.state.apply(entry)
        faults.at("registry.applied")

    def project_keys(self) -> None:
        """Bring `api-keys.json` up to the state. Raises OSError, Corrupt."""
        if self._projected < self.state.keys_seq:
            self._projected = projected_seq(self.layout)
        if self._projected < self.state.keys_seq:
            write_projection(self.layout, self.state)
            self._projected = self.state.keys_seq

    def large(self) -> bool:
        """Whether the journal is worth a compaction."""
        return self._open_segment().end > max(SMALLEST_JOURNAL, 2 * self.snapshot_bytes)

    def successor(self, now: datetime, whole: Whole | None) -> State | None:
        """The state with which a new generation begins: the present one, or these records in place of its
        own.

        None when nothing was written since the snapshot.
        """
        if whole is None:
            self.state.forget_tombstones(now)
            return None if self.state.seq == self.head.seq else self.state
        old, new = self.state, State(self.home.home, self.home.created_at)
        new.seq, new.sum, new.at = old.seq + 1, old.sum, max(old.at, now)
        new.mode, new.epoch, new.since, new.reason = old.mode, old.epoch, old.since, old.reason
        new.alone, new.alone_at = old.alone, old.alone_at
        new.backlog, new.audit_from = old.backlog, old.audit_from
        new.position, new.position_at, new.keys_seq = whole.position, new.at, new.seq
        new.load(whole.records)
        new.bury(whole.gone)
        return new

    def switch(self, state: State) -> None:
        """Make the next generation durable, beginning with `state`; may run in a thread. Raises OSError."""
        self._retire_audit()
        faults.at("registry.compact.audit")
        snapshot.switch(self.layout, state, self.head.generation + 1, snapshot=True)

    def switched(self) -> bool:
        """Whether HEAD is no longer the one that was read: a failed switch may have come so far."""
        return self._head_mark() != self._mark

    def enter(self, state: State) -> None:
        """Go on with `state` in the generation that was just made, and delete the files of the old one."""
        mark, head = self._head_mark(), snapshot.read_head(self.layout)
        segment = Segment(self.layout.file(head.segment))
        state.retired_audit = []
        self._take(self.home, head, state, segment, mark)
        snapshot.remove_others(self.layout, head)
        faults.at("registry.compact.removed")

    def clean_left_over(self) -> None:
        snapshot.remove_others(self.layout, self.head)

    def _retire_audit(self) -> None:
        """The audit rows of this generation go to the files of their days, but for those of pending lines."""
        segment, start = self._open_segment(), self.state.audit_from
        rows = [*self.state.retired_audit, *audit_of(segment.fd, segment.end)]
        kept = [row for row in rows if start is None or row.timestamp >= start]
        audit_files.append(self.layout, kept, pending=False)

    def _load(self, mark: tuple[int, int, int]) -> None:
        home, head = snapshot.read_home(self.layout), snapshot.read_head(self.layout)
        state = snapshot.start_of(self.layout, head, home)
        segment = Segment(self.layout.file(head.segment))
        try:
            self._read_on(segment, state)
        except BaseException:
            segment.close()
            raise
        self._take(home, head, state, segment, mark)

    def _take(
        self,
        home: HomeDocument,
        head: HeadDocument,
        state: State,
        segment: Segment,
        mark: tuple[int, int, int],
    ) -> None:
        self.close()
        self.home, self.head, self.state, self.segment, self._mark = home, head, state, segment, mark
        self.snapshot_bytes = 0 if head.snapshot is None else self.layout.file(head.snapshot).stat().st_size

    def _read_on(self, segment: Segment, state: State) -> None:
        for entry in segment.read_on(state.seq, state.sum):
            state.apply(entry)

    def _head_mark(self) -> tuple[int, int, int]:
        try:
            return snapshot.head_mark(self.layout)
        except FileNotFoundError as error:
            raise damage(self.layout.head, 0, "the file is missing") from error

    def _open_segment(self) -> Segment:
        assert self.segment is not None, "loaded"  # noqa: S101
        return self.segment
