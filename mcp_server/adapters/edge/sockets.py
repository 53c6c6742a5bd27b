"""Open connections, as the kernel lists them in /proc/net/tcp and /proc/net/tcp6."""

from __future__ import annotations

import socket
from collections.abc import Collection
from pathlib import Path

from mcp_server.domain.errors import Unavailable

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")

_ESTABLISHED = "01"
_MAPPED = "0000000000000000FFFF0000"


def tables() -> str:
    """Those of this process's network namespace. Raises Unavailable."""
    try:
        return "\n".join(Path(table).read_text() for table in TABLES if Path(table).exists())
    except OSError as error:
        raise Unavailable("The host's list of connections cannot be read.") from error


def established(tables: str, addresses: Collection[str], port: int) -> int:
    """How many established connections lead to this port of one of these IPv4 addresses.

    `tables` is the text of both tables of the network namespace that the connections begin in.
    """
    remote = {_hexadecimal(address, port) for address in addresses}
    remote |= {_MAPPED + one for one in remote}
    rows = (line.split() for line in tables.splitlines())
    return sum(1 for row in rows if len(row) > 3 and row[3] == _ESTABLISHED and row[2] in remote)


def _hexadecimal(address: str, port: int) -> str:
    """As the kernel writes it on a little-endian machine: the address's bytes turned round, the port not."""
    return f"{socket.inet_aton(address)[::-1].hex().upper()}:{port:04X}"
