"""What the command line does with a home: verify, compact, export, and set damaged parts aside."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mcp_server.adapters.registry import audit_files, snapshot
from mcp_server.adapters.registry.disk import refusals
from mcp_server.adapters.registry.documents import HeadDocument, HomeDocument, KeysDocument
from mcp_server.adapters.registry.filelock import FairLock
from mcp_server.adapters.registry.files import Files
from mcp_server.adapters.registry.journal import Segment, line_to_json
from mcp_server.adapters.registry.keyring import write_projection
from mcp_server.adapters.registry.layout import FORMAT, Layout, segment_name
from mcp_server.adapters.registry.mirror import PATIENCE, RegistryMirror, utc_now
from mcp_server.adapters.registry.sealed import read_document, replace, seal, sync_directory, write_new
from mcp_server.adapters.registry.state import State
from mcp_server.domain.errors import Corrupt, NotFound


@dataclass(frozen=True, slots=True)
class Damage:
    """`line` counts from 1; 0 is the file as a whole."""

    file: str
    line: int
    what: str


@dataclass(slots=True)
class Report:
    """What a home holds. `remarks` are no damage: an unfinished line, left-over files, loose permissions."""

    root: str
    home: str | None = None
    generation: int | None = None
    seq: int | None = None
    records: Mapping[str, int] = field(default_factory=dict)
    pending: int = 0
    audit_rows: int = 0
    damages: list[Damage] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not self.damages


def verify(root: Path) -> Report:
    """Read every byte of a home and change nothing. Raises NotFound where there is no home."""
    layout = _home_at(root)
    report = Report(str(root))
    _verify_state(layout, report)
    _verify_keys(layout, report)
    for path in layout.audit_files():
        _verify_audit(path, report)
    _verify_modes(layout, report)
    return report


async def compact(root: Path) -> None:
    """Write a snapshot and begin a new segment, beside running servers."""
    mirror = await RegistryMirror.open(_home_at(root).root)
    try:
        await mirror.compact()
    finally:
        mirror.close()


def export(root: Path) -> dict[str, Any]:
    """All records of a home, and the revisions of deleted ones, as one JSON value; keys as they are stored, secrets sealed as they are. Raises
    Corrupt.
    """
    files = Files(_home_at(root))
    try:
        state = files.state
        return {
            "format": FORMAT,
            "home": state.home,
            "seq": state.seq,
            "at": state.at.isoformat(),
            "mode": state.mode,
            "epoch": state.epoch,
            "position": None if state.position is None else asdict(state.position),
            "records": {
                noun: [kept[key].model_dump(mode="json") for key in sorted(kept)]
                for noun, kept in state.records.items()
            },
            "gone": [
                {"noun": noun, "key": key, "rev": gone.rev, "at": gone.at.isoformat()}
                for (noun, key), gone in sorted(state.tombstones.items())
            ],
            "pending": [line_to_json(line) for line in state.pending.values()],
        }
    finally:
        files.close()


async def set_aside(root: Path, *, now: datetime | None = None, patience: float = PATIENCE) -> Sequence[str]:
    """Move what is damaged to `NAME.damaged-TIME` beside it and keep what can be read; returns what was done.

    Lines after a damaged one go with it: they continue it. A damaged snapshot takes its journal with it, for
    neither
    means anything without the other. To be called only on a person's word, with no server running.
    """
    layout = _home_at(root)
    mark = f".damaged-{(now or utc_now()).strftime('%Y%m%dT%H%M%SZ')}"
    lock = await FairLock(layout.write_lock, layout.write_turn).acquire(patience)
    try:
        with refusals("cannot set aside"):
            return [
                *_mend_home(layout, mark),
                *_mend_head(layout, mark),
                *_mend_state(layout, mark),
                *_mend_audit(layout, mark),
                *_mend_keys(layout, mark),
            ]
    finally:
        os.close(lock)


# Verifying


def _home_at(root: Path) -> Layout:
    layout = Layout(root)
    if not layout.home.exists() and not layout.head.exists():
        raise NotFound(f"{root} is no registry", next="Name the directory of QUAYMASTER_HOME.")
    return layout


def _verify_state(layout: Layout, report: Report) -> None:
    home = _try_document(report, layout.home, HomeDocument)
    head = _try_document(report, layout.head, HeadDocument)
    if home is None or head is None:
        return
    report.home, report.generation = home.home, head.generation
    try:
        state = snapshot.start_of(layout, head, home)
        _fold(layout.file(head.segment), state, report)
    except Corrupt as error:
        report.damages.append(_damage(error))
        return
    except FileNotFoundError as error:
        report.damages.append(Damage(str(error.filename), 0, "the file is missing"))
        return
    report.seq, report.pending = state.seq, len(state.pending)
    report.records = {noun: len(kept) for noun, kept in state.records.items()}
    report.remarks += [
        f"{path.name} is left over; the next compaction deletes it"
        for path in snapshot.left_over(layout, head)
    ]


def _fold(path: Path, state: State, report: Report | None) -> None:
    """Apply every whole line of a segment. Raises Corrupt, FileNotFoundError."""
    segment = Segment(path)
    try:
        for entry in segment.read_on(state.seq, state.sum):
            state.apply(entry)
        if report is not None and segment.size() > segment.end:
            report.remarks.append(f"{path.name} ends in an unfinished line; the next writer cuts it")
    finally:
        segment.close()


def _verify_keys(layout: Layout, report: Report) -> None:
    keys = _try_document(report, layout.keys, KeysDocument)
    if keys is not None and report.home is not None and keys.home != report.home:
        report.damages.append(Damage(str(layout.keys), 1, f"belongs to the home {keys.home}"))


def _verify_audit(path: Path, report: Report) -> None:
    try:
        report.audit_rows += sum(1 for _ in audit_files.lines_of(path))
    except Corrupt as error:
        report.damages.append(_damage(error))


def _verify_modes(layout: Layout, report: Report) -> None:
    """A directory in a closed home may be read, as the edge's is on purpose; written by others none may be."""
    for path in [layout.root, *sorted(layout.root.iterdir())]:
        loose = 0o022 if path.is_dir() and path != layout.root else 0o077
        if path.stat().st_mode & loose:
            report.remarks.append(f"{path} can be reached by other users")


