"""`python -m mcp_server.config --write | --check`, in a checkout."""

from __future__ import annotations

import sys
from pathlib import Path

from mcp_server.config.documents import differences, write


def main(arguments: list[str]) -> int:
    root = Path(__file__).resolve().parents[2]
    if arguments == ["--write"]:
        write(root)
        return 0
    if arguments == ["--check"]:
        stale = differences(root)
        for name in stale:
            sys.stderr.write(f"{name} differs from the settings; run: make generate\n")
        return 1 if stale else 0
    sys.stderr.write("usage: python -m mcp_server.config --write | --check\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
