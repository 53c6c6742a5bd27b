"""The state of a home: the fold of its lines into records, lists and facts."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter

from mcp_server.adapters.registry.documents import Kind, Said
from mcp_server.adapters.registry.indexes import (
    LISTINGS,
    LISTINGS_OF,
    OPEN_CONFLICTS,
    UNIQUES,
    UNIQUES_OF,
    Listing,
    Order,
    Unique,
)
from mcp_server.domain.audit import AuditRow
from mcp_server.domain.changes import Change, Line
from mcp_server.domain.keys import ApiKey
from mcp_server.domain.nouns import BY_NOUN, SHORT_LIVED, TOMBSTONE_DAYS
from mcp_server.domain.records import Record
from mcp_server.ports.mirror import Facts, Gone, Mode, Position

_order_of = itemgetter(0)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal. `prev` is the checksum of the line before, `sum` its own."""

    seq: int
    kind: Kind
    line: Line
    pending: bool
    position: Position | None
    said: Said | None
    prev: str
    sum: str


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A deleted record; `rev` counts the deletion."""

    rev: int
    at: datetime


_KEPT = timedelta(days=TOMBSTONE_DAYS)


class State:
    """Everything after line `seq`. Only `apply`, and loading a snapshot, change it."""

    def __init__(self, home: str, created_at: datetime) -> None:
        self.home = home
        self.seq = 0
        self.sum = ""
        self.at = created_at
        self.mode: Mode = "embedded"
        self.epoch = 1
        self.since = created_at
        self.reason: str | None = None
        self.alone = True
        self.alone_at: str | None = None
        self.position: Position | None = None
        self.position_at = created_at
        self.backlog: dict[str, int] = {}
        self.audit_from: datetime | None = None
        self.keys_seq = 0
        self.records: dict[str, dict[str, Record]] = {noun: {} for noun in BY_NOUN}
        self.tombstones: dict[tuple[str, str], Tombstone] = {}
        self.pending: dict[str, Line] = {}
        self.dirty: set[tuple[str, str]] = set()
        self.retired_audit: list[AuditRow] = []
        self._lists: dict[Listing, dict[Hashable, list[tuple[Order, str]]]] = {
            listing: {} for listing in LISTINGS
        }
        self._owners: dict[Unique, dict[Hashable, set[str]]] = {unique: {} for unique in UNIQUES}

    # Reading

    def get(self, noun: str, key: str) -> Record | None:
        return self.records[noun].get(key)

    def rev_of(self, noun: str, key: str) -> int:
        """The revision of a record or of its tombstone; 0 when it never was."""
        record = self.records[noun].get(key)
        if record is not None:
            return record.rev
        tombstone = self.tombstones.get((noun, key))
        return 0 if tombstone is None else tombstone.rev

    def forgotten(self, noun: str, key: str, now: datetime) -> bool:
        """Whether this was deleted so long ago that no line can speak of it any more: one that does begins it anew."""
        tombstone = self.tombstones.get((noun, key))
        return tombstone is not None and noun in SHORT_LIVED and tombstone.at < now - _KEPT

    def walk(self, listing: Listing, group: Hashable, after: Order | None) -> Iterator[tuple[Order, Record]]:
        """The records of a group in order, after a position. To be used up before anything is applied."""
        entries = self._lists[listing].get(group, [])
        start = 0 if after is None else bisect_right(entries, after, key=_order_of)
        kept = self.records[listing.noun]
        for index in range(start, len(entries)):
            order, key = entries[index]
            yield order, kept[key]

    def count(self, listing: Listing, group: Hashable) -> int:
        return len(self._lists[listing].get(group, ()))

    def owners(self, unique: Unique, value: Hashable) -> Iterable[str]:
        """The keys of the records with this value; more than one only while a mirror is behind."""
        return self._owners[unique].get(value, ())

    def facts(self, place: str) -> Facts:
        return Facts(
            home=self.home,
            place=place,
            mode=self.mode,
            epoch=self.epoch,
            since=self.since,
            reason=self.reason,
            position=self.position,
            pending=len(self.pending),
            audit_pending=bool(self.backlog),
            alone=self.alone and (self.mode == "embedded" or self.alone_at in (None, place)),
            conflicts=self.count(OPEN_CONFLICTS, ()),
        )

    # Folding

    def apply(self, entry: Entry) -> None:
        """Add the next line. Its sequence and checksum have been looked at."""
        for change in entry.line.changes:
            self.put(change, entry.line.at)
        if any(change.noun == ApiKey.noun for change in entry.line.changes):
            self.keys_seq = entry.seq
        if entry.pending:
            self.pending[entry.line.id] = entry.line
            self.dirty.update((change.noun, change.key) for change in entry.line.changes)
        if entry.position is not None:
            self.position, self.position_at = entry.position, entry.line.at
        if entry.said is not None:
            self._hear(entry.said, entry.line.at)
        self.seq, self.sum, self.at = entry.seq, entry.sum, entry.line.at

    def put(self, change: Change, at: datetime) -> None:
        kept = self.records[change.noun]
        self._index(change.noun, change.key, kept.get(change.key), change.record)
        if change.record is not None:
            kept[change.key] = change.record
            self.tombstones.pop((change.noun, change.key), None)
            return
        kept.pop(change.key, None)
        if change.rev > 0:
            self.tombstones[change.noun, change.key] = Tombstone(change.rev, at)
        else:
            self.tombstones.pop((change.noun, change.key), None)

    def load(self, records: Iterable[Record]) -> None:
        """Add many records at once to an empty state; lists are sorted once."""
        for record in records:
            self.records[record.noun][record.key] = record
            for listing in LISTINGS_OF[record.noun]:
                group = listing.group(record)
                if group is not None:
                    self._lists[listing].setdefault(group, []).append((listing.order(record), record.key))
            for unique in UNIQUES_OF[record.noun]:
                value = unique.value(record)
                if value is not None:
                    self._owners[unique].setdefault(value, set()).add(record.key)
        for groups in self._lists.values():
            for entries in groups.values():
                entries.sort()

    def bury(self, gone: Iterable[Gone]) -> None:
        """Add what was deleted and not made again since."""
        for each in gone:
            if each.key not in self.records[each.noun]:
                self.tombstones[each.noun, each.key] = Tombstone(each.rev, each.at)

    def forget_tombstones(self, now: datetime) -> None:
        """Those of short-lived records, after a week."""
        self.tombstones = {
            name: tombstone for name, tombstone in self.tombstones.items() if not self.forgotten(*name, now)
        }

    def _hear(self, said: Said, at: datetime) -> None:
        if said.mode is not None:
            self.since = self.since if said.mode == self.mode else at
            self.mode, self.reason = said.mode, said.reason
            if said.mode in ("primary", "embedded"):
                self.dirty.clear()
        if said.epoch is not None:
            self.epoch = max(self.epoch, said.epoch)
        if said.alone is not None:
            self.alone, self.alone_at = said.alone, said.alone_at
        if said.settled is not None:
            self._settle(said.settled)
        if said.backlog is not None:
            self.backlog = dict(said.backlog)
        if said.audit_from is not None:
            self.audit_from = said.audit_from
        for key_id, used_at in (said.used or {}).items():
            self._use(key_id, used_at)

    def _settle(self, line_id: str) -> None:
        line = self.pending.pop(line_id, None)
        if line is not None:
            self.retired_audit.extend(line.audit)

    def _use(self, key_id: str, at: datetime) -> None:
        """The last use is no change of the key: it keeps its revision, and no list is sorted by it."""
        record = self.records[ApiKey.noun].get(key_id)
        if record is not None:
            self.records[ApiKey.noun][key_id] = record.change(last_used_at=at)

    def _index(self, noun: str, key: str, old: Record | None, new: Record | None) -> None:
        for listing in LISTINGS_OF[noun]:
            before, after = _place(listing, old), _place(listing, new)
            if before == after:
                continue
            groups = self._lists[listing]
            if before is not None:
                _take_out(groups, before[0], (before[1], key))
            if after is not None:
                insort(groups.setdefault(after[0], []), (after[1], key))
        for unique in UNIQUES_OF[noun]:
            self._own(unique, key, old, new)

    def _own(self, unique: Unique, key: str, old: Record | None, new: Record | None) -> None:
        before = None if old is None else unique.value(old)
        after = None if new is None else unique.value(new)
        if before == after:
            return
        owners = self._owners[unique]
        if before is not None:
            owners[before].discard(key)
            if not owners[before]:
                del owners[before]
        if after is not None:
            owners.setdefault(after, set()).add(key)


def _place(listing: Listing, record: Record | None) -> tuple[Hashable, Order] | None:
    if record is None:
        return None
    group = listing.group(record)
    return None if group is None else (group, listing.order(record))


def _take_out(
    groups: dict[Hashable, list[tuple[Order, str]]], group: Hashable, entry: tuple[Order, str]
) -> None:
    entries = groups[group]
    del entries[bisect_left(entries, entry)]
    if not entries:
        del groups[group]
