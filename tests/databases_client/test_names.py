"""Names, variables, URLs and platforms."""

import pytest

from mcp_server.databases import Databases, DatabasesSetupError, UnknownDatabase, urls_from, variable_of
from mcp_server.databases.addresses import engine_of, sqlite_path


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("user", "RDS_USER_URL"),
        ("order-items", "RDS_ORDER_ITEMS_URL"),
        ("a.b2", "RDS_A_B2_URL"),
        ("userDb", "RDS_USER_DB_URL"),
    ],
)
def test_the_variable_of_a_name(name: str, variable: str):
    assert variable_of(name) == variable


def test_two_names_of_one_variable_are_an_error_that_names_both():
    with pytest.raises(DatabasesSetupError, match=r"'my-db' and 'my_db' both read RDS_MY_DB_URL"):
        urls_from({"RDS_MY_DB_URL": "file:a"}, ["my-db", "my_db"])


def test_a_missing_variable_is_named():
    with pytest.raises(DatabasesSetupError, match="RDS_USER_URL is not set"):
        Databases(["user"], environ={})


def test_without_names_every_variable_that_is_set_counts():
    environ = {
        "RDS_USER_URL": "file:u.db",
        "RDS_ORDERS_URL": "postgres://h/o",
        "RDS_EMPTY_URL": "",
        "OTHER": "x",
    }
    assert Databases(environ=environ).names == ["orders", "user"]


def test_an_unknown_name_is_told_what_there_is():
    with pytest.raises(UnknownDatabase, match="there are: a"):
        Databases({"a": "file:a.db"}, environ={}).client_sync("b")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:/data/a%20b.db", "/data/a b.db"),
        ("file:a.db", "a.db"),
        ("file:///data/a.db?mode=ro", "/data/a.db"),
        ("sqlite:///a.db", "a.db"),
        ("sqlite:////data/a.db", "/data/a.db"),
        ("sqlite://", ":memory:"),
    ],
)
def test_the_file_that_a_url_names(url: str, path: str):
    assert sqlite_path(url) == path


def test_a_url_of_another_kind_is_refused_without_being_repeated():
    with pytest.raises(DatabasesSetupError) as refused:
        engine_of("mysql://root:secret@h/d")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "variable", ["AWS_LAMBDA_FUNCTION_NAME", "VERCEL", "FUNCTIONS_WORKER_RUNTIME", "FUNCTION_TARGET"]
)
def test_a_serverless_platform_is_known_by_its_own_variable(variable: str):
    found = Databases({}, environ={variable: "1"})
    assert (found.serverless, found.check_interval) == (True, 15)


@pytest.mark.parametrize("variable", ["NODE_ENV", "QUAYMASTER_ENV", "ENVIRONMENT", "APP_ENV"])
def test_production_is_not_serverless(variable: str):
    found = Databases({}, environ={variable: "production"})
    assert (found.serverless, found.check_interval) == (False, 60)
