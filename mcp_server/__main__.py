"""The command `quaymaster`, also `python -m mcp_server`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mcp_server.adapters.host.collector import resting

if TYPE_CHECKING:
    from mcp_server.cli.context import Root


def main() -> None:
    with resting():
        from mcp_server.cli.main import run
    sys.exit(run(sys.argv[1:], _root))


def _root() -> Root:
    """Imported when a command needs it: `config` and `--help` do not."""
    with resting():
        from mcp_server import app
    return app


if __name__ == "__main__":
    main()
