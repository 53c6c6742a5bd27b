"""What may run while PostgreSQL is away: one table.

* `served`     answered from the registry
* `journaled`  done on the registry, and replayed onto PostgreSQL when it is back
* `refused`    what one home cannot promise when several share the truth; a home that is alone refuses nothing
"""

from __future__ import annotations

from typing import Literal

Degraded = Literal["served", "journaled", "refused"]

ACTIONS: dict[str, Degraded] = {
    "create_project": "refused",
    "get_project": "served",
    "list_projects": "served",
    "update_project": "journaled",
    "delete_project": "refused",
    "create_database": "refused",
    "get_database": "served",
    "list_databases": "served",
    "start_database": "journaled",
    "stop_database": "journaled",
    "delete_database": "refused",
    "rotate_database_password": "journaled",
    "database_logs": "served",
    "query_database": "journaled",
    "database_stats": "served",
    "backup_database": "journaled",
    "list_backups": "served",
    "restore_database": "journaled",
    "tend_backups": "journaled",
    "apply_database_template": "journaled",
    "branch_database": "journaled",
    "list_branches": "served",
    "drop_branch": "journaled",
    "promote_database_to_postgres": "refused",
    "deploy_project": "journaled",
    "get_deployment": "served",
    "list_deployments": "served",
    "cancel_deployment": "journaled",
    "deployment_logs": "served",
    "slot_status": "served",
    "cleanup_slot": "refused",
    "build_image": "served",
    "promote": "journaled",
    "rollback": "journaled",
    "set_environment": "journaled",
    "unset_environment": "journaled",
    "get_environment": "served",
    "environment_history": "served",
    "diff_environment": "served",
    "restore_environment": "journaled",
    "add_domain": "refused",
    "verify_domain": "journaled",
    "list_domains": "served",
    "remove_domain": "refused",
    "schema_status": "served",
    "plan_migration": "served",
    "apply_migration": "refused",
    "rollback_migration": "refused",
    "push_schema": "refused",
    "pull_schema": "refused",
    "seed_database": "served",
    "validate_schema": "served",
    "execute_sql": "journaled",
    "create_task": "journaled",
    "get_task": "served",
    "list_tasks": "served",
    "update_task": "journaled",
    "lock_files": "refused",
    "release_files": "journaled",
    "renew_locks": "journaled",
    "check_files": "served",
    "list_locks": "served",
    "take_over_locks": "refused",
    "create_team": "refused",
    "get_team": "served",
    "list_teams": "served",
    "update_team": "journaled",
    "delete_team": "refused",
    "add_member": "journaled",
    "list_members": "served",
    "update_member": "journaled",
    "remove_member": "journaled",
    "create_key": "journaled",
    "list_keys": "served",
    "revoke_key": "journaled",
    "rotate_key": "journaled",
    "query_audit": "served",
    "infrastructure_status": "served",
    "list_conflicts": "served",
    "resolve_conflict": "refused",
}


HOUSEKEEPING: dict[str, Degraded] = {
    "sweep": "journaled",
    "tend_databases": "journaled",
    "tidy_domains": "refused",
    "reseal_secrets": "refused",
}
"""What a server does by itself. Removing what has ended grants nothing, and a removal never meets a renewed lease
(`merging`)."""


def exclusive(action: str) -> bool:
    """Whether the action grants what one home cannot promise alone. One that no table knows does."""
    return (ACTIONS.get(action) or HOUSEKEEPING.get(action, "refused")) == "refused"


def refused(action: str, *, alone: bool) -> bool:
    """Whether the action must wait for PostgreSQL."""
    return not alone and exclusive(action)
