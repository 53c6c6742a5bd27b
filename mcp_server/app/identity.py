"""Who runs this, by which command, and which version."""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import shutil
import sys
from pathlib import Path


def version() -> str:
    try:
        return importlib.metadata.version("quaymaster")
    except importlib.metadata.PackageNotFoundError:
        return "0"


def local_user() -> str:
    """The name of the operating-system user, or its number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def own_command() -> str:
    """What a person types to reach this installation: `quaymaster`, or its path where no `PATH` leads to it."""
    started = Path(sys.argv[0])
    if started.name != "quaymaster":
        return f"{sys.executable} -m mcp_server"
    found = shutil.which("quaymaster")
    return "quaymaster" if found and Path(found).resolve() == started.resolve() else str(started)
