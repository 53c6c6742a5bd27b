"""The composition root: settings in, use cases and servers out. The one place where adapters meet services.

What only some commands need (the house itself, the protocol's SDK, the web server, drivers) is imported when it is
needed: a server on stdio is started for every conversation, and the command line is used in hooks.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mcp_server.adapters.host.collector import resting

if TYPE_CHECKING:
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

MODULES = {
    "backups": ("backup_create", "backup_list", "backup_restore", "backup_verify"),
    "code_bases": ("client_writer", "code_databases", "serve_studio"),
    "house": ("House", "open_app"),
    "identity": ("local_user", "version"),
    "maintenance": (
        "edge_check",
        "edge_config",
        "migrations",
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
    ),
    "serving": ("serve_http", "serve_stdio"),
    "stores": ("primary_of",),
    "tooling": ("make_server",),
    "workplace": ("edge_of",),
}
"""What each module of this room gives to the outside; it is imported with the first of them."""

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


def __getattr__(name: str) -> Any:
    for module, names in MODULES.items():
        if name in names:
            with resting():
                return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
