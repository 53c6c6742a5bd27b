"""Who runs this, and which version."""

from __future__ import annotations

import getpass
import importlib.metadata
import os


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
