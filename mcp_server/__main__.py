"""The command `quaymaster`, also `python -m mcp_server`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from mcp_server.adapters.host.collector import resting

if TYPE_CHECKING:
    from mcp_server.cli.context import Root


def main() -> None:
    _open_standard_streams()
    with resting():
        from mcp_server.cli.main import run
    sys.exit(run(sys.argv[1:], _root))


def _open_standard_streams() -> None:
    """What the starter has closed leads to nothing, instead of to the next file that is opened."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != number:
                os.dup2(nothing, number)
                os.close(nothing)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))


def _root() -> Root:
    """Imported when a command needs it: `config` and `--help` do not."""
    with resting():
        from mcp_server import app
    return app


if __name__ == "__main__":
    main()
