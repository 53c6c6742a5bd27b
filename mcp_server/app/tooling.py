"""Every tool, prompt and resource over one house."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcp_server.app.code_bases import project_schemas
from mcp_server.app.house import House
from mcp_server.app.identity import version

if TYPE_CHECKING:
    from mcp_server.tools.server import QuaymasterServer


def make_server(house: House) -> QuaymasterServer:
    """The MCP server of a house: every tool, prompt and resource. Who sees what is decided for each
    request."""
    from mcp_server.tools.audit import add_audit_tools
    from mcp_server.tools.backups import add_backup_tools
    from mcp_server.tools.branches import add_branch_tools
    from mcp_server.tools.catalogue import Catalogue
    from mcp_server.tools.databases import add_database_tools
    from mcp_server.tools.deployments import add_deployment_tools
    from mcp_server.tools.domains import add_domain_tools
    from mcp_server.tools.environments import add_environment_tools
    from mcp_server.tools.keys import add_key_tools
    from mcp_server.tools.locks import add_lock_tools
    from mcp_server.tools.members import add_member_tools
    from mcp_server.tools.migrations import add_migration_tools
    from mcp_server.tools.projects import add_project_tools
    from mcp_server.tools.prompts import INSTRUCTIONS, add_prompts
    from mcp_server.tools.queries import add_query_tools
    from mcp_server.tools.resources import add_resources
    from mcp_server.tools.server import QuaymasterServer
    from mcp_server.tools.system import add_system_tools
    from mcp_server.tools.tasks import add_task_tools
    from mcp_server.tools.teams import add_team_tools

    catalogue = Catalogue()
    server = QuaymasterServer(catalogue, house.calls, version=version(), instructions=INSTRUCTIONS)
    add_system_tools(catalogue, house.status, house.conflicts, server.door)
    add_project_tools(catalogue, house.projects)
    add_database_tools(catalogue, house.databases)
    add_deployment_tools(catalogue, house.hosting)
    add_environment_tools(catalogue, house.hosting.environments)
    add_query_tools(catalogue, house.queries, house.templates)
    add_migration_tools(catalogue, project_schemas(house))
    add_backup_tools(catalogue, house.backups)
    add_branch_tools(catalogue, house.branches, house.promotions)
    add_domain_tools(catalogue, house.domains)
    add_task_tools(catalogue, house.tasks)
    add_lock_tools(catalogue, house.locks)
    add_team_tools(catalogue, house.teams)
    add_member_tools(catalogue, house.members)
    add_key_tools(catalogue, house.keys)
    add_audit_tools(catalogue, house.audit)
    add_prompts(server)
    add_resources(server, house.calls, house.projects, house.locks)
    return server
