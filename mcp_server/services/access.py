"""Tenant walls: every object is reached through the caller's team, and a foreign one is not found."""

from __future__ import annotations

import os

import anyio.to_thread

from mcp_server.domain.callers import Caller
from mcp_server.domain.errors import Invalid, NotFound
from mcp_server.domain.projects import Project, normalise_name
from mcp_server.domain.tasks import Task
from mcp_server.domain.teams import EnvironmentName, Team
from mcp_server.ports.store import Reading


async def team_of(tx: Reading, caller: Caller, *, hold: bool = False) -> Team:
    """The caller's team. Raises NotFound when it was deleted."""
    team = await (tx.teams.hold(caller.team_id) if hold else tx.teams.get(caller.team_id))
    if team is None:
        raise NotFound("the team of this key no longer exists")
    return team


async def project_of(tx: Reading, caller: Caller, name: str, *, hold: bool = False) -> Project:
    """The project of this name in the caller's team. Raises NotFound, also for another team's."""
    key = normalise_name(name)
    project = await (tx.projects.hold(key) if hold else tx.projects.get(key))
    if project is None or project.team_id != caller.team_id:
        raise NotFound(
            f"no project '{key}' in this team",
            next="Check the name; list_projects shows the projects of your team.",
        )
    return project


async def task_of(tx: Reading, caller: Caller, task_id: str, *, hold: bool = False) -> Task:
    """The task of this id in the caller's team. Raises NotFound, also for another team's."""
    task = await (tx.tasks.hold(task_id) if hold else tx.tasks.get(task_id))
    if task is None or task.team_id != caller.team_id:
        raise NotFound("no such task in this team", next="list_tasks shows the tasks of a project.")
    return task


async def chosen_environment(
    tx: Reading, caller: Caller, environment: EnvironmentName | None
) -> EnvironmentName:
    """The one that was named, else the team's."""
    if environment is not None:
        return environment
    return (await team_of(tx, caller)).settings.deploymentDefaults.environment


async def require_in_place(path: str) -> None:
    """A project's path was without links when it was set. Raises Invalid when it now leads elsewhere: what is there
    is not the project's."""
    if await anyio.to_thread.run_sync(os.path.realpath, path) != path:
        raise Invalid("the project's path now leads elsewhere", next="Set its path anew with update_project.")
