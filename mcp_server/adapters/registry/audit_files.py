"""Audit rows: those in the lines of the journal and those in one file a day, joined by id.

A day's file holds exactly the rows with that UTC date. A row may stand in several places (a compaction that
was killed wrote it
before): it is one row, by its id.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from mcp_server.adapters.registry.disk import to_the_end
from mcp_server.adapters.registry.documents import AuditLineDocument
from mcp_server.adapters.registry.indexes import micros, moment_of
from mcp_server.adapters.registry.journal import audit_of, read_range
from mcp_server.adapters.registry.layout import Layout, audit_name
from mcp_server.adapters.registry.sealed import (
    Damaged,
    damage,
    hides_a_line,
    intact,
    seal,
    sync_directory,
    unseal,
    write_all,
)
from mcp_server.domain.audit import AuditFilter, AuditRow
from mcp_server.domain.pages import DEFAULT_LIMIT, Page, decode_cursor, page_of

T = TypeVar("T")
_TAIL_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Live:
    """What is not in a day's file: `rows` in memory, and the lines of a segment below `end`. The reader
    closes `fd`.
    """

    fd: int
    end: int
    rows: Sequence[AuditRow]

    def read(self) -> list[AuditRow]:
        return [*self.rows, *audit_of(self.fd, self.end)]


@dataclass(frozen=True, slots=True)
class AuditMark:
    """Up to which offset of which file the pending rows have been handed out."""

    offsets: Mapping[str, int]


@dataclass(slots=True)
class RegistryAudit:
    """The audit rows of one reading or transaction; `added` and `audit_from` go into its line."""

    layout: Layout
    live: Callable[[], Live]
    audit_from: datetime | None
    writable: bool
    added: dict[str, AuditRow] = field(default_factory=dict)
    cut: datetime | None = None

    async def add(self, row: AuditRow) -> None:
        self._refuse_reading()
        self.added.setdefault(row.id, row)

    async def find(
        self,
        filter: AuditFilter,
        *,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
    ) -> Page[AuditRow]:
        wanted, parts = filter, decode_cursor(after, 2)
        position = None if parts is None else (-micros(moment_of(parts[0])), parts[1])
        rows = await self._reading(
            lambda live: newest(self.layout, live, wanted, self._start(), position, limit)
        )
        return page_of(rows, limit, _cursor(rows[limit - 1]) if len(rows) > limit > 0 else None)

    async def clean(self, before: datetime, *, limit: int) -> int:
        self._refuse_reading()
        times = await self._reading(lambda live: oldest(self.layout, live, before, self._start(), limit))
        if not times:
            return 0
        cut = before if len(times) <= limit else times[limit]
        self.cut = max(cut, times[0] + timedelta(microseconds=1))
        return sum(time < self.cut for time in times)

    def _start(self) -> datetime | None:
        return self.cut or self.audit_from

    def _refuse_reading(self) -> None:
        if not self.writable:
            raise TypeError("a reading does not write; open a transaction")

    async def _reading(self, work: Callable[[list[AuditRow]], T]) -> T:
        live = self.live()

        try:
            return await to_the_end(lambda: work([*self.added.values(), *live.read()]))
        finally:
            os.close(live.fd)


def append(layout: Layout, rows: Iterable[AuditRow], *, pending: bool) -> None:
    """Add rows to the files of their days and fsync them. Needs the write lock. Raises OSError."""
    days: dict[str, list[tuple[AuditRow, bool]]] = {}
    for row in rows:
        days.setdefault(day_of(row.timestamp), []).append((row, pending))
    for day, lines in days.items():
        _append_file(layout.file(audit_name(day)), encode(lines))


def encode(rows: Iterable[tuple[AuditRow, bool]]) -> bytes:
    """Rows, and whether each is pending, as lines of a file."""
    return b"".join(
        seal(
            {"row": row.model_dump(mode="json", exclude_defaults=True)}
            | ({"pending": True} if pending else {})
        )
        for row, pending in rows
    )


def ends(layout: Layout, rows: Iterable[AuditRow]) -> dict[str, int]:
    """Where these rows would begin in the files of their days. Needs the write lock."""
    names = {audit_name(day_of(row.timestamp)) for row in rows}
    return {name: _end_of(layout.file(name)) for name in sorted(names)}


def newest(
    layout: Layout,
    live: Iterable[AuditRow],
    wanted: AuditFilter,
    start: datetime | None,
    position: tuple[int, str] | None,
    limit: int,
) -> list[AuditRow]:
    """The first `limit + 1` matching rows after `position`, newest first, then by id."""
    found: dict[str, AuditRow] = {}

    def consider(rows: Iterable[AuditRow]) -> None:
        for row in rows:
            if _matches(row, wanted, start) and (position is None or _order(row) > position):
                found[row.id] = row

    consider(live)
    for path in layout.audit_files():
        day = _day(path)
        if _too_new(day, wanted, position):
            continue
        if _too_old(day, wanted, start) or sum(day_of(row.timestamp) > day for row in found.values()) > limit:
            break
        consider(row for row, _, _ in lines_of(path))
    return sorted(found.values(), key=_order)[: limit + 1]


def oldest(
    layout: Layout, live: Iterable[AuditRow], before: datetime, start: datetime | None, limit: int
) -> list[datetime]:
    """The times of the rows older than `before`, oldest first: all of them, or more than `limit`."""
    times = {row.id: row.timestamp for row in live if _between(row, start, before)}
    for path in reversed(layout.audit_files()):
        day = _day(path)
        if day > day_of(before) or sum(day_of(time) < day for time in times.values()) > limit:
            break
        times |= {row.id: row.timestamp for row, _, _ in lines_of(path) if _between(row, start, before)}
    return sorted(times.values())


def remove_before(layout: Layout, start: datetime, backlog: Mapping[str, int]) -> None:
    """Delete the files of whole days before `start`, except those with rows that PostgreSQL lacks."""
    for path in layout.audit_files():
        if _day(path) < day_of(start) and path.name not in backlog:
            path.unlink(missing_ok=True)


def waiting(layout: Layout, backlog: Mapping[str, int], limit: int) -> tuple[list[AuditRow], AuditMark]:
    """The first pending rows behind the offsets of the backlog, and the mark after them."""
    rows: list[AuditRow] = []
    offsets: dict[str, int] = {}
    for name, start in sorted(backlog.items()):
        for row, pending, end in lines_of(layout.file(name)):
            if end <= start:
                continue
            if len(rows) == limit:
                return rows, AuditMark(offsets)
            offsets[name] = end
            if pending:
                rows.append(row)
    return rows, AuditMark(offsets)


def rest_of(layout: Layout, backlog: Mapping[str, int], mark: AuditMark) -> dict[str, int]:
    """The backlog after a mark was acknowledged: files without further pending rows leave it."""
    moved = {name: max(start, mark.offsets.get(name, 0)) for name, start in backlog.items()}
    return {name: start for name, start in moved.items() if waiting(layout, {name: start}, 1)[0]}


def lines_of(path: Path) -> Iterator[tuple[AuditRow, bool, int]]:
    """Row, whether it is pending, and the offset after it. An unfinished last line is left out; raises
    Corrupt for other
    damage. A file that was deleted has no rows."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    start = number = 0
    while (newline := data.find(b"\n", start)) >= 0:
        number += 1
        raw, start = data[start:newline], newline + 1
        if raw and not raw.strip(b" "):
            continue
        try:
            document = AuditLineDocument.model_validate(unseal(raw))
        except Damaged as error:
            raise damage(path, number, str(error)) from error
        except ValidationError as error:
            raise damage(path, number, "not an audit row of this version") from error
        yield document.row, document.pending, start
    if hides_a_line(data[start:]):
        raise damage(path, number + 1, "the newline after a whole line is damaged")


