"""What differs between Caddys of different age."""

from __future__ import annotations

import re

from mcp_server.adapters.edge.caddy.config import Permission

VERSION = re.compile(r"\bv?(\d+)\.(\d+)(?:\.\d+)?")
SINCE = (2, 8)


def permission_of(version: str) -> Permission:
    """How the Caddy that calls itself this (`caddy version`) spells who allows certificates. One that says nothing
    understandable is taken for a new one.
    """
    found = VERSION.search(version)
    if found is None:
        return "module"
    return "ask" if (int(found[1]), int(found[2])) < SINCE else "module"