def _try_document(report: Report, path: Path, kind: type[Any]) -> Any:
    try:
        return read_document(path, kind)
    except Corrupt as error:
        report.damages.append(_damage(error))
    except FileNotFoundError:
        report.damages.append(Damage(str(path), 0, "the file is missing"))
    return None


def _damage(error: Corrupt) -> Damage:
    return Damage(error.details["file"], error.details["line"], error.message)


# Setting aside


def _mend_home(layout: Layout, mark: str) -> Iterator[str]:
    try:
        snapshot.read_home(layout)
    except (Corrupt, FileNotFoundError):
        head = snapshot.read_head(layout)
        _move(layout.home, mark)
        snapshot.write_home(layout, head.home, utc_now())
        yield f"home.json was written anew with the id that HEAD names, {head.home}"


def _mend_head(layout: Layout, mark: str) -> Iterator[str]:
    try:
        snapshot.read_head(layout)
    except (Corrupt, FileNotFoundError):
        home = snapshot.read_home(layout)
        best = max(_candidates(layout, home), key=lambda found: found[0], default=(0, None))[1]
        if best is None:
            raise Corrupt(f"{layout.root} has no snapshot and no journal that can be read") from None
        _move(layout.head, mark)
        replace(layout.head, seal(best))
        yield f"HEAD was written anew; it names {best['segment']}"


