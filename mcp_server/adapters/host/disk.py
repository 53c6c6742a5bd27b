"""How much room the disk of a home has left."""

from __future__ import annotations

import os
from pathlib import Path

from mcp_server.ports.health import PartState

LITTLE = 64 * 1024 * 1024
NONE = 1024 * 1024
"""In bytes: below this the journal's next lines find no room, or soon will not."""


class HomeDisk:
    """`vital` where the home is the store; beside PostgreSQL it is only the mirror."""

    name = "disk"

    def __init__(self, home: Path, *, vital: bool) -> None:
        self._home = home
        self.vital = vital

    async def check(self) -> PartState:
        disk = os.statvfs(self._home)
        if disk.f_flag & os.ST_RDONLY:
            return PartState("unhealthy", "the file system of the home is read-only")
        if disk.f_files and not disk.f_favail:
            return PartState("unhealthy", "no file can be made on the disk of the home: no inodes are left")
        free = disk.f_bavail * disk.f_frsize
        said = f"{free // NONE} MiB are free on the disk of the home"
        if free < NONE:
            return PartState("unhealthy", said)
        return PartState("degraded" if free < LITTLE else "healthy", said)
