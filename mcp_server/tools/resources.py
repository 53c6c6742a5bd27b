"""Resources: a project and its locks, with completions of project names."""

from __future__ import annotations

from mcp_server.domain.callers import Caller
from mcp_server.domain.pages import MAX_LIMIT
from mcp_server.services.calls import Call, Calls
from mcp_server.services.locks import Locks
from mcp_server.services.projects import Projects
from mcp_server.tools.server import QuaymasterServer

JSON = "application/json"


def add_resources(server: QuaymasterServer, calls: Calls, projects: Projects, locks: Locks) -> None:
    @server.resource("quaymaster://projects/{name}", name="get_project", mime_type=JSON)
    async def project(name: str) -> str:
        """One project."""
        return await server.content("get_project", {"name": name}, lambda call: projects.get(call, name=name))

    @server.resource("quaymaster://locks/{project}", name="list_locks", mime_type=JSON)
    async def held(project: str) -> str:
        """The locks that are held in a project, by path; the first 200."""
        return await server.content(
            "list_locks", {"project": project}, lambda call: locks.list(call, project, limit=MAX_LIMIT)
        )

    async def project_names(caller: Caller, begun: str) -> list[str]:
        call = Call(caller=caller, action="list_projects")
        page = await calls.perform(call, lambda: projects.list(call, limit=MAX_LIMIT))
        return [item.name for item in page.items if item.name.startswith(begun.strip().lower())]

    server.complete_with({"name": project_names, "project": project_names})
