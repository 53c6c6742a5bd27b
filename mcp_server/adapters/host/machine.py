"""Ports, memory and the name of this machine."""

from __future__ import annotations

import hashlib
import re
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
_AVAILABLE = re.compile(r"^MemAvailable:\s+(\d+) kB$", re.MULTILINE)


class ThisMachine:
    """`id` stays when the machine is renamed."""

    def __init__(self) -> None:
        self.name = socket.gethostname()
        self.id = hashlib.sha256(f"quaymaster host {_machine_id() or self.name}".encode()).hexdigest()[:16]

    def port_is_free(self, port: int) -> bool:
        """Bound as the engine will bind it: a port whose last connections still linger is free."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
                probe.listen(1)
            except OSError:
                return False
        return True

    def free_memory(self) -> int | None:
        try:
            found = _AVAILABLE.search(Path("/proc/meminfo").read_text(encoding="ascii"))
        except OSError:
            return None
        return None if found is None else int(found[1]) * 1024


def _machine_id() -> str:
    for place in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            text = Path(place).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text:
            return text
    return ""