def blanked(data: bytes) -> bytes:
    """A file's bytes with every damaged line as spaces, which readers pass over."""
    lines = data.split(b"\n")
    last = lines.pop()
    kept = [line if intact(line) else b" " * len(line) for line in lines]
    if hides_a_line(last):
        kept.append(b" " * (len(last) - 1))
    return b"".join(line + b"\n" for line in kept)


def day_of(moment: datetime) -> str:
    return moment.astimezone(UTC).date().isoformat()


def _append_file(path: Path, data: bytes) -> None:
    made = not path.exists()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        end = _whole_lines(fd, path)
        try:
            write_all(fd, data, end)
            os.fsync(fd)
        except OSError:
            os.ftruncate(fd, end)
            raise
    finally:
        os.close(fd)
    if made:
        sync_directory(path.parent)


def _whole_lines(fd: int, path: Path) -> int:
    """The length of a file without an unfinished last line, which is cut off."""
    size = os.fstat(fd).st_size
    start = size
    tail = b""
    while start > 0 and b"\n" not in tail:
        step = min(_TAIL_BYTES, start)
        start -= step
        tail = read_range(fd, start, start + step) + tail
    end = start + tail.rfind(b"\n") + 1
    if end < size:
        if hides_a_line(tail[end - start :]):
            raise damage(
                path, read_range(fd, 0, end).count(b"\n") + 1, "the newline after a whole line is damaged"
            )
        os.ftruncate(fd, end)
    return end


def _matches(row: AuditRow, wanted: AuditFilter, start: datetime | None) -> bool:
    return (
        row.team_id == wanted.team_id
        and wanted.action in (None, row.action)
        and wanted.resource in (None, row.resource)
        and wanted.resource_id in (None, row.resource_id)
        and wanted.key_id in (None, row.key_id)
        and wanted.success in (None, row.success)
        and (wanted.since is None or row.timestamp >= wanted.since)
        and (wanted.until is None or row.timestamp < wanted.until)
        and (start is None or row.timestamp >= start)
    )


def _between(row: AuditRow, start: datetime | None, before: datetime) -> bool:
    return row.timestamp < before and (start is None or row.timestamp >= start)


def _order(row: AuditRow) -> tuple[int, str]:
    return (-micros(row.timestamp), row.id)


def _cursor(row: AuditRow) -> tuple[str, str]:
    return (row.timestamp.astimezone(UTC).isoformat(), row.id)


def _day(path: Path) -> str:
    return path.name[6:16]


def _too_new(day: str, wanted: AuditFilter, position: tuple[int, str] | None) -> bool:
    if wanted.until is not None and day > day_of(wanted.until):
        return True
    return position is not None and day > day_of(datetime.fromtimestamp(-position[0] // 1_000_000, UTC))


def _too_old(day: str, wanted: AuditFilter, start: datetime | None) -> bool:
    return any(oldest is not None and day < day_of(oldest) for oldest in (wanted.since, start))


def _end_of(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        return _whole_lines(fd, path)
    finally:
        os.close(fd)
