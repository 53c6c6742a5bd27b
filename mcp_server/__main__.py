"""The command `quaymaster`, also `python -m mcp_server`."""

from __future__ import annotations

import sys

from mcp_server.cli.context import Root
from mcp_server.cli.main import run


def main() -> None:
    sys.exit(run(sys.argv[1:], _root))


def _root() -> Root:
    """Imported when a command needs it: `config` and `--help` do not."""
    from mcp_server import app

    return app


if __name__ == "__main__":
    main()
