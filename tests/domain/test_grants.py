"""The grants table: every action x every role x every kind of scopes."""

import itertools

import pytest

from mcp_server.domain import degraded
from mcp_server.domain.callers import Caller
from mcp_server.domain.errors import Forbidden, Invalid
from mcp_server.domain.grants import GRANTS, GROUPS, known_scopes, may, require, require_within
from mcp_server.domain.roles import ROLES, Role, at_least

# Written out a second time on purpose: a slip in the table must meet another opinion.
LEAST: dict[Role, set[str]] = {
    "viewer": {
        "get_project",
        "list_projects",
        "get_database",
        "list_databases",
        "query_database",
        "database_stats",
        "list_backups",
        "list_branches",
        "schema_status",
        "list_domains",
        "get_deployment",
        "list_deployments",
        "slot_status",
        "get_environment",
        "environment_history",
        "diff_environment",
        "get_task",
        "list_tasks",
        "check_files",
        "list_locks",
        "get_team",
        "list_teams",
        "list_members",
        "infrastructure_status",
    },
    "member": {
        "create_project",
        "update_project",
        "create_database",
        "start_database",
        "stop_database",
        "database_logs",
        "backup_database",
        "apply_database_template",
        "branch_database",
        "drop_branch",
        "plan_migration",
        "apply_migration",
        "pull_schema",
        "seed_database",
        "validate_schema",
        "execute_sql",
        "add_domain",
        "verify_domain",
        "deploy_project",
        "cancel_deployment",
        "deployment_logs",
        "cleanup_slot",
        "build_image",
        "promote",
        "rollback",
        "set_environment",
        "unset_environment",
        "restore_environment",
        "create_task",
        "update_task",
        "lock_files",
        "release_files",
        "renew_locks",
    },
    "admin": {
        "delete_project",
        "delete_database",
        "rotate_database_password",
        "restore_database",
        "promote_database_to_postgres",
        "rollback_migration",
        "push_schema",
        "remove_domain",
        "take_over_locks",
        "update_team",
        "add_member",
        "update_member",
        "remove_member",
        "create_key",
        "list_keys",
        "revoke_key",
        "rotate_key",
        "query_audit",
        "list_conflicts",
        "resolve_conflict",
    },
    "owner": {"create_team", "delete_team"},
}
OWN_WORK = {"sweep", "tend_backups"}
"""What the server does by itself."""


def caller(role: Role, *scopes: str, rate_limit: int | None = None) -> Caller:
    return Caller(team_id="t-1", role=role, user="u", key_id="k-1", scopes=scopes, rate_limit=rate_limit)


def allowed_by_role(action: str, role: Role) -> bool:
    needed = next(least for least, actions in LEAST.items() if action in actions)
    return ROLES.index(role) <= ROLES.index(needed)


def test_every_action_of_the_table_is_known_to_the_second_opinion_and_the_other_way_round():
    assert set(GRANTS) == set().union(*LEAST.values())


def test_every_action_says_what_becomes_of_it_while_postgresql_is_away():
    assert set(degraded.ACTIONS) - set(GRANTS) <= OWN_WORK
    assert set(GRANTS) <= set(degraded.ACTIONS)


@pytest.mark.parametrize("action", sorted(GRANTS))
def test_a_key_without_scopes_may_do_exactly_what_its_role_may(action: str):
    for role in ROLES:
        assert may(caller(role), action) is allowed_by_role(action, role), role


@pytest.mark.parametrize("action", sorted(GRANTS))
def test_a_group_as_scope_narrows_the_role_to_that_group(action: str):
    for role, scope in itertools.product(ROLES, sorted(GROUPS)):
        expected = allowed_by_role(action, role) and GRANTS[action].group == scope
        assert may(caller(role, scope), action) is expected, (role, scope)


@pytest.mark.parametrize("action", sorted(GRANTS))
def test_an_action_as_scope_allows_only_itself(action: str):
    same_name = {other for other in GRANTS if GRANTS[other].group == action}  # "promote" is a group too
    assert {other for other in GRANTS if may(caller("owner", action), other)} == {action} | same_name


@pytest.mark.parametrize("role", ROLES)
def test_nobody_may_do_what_the_table_does_not_list(role: Role):
    assert not may(caller(role), "format_disk")
    with pytest.raises(Forbidden):
        require(caller(role), "format_disk")


@pytest.mark.parametrize("action", sorted(GRANTS))
def test_a_refusal_names_the_role_that_is_missing(action: str):
    for role in ROLES:
        if may(caller(role), action):
            require(caller(role), action)
            continue
        with pytest.raises(Forbidden) as refusal:
            require(caller(role), action)
        assert refusal.value.details["needs"] == GRANTS[action].role


def test_a_refusal_names_the_scope_that_is_missing():
    with pytest.raises(Forbidden) as refusal:
        require(caller("owner", "tasks"), "create_project")
    assert refusal.value.details["needs"] == "projects"


@pytest.mark.parametrize(("mine", "given"), list(itertools.product(ROLES, ROLES)))
def test_nobody_gives_a_role_above_the_own_one(mine: Role, given: Role):
    if at_least(mine, given):
        require_within(caller(mine), given)
    else:
        with pytest.raises(Forbidden):
            require_within(caller(mine), given)


@pytest.mark.parametrize(
    ("mine", "given", "within"),
    [
        ((), (), True),
        ((), ("tasks",), True),
        (("tasks",), ("tasks",), True),
        (("tasks",), ("create_task",), True),
        (("tasks", "keys"), ("create_task", "keys"), True),
        (("tasks",), (), False),
        (("tasks",), ("projects",), False),
        (("tasks",), ("tasks", "projects"), False),
        (("create_task",), ("tasks",), False),
        (("create_task",), ("update_task",), False),
    ],
)
def test_a_key_with_scopes_passes_on_no_more_than_them(
    mine: tuple[str, ...], given: tuple[str, ...], within: bool
):
    if within:
        require_within(caller("owner", *mine), "member", given)
    else:
        with pytest.raises(Forbidden):
            require_within(caller("owner", *mine), "member", given)


@pytest.mark.parametrize(("role", "given"), list(itertools.product(ROLES, sorted(GRANTS))))
def test_what_a_made_key_may_do_its_maker_may_do(role: Role, given: str):
    maker = caller(role, "projects", "keys")
    for made in ROLES:
        try:
            require_within(maker, made, (given,))
        except Forbidden:
            continue
        gained = [action for action in GRANTS if may(caller(made, given), action) and not may(maker, action)]
        assert gained == []


def test_scopes_are_kept_once_each_and_in_order():
    assert known_scopes(["tasks", "projects", "tasks", "lock_files"]) == ("lock_files", "projects", "tasks")


def test_an_unknown_scope_is_refused_without_repeating_it():
    with pytest.raises(Invalid) as refusal:
        known_scopes(["tasks", "everything-please"])
    assert "scopes" in refusal.value.details["fields"]
    assert "everything-please" not in str(refusal.value.payload())
