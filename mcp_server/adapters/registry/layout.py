"""The names of the files of a home."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

FORMAT = 1
DIGITS = 20


@dataclass(frozen=True, slots=True)
class Layout:
    """A home is one directory (mode 0700) whose files have mode 0600. Lock files are never replaced nor
    removed.
    """

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "home.json"

    def place(self) -> str:
        """This machine and this directory, the same for all its processes, over restarts too. A copy of the files is at
        another place. Raises OSError."""
        told = f"{_machine()}/{self.home.stat().st_ino}"
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    @property
    def head(self) -> Path:
        return self.root / "HEAD"

    @property
    def keys(self) -> Path:
        return self.root / "api-keys.json"

    @property
    def write_lock(self) -> Path:
        return self.root / "write.lock"

    @property
    def write_turn(self) -> Path:
        return self.root / "write.turn"

    @property
    def mode_lock(self) -> Path:
        return self.root / "mode.lock"

    @property
    def mode_turn(self) -> Path:
        return self.root / "mode.turn"

    @property
    def leader_lock(self) -> Path:
        return self.root / "leader.lock"

    @property
    def behind_lock(self) -> Path:
        return self.root / "behind.lock"

    def file(self, name: str) -> Path:
        return self.root / name

    def audit_files(self) -> list[Path]:
        """Newest day first."""
        return sorted(self.root.glob("audit-????-??-??.ndjson"), reverse=True)

    def states(self) -> list[Path]:
        """Every journal segment and snapshot, also left-over ones."""
        return sorted([*self.root.glob("journal-*.ndjson"), *self.root.glob("snapshot-*.json")])

    def unfinished(self) -> list[Path]:
        """Files that were being written aside when their writer ended."""
        return sorted(self.root.glob("*.tmp"))


def _machine() -> str:
    """Empty where nobody gave this machine an id, as in most containers."""
    try:
        return Path("/etc/machine-id").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def segment_name(first: int) -> str:
    return f"journal-{first:0{DIGITS}d}.ndjson"


def snapshot_name(last: int) -> str:
    return f"snapshot-{last:0{DIGITS}d}.json"


def audit_name(day: str) -> str:
    """`day` as YYYY-MM-DD: the UTC date of every row in the file."""
    return f"audit-{day}.ndjson"
