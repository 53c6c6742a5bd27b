"""Settings: where they come from, what is refused, and that no secret is ever shown."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mcp_server.config import (
    Settings,
    SettingsError,
    decode_key,
    default_home,
    describe,
    effective,
    load,
    render_example,
    render_markdown,
)

ROOT = Path(__file__).resolve().parent.parent
CANARY = "canary-7f3a9c"
VARIABLES = {variable.name: variable for variable in describe()}
ACCEPTED_NAMES = [name for variable in describe() for name in (variable.name, *variable.aliases)]


def problems_of(environ: dict[str, str], cwd: Path) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(environ, cwd)
    names = [problem.name for problem in caught.value.problems]
    assert len(str(caught.value).splitlines()) == len(names)
    return names


def outcome(environ: dict[str, str], cwd: Path) -> Settings | SettingsError:
    try:
        return load(environ, cwd)
    except SettingsError as error:
        return error


def secret_url(settings: Settings) -> str:
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


# Defaults and files


def test_nothing_set_gives_development_on_the_json_registry(tmp_path: Path) -> None:
    settings = load({}, tmp_path)
    assert (settings.env, settings.database_url, settings.redis_url) == ("development", None, None)
    assert (settings.db_pool_max, settings.db_pool_idle, settings.db_connect_timeout) == (20, 30, 5)
    assert (settings.rate_limit, settings.key_prefix, settings.audit_retention_days) == (600, "qm", 90)
    assert settings.warnings == ()


def test_a_later_file_wins_over_an_earlier_one_and_the_environment_over_all(tmp_path: Path) -> None:
    names = [
        "QUAYMASTER_RATE_LIMIT",
        "QUAYMASTER_WARM_POOL",
        "QUAYMASTER_DB_POOL_MAX",
        "QUAYMASTER_QUOTA_KEYS",
    ]
    for number, (file, lines) in enumerate(
        ((".env", 4), (".env.development", 3), (".env.local", 2)), start=1
    ):
        (tmp_path / file).write_text("".join(f"{name}={number}\n" for name in names[:lines]))
    settings = load({names[0]: "4"}, tmp_path)
    assert [settings.rate_limit, settings.warm_pool, settings.db_pool_max, settings.quota_keys] == [
        4,
        3,
        2,
        1,
    ]
    assert [settings.sources[name] for name in names] == [
        "environment",
        ".env.local",
        ".env.development",
        ".env",
    ]


def test_overrides_win_over_the_environment(tmp_path: Path) -> None:
    settings = load(
        {"QUAYMASTER_TOOLSETS": "work"}, tmp_path, overrides={"QUAYMASTER_TOOLSETS": "audit, teams"}
    )
    assert settings.toolsets == ("audit", "teams")
    assert settings.sources["QUAYMASTER_TOOLSETS"] == "command line"


@pytest.mark.parametrize("file", [".env", ".env.local"])
def test_a_shared_file_may_choose_the_environment_and_with_it_the_next_file(
    tmp_path: Path, file: str
) -> None:
    (tmp_path / file).write_text("QUAYMASTER_ENV=test\n")
    (tmp_path / ".env.test").write_text("QUAYMASTER_RATE_LIMIT=7\n")
    (tmp_path / ".env.development").write_text("QUAYMASTER_RATE_LIMIT=8\n")
    settings = load({}, tmp_path)
    assert (settings.env, settings.rate_limit) == ("test", 7)


def test_the_file_of_an_environment_cannot_name_another_one(tmp_path: Path) -> None:
    (tmp_path / ".env.test").write_text("QUAYMASTER_ENV=production\n")
    assert problems_of({"QUAYMASTER_ENV": "test"}, tmp_path) == ["QUAYMASTER_ENV"]


def test_an_environment_that_does_not_exist_opens_no_file(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / ".env.").mkdir()
    (tmp_path / "secrets").write_text("QUAYMASTER_RATE_LIMIT=wrong\n")
    assert problems_of({"QUAYMASTER_ENV": "/../../secrets"}, tmp_path / "inner") == ["QUAYMASTER_ENV"]


def test_an_empty_value_counts_as_unset(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("QUAYMASTER_RATE_LIMIT=9\n")
    environ = {
        "QUAYMASTER_RATE_LIMIT": "",
        "QUAYMASTER_REDIS_URL": " ",
        "DOCKER_HOST": "",
        "QUAYMASTER_ENV": "",
    }
    settings = load(environ, tmp_path)
    assert (settings.rate_limit, settings.redis_url, settings.docker_host) == (9, None, None)


def test_values_in_files_are_taken_literally(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("QUAYMASTER_DB_HOST=db\nQUAYMASTER_DB_PASSWORD='${HOME}$x'\n")
    settings = load({"HOME": "/root"}, tmp_path)
    assert settings.db_password is not None
    assert settings.db_password.get_secret_value() == "${HOME}$x"


def test_a_broken_line_in_a_file_is_named_by_its_number_without_its_text(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"QUAYMASTER_RATE_LIMIT=9\n{CANARY} {CANARY}\n")
    with pytest.raises(SettingsError) as caught:
        load({}, tmp_path)
    assert str(caught.value) == ".env: line 2 is not NAME=value"


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.write_bytes(b"A=\xff\xfe")])
def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path, make) -> None:
    make(tmp_path / ".env")
    assert problems_of({}, tmp_path) == [".env"]


# Problems

WRONG = {
    "QUAYMASTER_ENV": ["staging", "prod", "../x"],
    "QUAYMASTER_HOME": ["~someone/x"],
    "QUAYMASTER_DATABASE_URL": [
        "mysql://h/db",
        "h/db",
        "postgresql://",
        "postgresql://u:p@h:port/db",
        "postgresql://u:12/34@h/db",
        "postgresql://u:12?34@h/db",
        "postgresql://u:12#34@h/db",
        "postgresql://u:p@ss@h/db",
        "postgresql://u:p w@h/db",
        "postgresql://u:p@h:99999/db",
        "postgresql://u:p@[h/db",
    ],
    "QUAYMASTER_DB_HOST": ["a b", "-a", "a/b", "a@b", "fe80::1%eth0", "1:2:3", "[h]", "a..b"],
    "QUAYMASTER_DB_PORT": ["0", "65536", "five", "1.5", "9" * 5000],
    "QUAYMASTER_DB_NAME": ["x" * 64],
    "QUAYMASTER_DB_USER": ["x" * 64],
    "QUAYMASTER_DB_POOL_MAX": ["0", "-1", "many"],
    "QUAYMASTER_DB_POOL_IDLE": ["0", "nan", "inf", "-3", "5s"],
    "QUAYMASTER_DB_CONNECT_TIMEOUT": ["0", "nan", "4000"],
    "QUAYMASTER_REDIS_URL": ["http://h", "redis://", "redis://:a/b@h", "redis://h:x"],
    "QUAYMASTER_API_KEY": ["two words", "schlüssel"],
    "QUAYMASTER_SECRET_KEY": ["short", "x" * 42, "g" * 64, "0" * 63],
    "QUAYMASTER_KEY_PREFIX": ["a_b", "Q M", "1a", "toolong99"],
    "QUAYMASTER_RATE_LIMIT": ["0", "-5", "fast"],
    "QUAYMASTER_PUBLIC_URL": ["ftp://h", "//h", "https://u:p@h", "https://h?q=1", "https://h:x", "h"],
    "QUAYMASTER_ALLOWED_HOSTS": ["*", "a b", "h:0", "h:99999", "h:x", "a:b:c", "http://h"],
    "QUAYMASTER_TRUSTED_PROXIES": ["*", "proxy", "10.0.0.1/8", "10.0.0.0/33"],
    "QUAYMASTER_PROJECT_ROOTS": ["relative", "/a,b", "~x"],
    "QUAYMASTER_PROGRAM_ROOTS": ["relative", "/a,b", "~x"],
    "QUAYMASTER_TOOLSETS": ["A B", ",", "../x"],
    "QUAYMASTER_POSTGRES_IMAGE": ["-v", "a b", "a;b", "x" * 256],
    "QUAYMASTER_POSTGRES_VECTOR_IMAGE": ["$(x)"],
    "QUAYMASTER_DATABASE_STARTS": ["0", "1001"],
    "QUAYMASTER_WARM_POOL": ["-1", "101"],
    "QUAYMASTER_DATABASE_ISOLATION": ["own", "containers"],
    "QUAYMASTER_DATABASE_PORTS": ["5432", "5500-5432", "0-10", "5432-65536"],
    "QUAYMASTER_PORTS_PRODUCTION": ["4100", "4499-4100", "0-10", "4100-65536"],
    "QUAYMASTER_PORTS_STAGING": ["4500", "4999-4500", "0-10", "4500-65536"],
    "QUAYMASTER_PORTS_PREVIEW": ["5000", "5499-5000", "0-10", "5000-65536"],
    "QUAYMASTER_DRAIN_SECONDS": ["-1", "soon"],
    "QUAYMASTER_DATABASE_CONTAINER": ["db", "{project}", "a b-{project}", "-{project}"],
    "QUAYMASTER_DATABASE_VOLUME": ["data", "{project}/x", "a;-{project}"],
    "QUAYMASTER_DATABASE_MEMORY": ["63", "1.5", "lots"],
    "QUAYMASTER_DATABASE_CPUS": ["0", "nan", "1025"],
    "QUAYMASTER_DATABASE_PIDS": ["0", "x"],
    "QUAYMASTER_BACKUP_HOURS": ["-1", "8761"],
    "QUAYMASTER_BACKUP_KEEP": ["0", "x"],
    "QUAYMASTER_BACKUP_DAYS": ["0", "36501"],
    "QUAYMASTER_BRANCH_MEGABYTES": ["0", "1000001"],
    "QUAYMASTER_EDGE": ["apache"],
    "QUAYMASTER_EDGE_MODE": ["vm"],
    "QUAYMASTER_EDGE_IMAGE": ["a\\b"],
    "QUAYMASTER_EDGE_HTTP_PORT": ["http"],
    "QUAYMASTER_EDGE_HTTPS_PORT": ["70000"],
    "QUAYMASTER_EDGE_TLS": ["yes"],
    "QUAYMASTER_EDGE_DIR": ["~nobody-else/edge"],
    "QUAYMASTER_EDGE_EMAIL": [
        "ops",
        "ops@",
        "a b@quay.test",
        "{env.HOME}@quay.test",
        "ops@a_b.c",
        "o@p@quay.test",
    ],
    "QUAYMASTER_EDGE_ACME_URL": [
        "acme.test/dir",
        "ftp://acme.test",
        "https://u:p@acme.test",
        "https://a/{env.X}",
    ],
    "QUAYMASTER_EDGE_ACME_ROOT": ["~nobody-else/root.pem"],
    "QUAYMASTER_BASE_DOMAIN": ["10.0.0.1", "::1", "a_b.c", "a b", "http://h", "x" * 254],
    "QUAYMASTER_EDGE_ADDRESS": ["a b", "edge.example.org,192.0.2.1", "192.0.2.999", "a_b.c", "http://h"],
    "QUAYMASTER_DNS_SERVERS": ["dns.example.org", "192.0.2.1:0", "192.0.2.1:70000", "[::1]:x"],
    "QUAYMASTER_CLOUDFLARE_ZONES": ["a b", "192.0.2.1", "*.example.org"],
    "QUAYMASTER_CLOUDFLARE_TOKEN": ["two words", "schlüssel"],
    "QUAYMASTER_CLOUDFLARE_URL": ["ftp://h", "https://u:p@h"],
    "QUAYMASTER_WEBHOOK_NETWORKS": ["*", "proxy", "10.0.0.1/8"],
    "DOCKER_HOST": ["/var/run/docker.sock", "tcp://", "unix://", "ftp://h", "tcp://u:p@h:1", "tcp://h:x"],
    "QUAYMASTER_AUDIT_RETENTION_DAYS": ["0", "1.5", "ever"],
    "QUAYMASTER_LOG_LEVEL": ["loud"],
    "QUAYMASTER_LOG_FORMAT": ["xml"],
    "QUAYMASTER_QUOTA_PROJECTS": ["0", "none"],
}
NEVER_WRONG = {"QUAYMASTER_DB_PASSWORD"}


def test_the_table_of_wrong_values_covers_every_variable() -> None:
    quotas = {name for name in VARIABLES if name.startswith("QUAYMASTER_QUOTA_")}
    assert set(WRONG) | NEVER_WRONG | quotas == set(VARIABLES)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_one_line_with_the_name_and_the_rule(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({"QUAYMASTER_DB_HOST": "db", name: value} if "_DB_" in name else {name: value}, tmp_path)
    assert str(caught.value) == f"{name}: must be {VARIABLES[name].rule}"


def test_all_problems_are_reported_at_once_in_the_order_of_the_schema(tmp_path: Path) -> None:
    exclusive = {"QUAYMASTER_DATABASE_URL"}  # the parts beside it would be problems of another kind
    environ = {name: values[-1] for name, values in WRONG.items() if name not in exclusive}
    assert problems_of(environ, tmp_path) == [name for name in VARIABLES if name in environ]


def test_a_missing_value_and_a_wrong_one_are_reported_together(tmp_path: Path) -> None:
    environ = {"QUAYMASTER_ENV": "production", "QUAYMASTER_DB_HOST": "db", "QUAYMASTER_LOG_LEVEL": "loud"}
    assert problems_of(environ, tmp_path) == ["QUAYMASTER_DB_PASSWORD", "QUAYMASTER_LOG_LEVEL"]


@pytest.mark.parametrize("name", ACCEPTED_NAMES)
@pytest.mark.parametrize("value", ["a\x00b", "a\nb", "a\x7f", "a\udcff"])
def test_control_characters_and_broken_text_are_refused_everywhere(
    tmp_path: Path, name: str, value: str
) -> None:
    assert problems_of({name: value}, tmp_path) != []


def test_production_without_postgresql_is_refused(tmp_path: Path) -> None:
    assert problems_of({"QUAYMASTER_ENV": "production"}, tmp_path) == ["QUAYMASTER_DATABASE_URL"]


def test_production_over_a_socket_directory_needs_no_password(tmp_path: Path) -> None:
    settings = load({"QUAYMASTER_ENV": "production", "QUAYMASTER_DB_HOST": "/run/postgresql"}, tmp_path)
    assert secret_url(settings) == "postgresql://quaymaster@/quaymaster?host=%2Frun%2Fpostgresql&port=5432"


def test_production_without_redis_starts_with_a_warning(tmp_path: Path) -> None:
    settings = load(
        {"QUAYMASTER_ENV": "production", "QUAYMASTER_DATABASE_URL": "postgresql://h/db"}, tmp_path
    )
    assert [warning.split(":")[0] for warning in settings.warnings] == ["QUAYMASTER_REDIS_URL"]


@pytest.mark.parametrize(
    ("edge", "base", "warned"),
    [("nginx", "quay.test", True), ("nginx", "localhost", False), ("caddy", "quay.test", False)],
)
def test_nginx_with_certificates_that_nobody_fetches_is_warned_about(
    tmp_path: Path, edge: str, base: str, warned: bool
) -> None:
    settings = load({"QUAYMASTER_EDGE": edge, "QUAYMASTER_BASE_DOMAIN": base}, tmp_path)
    assert [warning.split(":")[0] for warning in settings.warnings] == ["QUAYMASTER_EDGE_TLS"] * warned


def test_an_unknown_variable_is_a_warning_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("QUAYMASTER_ZZZZZZ=1\n")
    settings = load({"QUAYMASTER_DATABSE_URL": CANARY}, tmp_path)
    assert settings.warnings == (
        "QUAYMASTER_DATABSE_URL: no such setting (environment); did you mean QUAYMASTER_DATABASE_URL?",
        "QUAYMASTER_ZZZZZZ: no such setting (.env)",
    )


def test_tests_on_the_store_of_a_shared_file_are_warned_about(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("QUAYMASTER_DATABASE_URL=postgresql://h/db\n")
    settings = load({"QUAYMASTER_ENV": "test"}, tmp_path)
    assert [warning.split(":")[0] for warning in settings.warnings] == ["QUAYMASTER_DATABASE_URL"]


# PostgreSQL and Redis in two forms


@pytest.mark.parametrize("prefix", ["QUAYMASTER_DB_", "CODEB_DB_"])
def test_a_database_named_in_parts_becomes_one_url(tmp_path: Path, prefix: str) -> None:
    parts = {"HOST": "db.example", "PORT": "5433", "NAME": "main", "USER": "app", "PASSWORD": "pw"}
    settings = load({prefix + part: value for part, value in parts.items()}, tmp_path)
    assert secret_url(settings) == "postgresql://app:pw@db.example:5433/main"


@given(
    password=st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1).filter(str.strip)
)
def test_any_password_name_and_user_survive_the_way_into_the_url(password: str) -> None:
    short = password.strip()[:63].strip()
    environ = {
        "QUAYMASTER_DB_HOST": "::1",
        "QUAYMASTER_DB_PASSWORD": password,
        "QUAYMASTER_DB_NAME": short,
        "QUAYMASTER_DB_USER": short,
    }
    parts = urlsplit(secret_url(load(environ, Path("/nonexistent"))))
    assert (parts.hostname, parts.port) == ("::1", 5432)
    assert unquote(parts.password or "") == password
    assert (unquote(parts.path[1:]), unquote(parts.username or "")) == (short, short)


def test_the_canonical_name_wins_over_its_alias(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("QUAYMASTER_DB_HOST=ours\n")
    settings = load({"CODEB_DB_HOST": "theirs", "CODEB_DB_USER": "app"}, tmp_path)
    assert (settings.db_host, settings.db_user) == ("ours", "app")
    assert settings.sources["QUAYMASTER_DB_USER"] == "environment (CODEB_DB_USER)"


def test_a_url_wins_over_the_aliases_of_its_parts(tmp_path: Path) -> None:
    settings = load({"QUAYMASTER_DATABASE_URL": "postgresql://h/db", "CODEB_DB_HOST": "theirs"}, tmp_path)
    assert (secret_url(settings), settings.db_host) == ("postgresql://h/db", None)


def test_a_url_beside_our_own_parts_is_refused(tmp_path: Path) -> None:
    environ = {
        "QUAYMASTER_DATABASE_URL": "postgresql://h/db",
        "QUAYMASTER_DB_HOST": "h",
        "QUAYMASTER_DB_PASSWORD": "pw",
    }
    assert problems_of(environ, tmp_path) == ["QUAYMASTER_DB_HOST", "QUAYMASTER_DB_PASSWORD"]


def test_values_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    ports = {"QUAYMASTER_EDGE_HTTP_PORT": "8443", "QUAYMASTER_EDGE_HTTPS_PORT": "8443"}
    assert problems_of({**ports, "QUAYMASTER_EDGE_TLS": "internal"}, tmp_path) == [
        "QUAYMASTER_EDGE_HTTPS_PORT"
    ]
    assert load({**ports, "QUAYMASTER_EDGE_TLS": "off"}, tmp_path).edge_https_port == 8443
    zones = {"QUAYMASTER_CLOUDFLARE_ZONES": "example.org"}
    assert problems_of(zones, tmp_path) == ["QUAYMASTER_CLOUDFLARE_TOKEN"]


def test_parts_without_a_host_are_refused_rather_than_forgotten(tmp_path: Path) -> None:
    assert problems_of({"CODEB_DB_PASSWORD": "pw", "CODEB_DB_NAME": "x"}, tmp_path) == ["QUAYMASTER_DB_HOST"]


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"REDIS_HOST": "cache"}, "redis://cache:6379/0"),
        ({"REDIS_HOST": "::1", "REDIS_PORT": "6380"}, "redis://[::1]:6380/0"),
        ({"REDIS_HOST": "cache", "QUAYMASTER_REDIS_URL": "rediss://:pw@h/1"}, "rediss://:pw@h/1"),
        ({"REDIS_PORT": "tcp://10.0.0.1:6379"}, None),
    ],
)
def test_redis_is_named_by_url_or_by_its_aliases(
    tmp_path: Path, environ: dict[str, str], url: str | None
) -> None:
    redis = load(environ, tmp_path).redis_url
    assert (redis.get_secret_value() if redis else None) == url


def test_wrong_aliases_of_redis_are_reported_by_the_names_that_were_set(tmp_path: Path) -> None:
    environ = {"REDIS_HOST": "a b", "REDIS_PORT": "tcp://10.0.0.1:6379", "QUAYMASTER_EDGE": "x"}
    assert problems_of(environ, tmp_path) == ["QUAYMASTER_EDGE", "REDIS_HOST", "REDIS_PORT"]


# Paths, lists, dependent defaults


def test_the_home_is_resolved_from_the_working_directory_or_the_user_and_not_created(tmp_path: Path) -> None:
    assert load({"QUAYMASTER_HOME": "state/../own"}, tmp_path).home == tmp_path / "own"
    assert load({"QUAYMASTER_HOME": "~/own", "HOME": str(tmp_path)}, tmp_path).home == tmp_path / "own"
    assert list(tmp_path.iterdir()) == []


def test_the_default_home_of_a_checkout_is_its_registry_state() -> None:
    assert default_home() == ROOT / "registry" / "state"


def test_each_test_environment_has_a_home_of_its_own_that_does_not_exist_yet(tmp_path: Path) -> None:
    homes = {load({"QUAYMASTER_ENV": "test"}, tmp_path).home for _ in range(3)}
    assert len(homes) == 3
    assert not any(home.exists() for home in homes)


def test_an_installed_package_keeps_its_state_in_the_users_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mcp_server.config.loading.__file__",
        str(tmp_path / "site-packages" / "mcp_server" / "config" / "loading.py"),
    )
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert default_home().name == "quaymaster"
    assert not default_home().is_relative_to(ROOT)


def test_lists_are_separated_by_commas(tmp_path: Path) -> None:
    settings = load(
        {
            "QUAYMASTER_ALLOWED_HOSTS": "Qm.example, qm.example:*,[::1]:8787",
            "QUAYMASTER_TRUSTED_PROXIES": "10.0.0.0/8,::1",
            "QUAYMASTER_PROJECT_ROOTS": "/srv/../src, ~/code",
            "HOME": "/home/me",
        },
        tmp_path,
    )
    assert settings.allowed_hosts == ("qm.example", "qm.example:*", "[::1]:8787")
    assert settings.trusted_proxies == ("10.0.0.0/8", "::1/128")
    assert settings.project_roots == ("/src", "/home/me/code")


@pytest.mark.parametrize(
    ("environ", "tls"),
    [
        ({}, "off"),
        ({"QUAYMASTER_BASE_DOMAIN": "apps.localhost"}, "off"),
        ({"QUAYMASTER_BASE_DOMAIN": "Example.com"}, "acme"),
        ({"QUAYMASTER_BASE_DOMAIN": "example.com", "QUAYMASTER_EDGE_TLS": "INTERNAL"}, "internal"),
    ],
)
def test_certificates_follow_the_base_domain_unless_set(
    tmp_path: Path, environ: dict[str, str], tls: str
) -> None:
    assert load(environ, tmp_path).edge_tls == tls


def test_the_encryption_key_is_read_from_hexadecimal_and_from_base64(tmp_path: Path) -> None:
    key = bytes(range(224, 256))
    for text in (
        key.hex(),
        base64.b64encode(key).decode(),
        base64.urlsafe_b64encode(key).decode().rstrip("="),
    ):
        assert load({"QUAYMASTER_SECRET_KEY": text}, tmp_path).encryption_key() == key
    assert load({}, tmp_path).encryption_key() is None
    with pytest.raises(ValueError, match="refused"):
        decode_key("é" * 43)


# Secrets

SECRETS = {
    "QUAYMASTER_DATABASE_URL": f"postgresql://{CANARY}:{CANARY}@h:5432/db?password={CANARY}",
    "QUAYMASTER_REDIS_URL": f"redis://:{CANARY}@h/0",
    "QUAYMASTER_API_KEY": f"qm_{CANARY}",
    "QUAYMASTER_CLOUDFLARE_TOKEN": CANARY,
    "QUAYMASTER_SECRET_KEY": (CANARY + "A" * 43)[:43],
}
IN_PARTS = {"QUAYMASTER_DB_HOST": "h", "QUAYMASTER_DB_PASSWORD": CANARY}


@pytest.mark.parametrize("secrets", [SECRETS, IN_PARTS])
def test_a_planted_secret_shows_in_no_form_of_the_settings(tmp_path: Path, secrets: dict[str, str]) -> None:
    settings = load(secrets, tmp_path)
    forms = [repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())]
    forms += [repr(effective(settings)), repr(settings.sources), repr(settings.warnings)]
    assert [form for form in forms if CANARY in form] == []


def test_the_table_of_secrets_covers_every_secret_variable() -> None:
    assert {name for name, variable in VARIABLES.items() if variable.secret} == set(SECRETS) | {
        "QUAYMASTER_DB_PASSWORD"
    }


@pytest.mark.parametrize("name", ACCEPTED_NAMES)
@pytest.mark.parametrize(
    "form", ["{}\x01", "postgresql://u:{}/x@h/db", "{} {}", "postgresql://u:p@h:{}/db", "http://{}@h"]
)
def test_a_secret_pasted_into_any_variable_shows_in_no_error(tmp_path: Path, name: str, form: str) -> None:
    environ = {
        "QUAYMASTER_LOG_LEVEL": "loud",
        "QUAYMASTER_LOG_FORMAT": "xml",
        name: form.format(CANARY, CANARY),
    }
    error = outcome(environ, tmp_path)
    assert isinstance(error, SettingsError)
    assert CANARY not in str(error)
    assert CANARY not in repr(error)
    assert error.__context__ is None, "a traceback would print the validator's error with the value"


def test_settings_made_by_hand_do_not_show_a_refused_secret() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"home": "/h", "database_url": f"mysql://{CANARY}@h/db"})
    assert CANARY not in str(caught.value)


def test_effective_settings_show_where_a_url_leads_and_where_each_value_came_from(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("QUAYMASTER_RATE_LIMIT=9\n")
    rows = {row.name: row for row in effective(load(SECRETS, tmp_path))}
    assert list(rows) == list(VARIABLES)
    assert rows["QUAYMASTER_DATABASE_URL"].value == "postgresql://********@h:5432/db"
    assert rows["QUAYMASTER_API_KEY"][1:3] == ("********", "environment")
    assert rows["QUAYMASTER_RATE_LIMIT"][1:3] == ("9", ".env")
    assert rows["QUAYMASTER_TOOLSETS"][1:3] == ("default", "default")
    assert rows["QUAYMASTER_DB_PASSWORD"][1:3] == ("", "default")


# Any input

ANY_TEXT = st.text(max_size=40) | st.text(st.characters(), max_size=10)
LIKELY = st.sampled_from([value for values in WRONG.values() for value in values] + list(SECRETS.values()))


@given(
    st.dictionaries(
        st.sampled_from([*ACCEPTED_NAMES, "REDIS_HOST", "REDIS_PORT"]), ANY_TEXT | LIKELY, max_size=8
    )
)
def test_any_text_in_any_variable_gives_settings_or_a_settings_error(environ: dict[str, str]) -> None:
    result = outcome(environ, Path("/nonexistent"))
    assert result.problems if isinstance(result, SettingsError) else len(effective(result)) == len(VARIABLES)


@given(
    st.binary(max_size=200)
    | st.text(max_size=100).map(lambda text: f"QUAYMASTER_{text}".encode("utf-8", "replace"))
)
def test_any_dotenv_file_gives_settings_or_a_settings_error(tmp_path_factory, content: bytes) -> None:
    directory = tmp_path_factory.mktemp("dotenv")
    (directory / ".env").write_bytes(content)
    result = outcome({}, directory)
    assert result.problems if isinstance(result, SettingsError) else len(effective(result)) == len(VARIABLES)


# What is written from the schema


def test_the_documentation_of_the_settings_is_current() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == render_markdown(), (
        "run: make generate"
    )


def test_the_example_file_is_current_and_sets_nothing(tmp_path: Path) -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert text == render_example(), "run: make generate"
    (tmp_path / ".env").write_text(text)
    assert load({}, tmp_path).sources == {}


def test_the_example_file_is_valid_when_every_line_is_uncommented(tmp_path: Path) -> None:
    lines = [line.removeprefix("#") for line in render_example().splitlines() if not line.startswith("# ")]
    (tmp_path / ".env").write_text("\n".join(lines) + "\n")
    settings = load({"QUAYMASTER_DB_HOST": "db"}, tmp_path)
    assert len(settings.sources) > 20
    plain = load({"QUAYMASTER_DB_HOST": "db"}, tmp_path / "none")
    assert settings == plain.model_copy(update={"sources": settings.sources})


def test_importing_the_settings_loads_no_driver_and_no_dotenv() -> None:
    code = "import sys, mcp_server.config; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    heavy = {"dotenv", "platformdirs", "asyncpg", "mcp", "pydantic_settings", "anyio", "tomllib", "difflib"}
    assert heavy & set(run.stdout.split()) == set()
