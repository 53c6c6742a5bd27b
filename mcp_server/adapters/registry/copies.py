"""The registry of a home as one archive, and an archive as a new registry."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO

from mcp_server.adapters.registry import maintenance, snapshot
from mcp_server.adapters.registry.disk import refusals, to_the_end
from mcp_server.adapters.registry.filelock import FairLock
from mcp_server.adapters.registry.files import Files
from mcp_server.adapters.registry.layout import Layout
from mcp_server.adapters.registry.mirror import PATIENCE
from mcp_server.adapters.registry.sealed import sync_directory
from mcp_server.domain.backups import TableSum
from mcp_server.domain.errors import Conflict, Corrupt
from mcp_server.domain.records import Record

PIECE = 1024 * 1024
MODULUS = 2**256


class RegistryArchives:
    """Of the registry in `root`."""

    def __init__(self, root: Path) -> None:
        self._layout = Layout(root)

    async def pack(self, folder: str, archive: str) -> Sequence[TableSum]:
        with ExitStack() as opened:
            lock = await FairLock(self._layout.write_lock, self._layout.write_turn).acquire(PATIENCE)
            try:
                moment = await to_the_end(partial(_opened, self._layout, opened))
            finally:
                os.close(lock)
            return await to_the_end(partial(_packed, moment, Path(folder), Path(archive)))

    async def unpack(self, archive: str, folder: str) -> Sequence[TableSum]:
        return await to_the_end(partial(_unpacked, Path(archive), Path(folder)))


def _opened(layout: Layout, opened: ExitStack) -> list[tuple[str, IO[bytes], int]]:
    """Each file with its length now: what grows later grows behind it, what is replaced stays open here."""
    with refusals("the registry cannot be read"):
        head = snapshot.read_head(layout)
        named = [layout.file(name) for name in (head.snapshot, head.segment) if name is not None]
        paths = [layout.home, layout.head, layout.keys, *named, *layout.audit_files()]
        files = [(path.name, opened.enter_context(path.open("rb"))) for path in paths if path.exists()]
        return [(name, file, os.fstat(file.fileno()).st_size) for name, file in files]


def _packed(moment: list[tuple[str, IO[bytes], int]], folder: Path, archive: Path) -> tuple[TableSum, ...]:
    with refusals("the registry cannot be copied"):
        folder.mkdir(mode=0o700)
        for name, file, size in moment:
            with _new(folder / name) as copy:
                for piece in _pieces(file, size):
                    copy.write(piece)
        found = _sums(folder)
        with _new(archive) as target, tarfile.open(fileobj=target, mode="w") as packed:
            for name, _, _ in moment:
                packed.add(folder / name, arcname=name, recursive=False)
    return found


def _unpacked(archive: Path, folder: Path) -> tuple[TableSum, ...]:
    """Beside its place first: what breaks off leaves no half registry there."""
    aside = folder.with_name(f"{folder.name}.unpacking")
    with refusals("the registry cannot be unpacked"):
        if folder.exists() and any(folder.iterdir()):
            raise Conflict(f"{folder} is not empty", next="Name a directory that is not there yet.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(mode=0o700)
        try:
            _extract(archive, aside)
            found = _sums(aside)
            sync_directory(aside)
            os.replace(aside, folder)
            sync_directory(folder.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return found


def _extract(archive: Path, folder: Path) -> None:
    """Plain files of plain names, and nothing else that an archive may hold."""
    with tarfile.open(archive, mode="r:") as packed:
        for entry in packed:
            file = packed.extractfile(entry) if entry.isreg() else None
            if file is None or Path(entry.name).name != entry.name or entry.name.startswith("."):
                raise Corrupt("the backup holds something that is no file of a registry")
            with _new(folder / entry.name) as target:
                for piece in _pieces(file, entry.size):
                    target.write(piece)
                target.flush()
                os.fsync(target.fileno())


def _new(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb")


def _pieces(file: IO[bytes], size: int) -> Iterator[bytes]:
    while size > 0 and (piece := file.read(min(PIECE, size))):
        size -= len(piece)
        yield piece


def _sums(folder: Path) -> tuple[TableSum, ...]:
    """Every noun's records, the audit rows, and the bytes of all files. Raises Corrupt where anything is damaged."""
    report = maintenance.verify(folder)
    if report.damages:
        first = report.damages[0]
        raise Corrupt(f"the registry is damaged: {Path(first.file).name}, line {first.line}: {first.what}")
    files = Files(Layout(folder))
    try:
        kept = {noun: list(records.values()) for noun, records in files.state.records.items() if records}
    finally:
        files.close()
    nouns = [_sum(noun, records) for noun, records in sorted(kept.items())]
    whole, audit = hashlib.sha256(), hashlib.sha256()
    paths = sorted(path for path in folder.iterdir() if path.suffix != ".lock" and path.suffix != ".turn")
    for path in paths:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").digest()
        whole.update(path.name.encode() + b"\0" + digest)
        if path.name.startswith("audit-"):
            audit.update(digest)
    return (
        TableSum(name="(audit)", rows=report.audit_rows, hash=audit.hexdigest()),
        TableSum(name="(files)", rows=len(paths), hash=whole.hexdigest()),
        *nouns,
    )


def _sum(noun: str, records: list[Record]) -> TableSum:
    digests = (hashlib.sha256(record.model_dump_json().encode()).digest() for record in records)
    total = sum(int.from_bytes(digest) for digest in digests) % MODULUS
    return TableSum(name=noun, rows=len(records), hash=f"{total:064x}")
