"""Who may do what: for each action the least role and the scope group. What is not listed, nobody may do.

An action has the name of its tool. A key's scopes narrow its role: empty means every group, otherwise a group
or an action's own name must be among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from mcp_server.domain.callers import Caller
from mcp_server.domain.errors import Forbidden, Invalid
from mcp_server.domain.roles import Role, at_least

Group = Literal[
    "projects",
    "databases",
    "deploy",
    "domains",
    "promote",
    "schemas",
    "environment",
    "tasks",
    "locks",
    "teams",
    "keys",
    "audit",
    "system",
]


class Grant(NamedTuple):
    role: Role
    group: Group


GRANTS: dict[str, Grant] = {
    "create_project": Grant("member", "projects"),
    "get_project": Grant("viewer", "projects"),
    "list_projects": Grant("viewer", "projects"),
    "update_project": Grant("member", "projects"),
    "delete_project": Grant("admin", "projects"),
    "create_database": Grant("member", "databases"),
    "get_database": Grant("viewer", "databases"),
    "list_databases": Grant("viewer", "databases"),
    "start_database": Grant("member", "databases"),
    "stop_database": Grant("member", "databases"),
    "delete_database": Grant("admin", "databases"),
    "rotate_database_password": Grant("admin", "databases"),
    "database_logs": Grant("member", "databases"),
    "query_database": Grant("viewer", "databases"),
    "database_stats": Grant("viewer", "databases"),
    "backup_database": Grant("member", "databases"),
    "list_backups": Grant("viewer", "databases"),
    "restore_database": Grant("admin", "databases"),
    "apply_database_template": Grant("member", "databases"),
    "branch_database": Grant("member", "databases"),
    "list_branches": Grant("viewer", "databases"),
    "drop_branch": Grant("member", "databases"),
    "promote_database_to_postgres": Grant("admin", "databases"),
    "deploy_project": Grant("member", "deploy"),
    "get_deployment": Grant("viewer", "deploy"),
    "list_deployments": Grant("viewer", "deploy"),
    "cancel_deployment": Grant("member", "deploy"),
    "deployment_logs": Grant("member", "deploy"),
    "slot_status": Grant("viewer", "deploy"),
    "cleanup_slot": Grant("member", "deploy"),
    "build_image": Grant("member", "deploy"),
    "promote": Grant("member", "promote"),
    "rollback": Grant("member", "promote"),
    "set_environment": Grant("member", "environment"),
    "unset_environment": Grant("member", "environment"),
    "get_environment": Grant("viewer", "environment"),
    "environment_history": Grant("viewer", "environment"),
    "diff_environment": Grant("viewer", "environment"),
    "restore_environment": Grant("member", "environment"),
    "add_domain": Grant("member", "domains"),
    "verify_domain": Grant("member", "domains"),
    "list_domains": Grant("viewer", "domains"),
    "remove_domain": Grant("admin", "domains"),
    "schema_status": Grant("viewer", "schemas"),
    "plan_migration": Grant("member", "schemas"),
    "apply_migration": Grant("member", "schemas"),
    "rollback_migration": Grant("admin", "schemas"),
    "push_schema": Grant("admin", "schemas"),
    "pull_schema": Grant("member", "schemas"),
    "seed_database": Grant("member", "schemas"),
    "validate_schema": Grant("member", "schemas"),
    "execute_sql": Grant("member", "schemas"),
    "create_task": Grant("member", "tasks"),
    "get_task": Grant("viewer", "tasks"),
    "list_tasks": Grant("viewer", "tasks"),
    "update_task": Grant("member", "tasks"),
    "lock_files": Grant("member", "locks"),
    "release_files": Grant("member", "locks"),
    "renew_locks": Grant("member", "locks"),
    "check_files": Grant("viewer", "locks"),
    "list_locks": Grant("viewer", "locks"),
    "take_over_locks": Grant("admin", "locks"),
    "create_team": Grant("owner", "teams"),
    "get_team": Grant("viewer", "teams"),
    "list_teams": Grant("viewer", "teams"),
    "update_team": Grant("admin", "teams"),
    "delete_team": Grant("owner", "teams"),
    "add_member": Grant("admin", "teams"),
    "list_members": Grant("viewer", "teams"),
    "update_member": Grant("admin", "teams"),
    "remove_member": Grant("admin", "teams"),
    "create_key": Grant("admin", "keys"),
    "list_keys": Grant("admin", "keys"),
    "revoke_key": Grant("admin", "keys"),
    "rotate_key": Grant("admin", "keys"),
    "query_audit": Grant("admin", "audit"),
    "infrastructure_status": Grant("viewer", "system"),
    "list_conflicts": Grant("admin", "system"),
    "resolve_conflict": Grant("admin", "system"),
}
GROUPS: frozenset[str] = frozenset(grant.group for grant in GRANTS.values())


def may(caller: Caller, action: str) -> bool:
    """Whether the caller's role and scopes allow the action; False for an unknown one."""
    grant = GRANTS.get(action)
    if grant is None or not at_least(caller.role, grant.role):
        return False
    return not caller.scopes or grant.group in caller.scopes or action in caller.scopes


def require(caller: Caller, action: str) -> None:
    """Raise Forbidden, naming the role or scope that is missing, unless the caller may do the action."""
    if may(caller, action):
        return
    grant = GRANTS.get(action)
    if grant is None:
        raise Forbidden(f"nobody may call '{action}'")
    if not at_least(caller.role, grant.role):
        raise Forbidden(
            f"'{action}' needs the role {grant.role}; this key has {caller.role}", needs=grant.role
        )
    raise Forbidden(f"'{action}' needs the scope '{grant.group}'", needs=grant.group)


def known_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    """The scopes once each, in order. Raises Invalid for a name that is neither a group nor an action."""
    if any(scope not in GROUPS and scope not in GRANTS for scope in scopes):
        raise Invalid.field("scopes", f"each one of {', '.join(sorted(GROUPS))}, or the name of a tool")
    return tuple(sorted(set(scopes)))


def require_within(caller: Caller, role: Role, scopes: Sequence[str] = ()) -> None:
    """Raise Forbidden when whoever has this role and these scopes could do what the caller may not.

    `scopes` are those of a key (empty: all that the role may do).
    """
    if not at_least(caller.role, role):
        raise Forbidden(f"the role {role} is above the role {caller.role} of this key", needs=role)
    if caller.scopes and not (scopes and all(_covers(caller.scopes, scope) for scope in scopes)):
        raise Forbidden(
            "this key is limited to its scopes, and what it names is not", scopes=list(caller.scopes)
        )


def _covers(scopes: Sequence[str], scope: str) -> bool:
    return scope in scopes or (scope in GRANTS and GRANTS[scope].group in scopes)
