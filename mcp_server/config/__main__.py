"""`python -m mcp_server.config --write`, in a checkout."""

from __future__ import annotations

import sys
from pathlib import Path

from mcp_server.config.documents import write

if sys.argv[1:] != ["--write"]:
    sys.exit("usage: python -m mcp_server.config --write")
write(Path(__file__).resolve().parents[2])
