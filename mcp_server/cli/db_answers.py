"""What a command of `quaymaster db` is, and what it answers: the exit code, and what `--json` shows."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import Any

from mcp_server.cli.db_terminal import Terminal
from mcp_server.domain.schemas.folders import Folder
from mcp_server.services.schemas.databases import Databases

PENDING = 3
Answer = tuple[int, Any]
Command = Callable[[Databases, Folder, argparse.Namespace, Terminal], Awaitable[Answer]]
