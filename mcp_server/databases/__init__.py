"""Connections of an application to its own databases: they come back by themselves, and fail fast until then.

A library for any ASGI application (`docs/client.md`); nothing of the server is imported.
"""

from mcp_server.databases.addresses import urls_from, variable_of
from mcp_server.databases.asgi import DatabasesMiddleware
from mcp_server.databases.clients import Client, Transaction
from mcp_server.databases.connections import Databases
from mcp_server.databases.errors import (
    ConnectionLost,
    DatabaseBusy,
    DatabasesError,
    DatabasesSetupError,
    DatabaseUnavailable,
    UnknownDatabase,
)
from mcp_server.databases.links import Health
from mcp_server.databases.pools import Limits

__all__ = [
    "Client",
    "ConnectionLost",
    "DatabaseBusy",
    "DatabaseUnavailable",
    "Databases",
    "DatabasesError",
    "DatabasesMiddleware",
    "DatabasesSetupError",
    "Health",
    "Limits",
    "Transaction",
    "UnknownDatabase",
    "urls_from",
    "variable_of",
]