def _candidates(layout: Layout, home: HomeDocument) -> Iterator[tuple[int, dict[str, Any]]]:
    """What HEAD may have named, by the last line that it leads to."""
    names = [path.name for path in layout.states() if path.name.startswith("snapshot-")]
    for name in [None, *names]:
        seq = 0 if name is None else int(name.removeprefix("snapshot-").removesuffix(".json"))
        body = {
            "format": FORMAT,
            "home": home.home,
            "generation": 1 if name is None else _generation(layout.file(name)),
            "seq": seq,
            "snapshot": name,
            "segment": segment_name(seq + 1),
        }
        try:
            head = HeadDocument(**body, sum="")
            state = snapshot.start_of(layout, head, home)
            _fold(layout.file(head.segment), state, None)
        except (Corrupt, FileNotFoundError):
            continue
        yield state.seq, body


def _generation(path: Path) -> int:
    try:
        return snapshot.read_generation(path)
    except Corrupt:
        return 0


def _mend_state(layout: Layout, mark: str) -> Iterator[str]:
    home, head = snapshot.read_home(layout), snapshot.read_head(layout)
    try:
        state = snapshot.start_of(layout, head, home)
    except (Corrupt, FileNotFoundError):
        yield from _begin_empty(layout, home, head, mark)
        return
    path = layout.file(head.segment)
    if not path.exists():
        write_new(path, b"")
        sync_directory(layout.root)
        yield f"{path.name} was missing; the journal goes on after line {state.seq}"
        return
    segment = Segment(path)
    try:
        for entry in segment.read_on(state.seq, state.sum):
            state.apply(entry)
    except Corrupt as error:
        aside = path.with_name(path.name + mark)
        write_new(aside, path.read_bytes()[segment.end :])
        segment.take_back()
        os.fsync(segment.fd)
        sync_directory(layout.root)
        yield f"{error.message}: all from there went to {aside.name}; line {state.seq} is the last one kept"
    finally:
        segment.close()


def _begin_empty(layout: Layout, home: HomeDocument, head: HeadDocument, mark: str) -> Iterator[str]:
    """HEAD is replaced before the old files go, so that a crash leaves one of the two.

    The old epoch is lost: the new one counts minutes since 1970, above all there were. No fence comes twice.
    """
    named = (head.snapshot, head.segment)
    names = [name for name in named if name is not None and layout.file(name).exists()]
    copies = [(layout.file(name), layout.file(name + mark)) for name in names]
    for path, aside in copies:
        os.link(path, aside)
    sync_directory(layout.root)
    state = State(home.home, home.created_at)
    state.seq, state.alone = head.seq + 1, False
    state.epoch = int(utc_now().timestamp()) // 60
    snapshot.switch(layout, state, head.generation + 1, snapshot=True)
    for path, _ in copies:
        path.unlink()
    yield f"the snapshot cannot be read: {', '.join(names)} went to *{mark}; the registry begins empty"


def _mend_audit(layout: Layout, mark: str) -> Iterator[str]:
    """Damaged lines become spaces: the offsets behind them stay what the backlog says."""
    for path in layout.audit_files():
        try:
            for _ in audit_files.lines_of(path):
                pass
        except Corrupt as error:
            aside = path.with_name(path.name + mark)
            data = path.read_bytes()
            write_new(aside, data)
            replace(path, audit_files.blanked(data))
            yield f"{error.message}: the whole file is in {aside.name}; the other rows were kept"


def _mend_keys(layout: Layout, mark: str) -> Iterator[str]:
    files = Files(layout)
    try:
        wanted = {"seq": files.state.keys_seq, "home": files.state.home}
        try:
            found = read_document(layout.keys, KeysDocument)
        except FileNotFoundError:
            found = None
        except Corrupt as error:
            found = None
            _move(layout.keys, mark)
            yield error.message
        if found is None or {"seq": found.seq, "home": found.home} != wanted:
            write_projection(layout, files.state)
            yield "api-keys.json was written anew from the journal"
    finally:
        files.close()


def _move(path: Path, mark: str) -> None:
    if path.exists():
        os.replace(path, path.with_name(path.name + mark))
