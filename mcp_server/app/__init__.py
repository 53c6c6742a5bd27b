"""The composition root: settings in, use cases and servers out. The one place where adapters meet services.

What only some commands need (the protocol's SDK, the web server, drivers) is imported when it is needed: a
server on stdio is started for every conversation, and the command line is used in hooks.
"""

from mcp_server.app.backups import backup_create, backup_list, backup_restore, backup_verify
from mcp_server.app.code_bases import client_writer, code_databases, serve_studio
from mcp_server.app.house import House, open_app
from mcp_server.app.identity import local_user, version
from mcp_server.app.maintenance import (
    edge_check,
    edge_config,
    migrations,
    registry_claim,
    registry_compact,
    registry_export,
    registry_import,
    registry_report,
    registry_set_aside,
    secrets_forget,
    secrets_reseal,
    secrets_reset,
    secrets_rotate,
)
from mcp_server.app.serving import serve_http, serve_stdio
from mcp_server.app.stores import primary_of
from mcp_server.app.tooling import make_server
from mcp_server.app.workplace import edge_of

__all__ = [
    "House",
    "backup_create",
    "backup_list",
    "backup_restore",
    "backup_verify",
    "client_writer",
    "code_databases",
    "edge_check",
    "edge_config",
    "edge_of",
    "local_user",
    "make_server",
    "migrations",
    "open_app",
    "primary_of",
    "registry_claim",
    "registry_compact",
    "registry_export",
    "registry_import",
    "registry_report",
    "registry_set_aside",
    "secrets_forget",
    "secrets_reseal",
    "secrets_reset",
    "secrets_rotate",
    "serve_http",
    "serve_stdio",
    "serve_studio",
    "version",
]
