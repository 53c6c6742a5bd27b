"""Whose a host name is: unique over all projects, environments and domains of every team.

Looked at after the record was added, in its transaction: a store lets only one transaction at a time add projects
or domains from there on, so of two that want one name the second sees the first.
"""

from __future__ import annotations

from collections.abc import Iterable

from mcp_server.domain.errors import Conflict, QuaymasterError
from mcp_server.domain.hosts import owners, project_hosts, rivals
from mcp_server.domain.projects import normalise_name
from mcp_server.ports.store import Reading

OFFERED = 3


async def require_own_hosts(tx: Reading, project: str, base: str) -> None:
    """Raises Conflict, naming free names, when another project or a domain has a host name of this project."""
    if await _shares_a_host(tx, project, base):
        raise await taken_project(tx, project, base, "would share a host name with what is there already")


async def taken_project(tx: Reading, project: str, base: str, why: str) -> Conflict:
    free = [name for name in _other_names(project) if not await _taken(tx, name, base)]
    return Conflict(f"the name '{project}' {why}", next=_choose(free), free=free[:OFFERED])


async def require_own_domain(tx: Reading, host: str, base: str) -> None:
    """Raises Conflict, naming free ones beside it, when the name is one of a project's own."""
    if await _is_a_projects(tx, host, base):
        raise await taken_domain(tx, host, base, "is the address of a project")


async def taken_domain(tx: Reading, host: str, base: str, why: str) -> Conflict:
    label, _, zone = host.partition(".")
    others = [f"{name}.{zone}" for name in _other_names(label)] if zone.count(".") else []
    free = [
        name
        for name in others
        if await tx.domains.get(name) is None and not await _is_a_projects(tx, name, base)
    ]
    return Conflict(f"{host} {why}", next=_choose(free), free=free[:OFFERED])


async def _shares_a_host(tx: Reading, project: str, base: str) -> bool:
    for name in sorted(rivals(project)):
        if await tx.projects.get(name) is not None:
            return True
    for host in sorted(project_hosts(project, base)):
        if await tx.domains.get(host) is not None:
            return True
    return False


async def _taken(tx: Reading, project: str, base: str) -> bool:
    return await tx.projects.get(project) is not None or await _shares_a_host(tx, project, base)


async def _is_a_projects(tx: Reading, host: str, base: str) -> bool:
    for name in sorted(owners(host, base)):
        if await tx.projects.get(name) is not None:
            return True
    return False


def _other_names(name: str) -> Iterable[str]:
    for other in (f"{name}-app", f"{name}-web", f"{name}-2", f"{name}-3", f"my-{name}"):
        try:
            yield normalise_name(other)
        except QuaymasterError:
            continue


def _choose(free: list[str]) -> str:
    return f"Choose another name; free are {', '.join(free[:OFFERED])}." if free else "Choose another name."
