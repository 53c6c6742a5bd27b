"""Snapshots and the HEAD that says which one counts."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from mcp_server.adapters import faults
from mcp_server.adapters.registry.documents import HeadDocument, HomeDocument, SnapshotDocument
from mcp_server.adapters.registry.journal import line_of, line_to_json
from mcp_server.adapters.registry.layout import FORMAT, Layout, segment_name, snapshot_name
from mcp_server.adapters.registry.sealed import (
    damage,
    read_document,
    replace,
    seal,
    sync_directory,
    write_new,
)
from mcp_server.adapters.registry.state import State, Tombstone
from mcp_server.domain.nouns import BY_NOUN


def write_home(layout: Layout, home: str, created_at: datetime) -> None:
    replace(layout.home, seal({"format": FORMAT, "home": home, "created_at": created_at.isoformat()}))


def read_home(layout: Layout) -> HomeDocument:
    return read_document(layout.home, HomeDocument)


def read_head(layout: Layout) -> HeadDocument:
    return read_document(layout.head, HeadDocument)


def switch(layout: Layout, state: State, generation: int, *, snapshot: bool) -> None:
    """Begin a generation with an empty segment after `state`; until HEAD is replaced nothing has changed.

    The snapshot is durable before HEAD names it. Raises OSError.
    """
    if snapshot:
        replace(layout.file(snapshot_name(state.seq)), snapshot_of(state, generation))
        faults.at("registry.compact.snapshot")
    segment = segment_name(state.seq + 1)
    write_new(layout.file(segment), b"")
    sync_directory(layout.root)
    faults.at("registry.compact.segment")
    head = {
        "format": FORMAT,
        "home": state.home,
        "generation": generation,
        "seq": state.seq,
        "snapshot": snapshot_name(state.seq) if snapshot else None,
        "segment": segment,
    }
    replace(layout.head, seal(head))
    faults.at("registry.compact.switched")


def remove_others(layout: Layout, head: HeadDocument) -> None:
    """Delete what earlier generations, and writers that were killed, left."""
    for path in [*layout.states(), *layout.unfinished()]:
        if path.name not in (head.snapshot, head.segment):
            path.unlink(missing_ok=True)


def left_over(layout: Layout, head: HeadDocument) -> list[Path]:
    return [
        path
        for path in [*layout.states(), *layout.unfinished()]
        if path.name not in (head.snapshot, head.segment)
    ]


def snapshot_of(state: State, generation: int) -> bytes:
    body = {
        "format": FORMAT,
        "home": state.home,
        "generation": generation,
        "seq": state.seq,
        "last": state.sum,
        "at": state.at.isoformat(),
        "mode": state.mode,
        "epoch": state.epoch,
        "since": state.since.isoformat(),
        "reason": state.reason,
        "alone": state.alone,
        "alone_at": state.alone_at,
        "position": None if state.position is None else asdict(state.position),
        "backlog": state.backlog,
        "audit_from": None if state.audit_from is None else state.audit_from.isoformat(),
        "keys_seq": state.keys_seq,
        "records": {
            noun: [record.model_dump(mode="json") for record in kept.values()]
            for noun, kept in state.records.items()
        },
        "tombstones": [
            {"noun": noun, "key": key, "rev": tombstone.rev, "at": tombstone.at.isoformat()}
            for (noun, key), tombstone in state.tombstones.items()
        ],
        "pending": [line_to_json(line) for line in state.pending.values()],
        "dirty": sorted(state.dirty),
    }
    return seal(body)


def read_snapshot(path: Path, home: HomeDocument) -> State:
    """The state inside a snapshot. Raises Corrupt, or FileNotFoundError."""
    document = read_document(path, SnapshotDocument)
    state = State(home.home, home.created_at)
    try:
        _fill(state, document)
    except (ValueError, KeyError) as error:
        raise damage(path, 1, "holds a record that this version does not know") from error
    return state


def read_generation(path: Path) -> int:
    """Raises Corrupt."""
    return read_document(path, SnapshotDocument).generation


def start_of(layout: Layout, head: HeadDocument, home: HomeDocument) -> State:
    """The state before the first line of HEAD's segment. Raises Corrupt, or FileNotFoundError."""
    if head.home != home.home:
        raise damage(layout.head, 1, f"belongs to the home {head.home}, not to {home.home}")
    if head.snapshot is None:
        return State(home.home, home.created_at)
    state = read_snapshot(layout.file(head.snapshot), home)
    if state.seq != head.seq:
        raise damage(layout.file(head.snapshot), 1, f"ends at line {state.seq}, HEAD says {head.seq}")
    return state


def head_mark(layout: Layout) -> tuple[int, int, int]:
    """Changes whenever HEAD is replaced. Raises FileNotFoundError."""
    found = os.stat(layout.head)
    return found.st_ino, found.st_mtime_ns, found.st_size


def _fill(state: State, document: SnapshotDocument) -> None:
    state.seq, state.sum, state.at = document.seq, document.last, document.at
    state.mode, state.epoch, state.since = document.mode, document.epoch, document.since
    state.reason = document.reason
    state.alone, state.alone_at = document.alone, document.alone_at
    state.position, state.position_at = document.position, document.at
    state.backlog, state.audit_from = dict(document.backlog), document.audit_from
    state.keys_seq = document.keys_seq
    state.load(
        BY_NOUN[noun].model_validate(body) for noun, bodies in document.records.items() for body in bodies
    )
    state.tombstones = {(t.noun, t.key): Tombstone(t.rev, t.at) for t in document.tombstones}
    state.pending = {line.id: line_of(line) for line in document.pending}
    state.dirty = set(document.dirty)
