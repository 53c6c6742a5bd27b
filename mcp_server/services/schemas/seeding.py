"""seed.py, a program of the code base: run as the person who asks, with the address in its environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio

from mcp_server.domain.schemas.failures import ProgramFailed


async def run_program(path: Path, root: Path, variable: str, url: str) -> str:
    """What it printed. Raises ProgramFailed with its last line."""
    environment = {**os.environ, variable: url, "DATABASE_URL": url}
    done = await anyio.run_process([sys.executable, str(path)], cwd=root, env=environment, check=False)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ProgramFailed(
            f"seed.py ended with {done.returncode}: {said[-1] if said else 'it said nothing'}"
        )
    return done.stdout.decode("utf-8", "replace").strip() or "seed.py has ended"
