"""From the environment and the dotenv files to `Settings`, or to all problems at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from pydantic import SecretStr, ValidationError

from mcp_server.config.kinds import Host, Port
from mcp_server.config.problems import Problem, SettingsError
from mcp_server.config.schema import Settings, aliases_of, describe, name_of, rule_in_words

ENVIRONMENTS = ("development", "test", "production")


class _Given(NamedTuple):
    text: str
    source: str


def load(environ: Mapping[str, str], cwd: Path, *, overrides: Mapping[str, str] | None = None) -> Settings:
    """The settings out of `overrides`, then `environ`, then `.env.local`, `.env.{env}` and `.env` in `cwd`.

    The first that names a variable wins; an empty value counts as unset; of a variable and its alias the
    variable wins. Nothing is created, no connection is made. Raises SettingsError with every problem found.
    """
    problems: list[Problem] = []
    layers = [("command line", dict(overrides or {})), ("environment", dict(environ))]
    given, env = _read_layers(layers, cwd, problems)
    chosen = _choose_names(given)
    _settle_both_forms(chosen, given, problems)
    _require_for_production(chosen, env, problems)
    values: dict[str, Any] = {field: value.text for field, value in chosen.items()}
    values.setdefault("home", default_home(env))
    settings = _validate(values, {"HOME": environ.get("HOME", ""), "cwd": str(cwd)}, problems)
    if settings is None:
        raise SettingsError(_in_order(problems))
    return _complete(settings, chosen, given)


def _read_layers(
    layers: list[tuple[str, dict[str, str]]], cwd: Path, problems: list[Problem]
) -> tuple[dict[str, _Given], str]:
    """Every variable with its winning value, and the environment that decided which files are read."""
    shared = _read_file(cwd / ".env", problems)
    local = _read_file(cwd / ".env.local", problems)
    around = [*layers, (".env.local", local), (".env", shared)]
    named = (text for _, layer in around if (text := layer.get("QUAYMASTER_ENV", "").strip().lower()))
    env = next(named, ENVIRONMENTS[0])
    if env not in ENVIRONMENTS:
        env = ENVIRONMENTS[0]  # the bad value itself is reported with the others
    own_name = f".env.{env}"
    own = _read_file(cwd / own_name, problems)
    if own.get("QUAYMASTER_ENV", "").strip().lower() not in ("", env):
        problems.append(Problem("QUAYMASTER_ENV", f"{own_name} must not name another environment"))
    own.pop("QUAYMASTER_ENV", None)
    given: dict[str, _Given] = {}
    for source, layer in [*layers, (".env.local", local), (own_name, own), (".env", shared)]:
        for name, text in layer.items():
            if text.strip():
                given.setdefault(name, _Given(text, source))
    return given, env


def _read_file(path: Path, problems: list[Problem]) -> dict[str, str]:
    """A dotenv file's variables, taken literally (no `${...}`); nothing when there is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeError) as error:
        problems.append(Problem(path.name, f"cannot be read ({type(error).__name__})"))
        return {}
    import io

    from dotenv.parser import parse_stream

    values: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            problems.append(Problem(path.name, f"line {binding.original.line} is not NAME=value"))
        elif binding.key is not None:
            values[binding.key] = binding.value or ""
    return values


def _choose_names(given: Mapping[str, _Given]) -> dict[str, _Given]:
    """By field: what the variable says, else the first of its aliases that is set."""
    chosen = {}
    for field, info in Settings.model_fields.items():
        if info.description:
            name = next((name for name in (name_of(field), *aliases_of(field)) if name in given), None)
            if name is not None:
                text, source = given[name]
                chosen[field] = _Given(text, source if name == name_of(field) else f"{source} ({name})")
    return chosen


_DB_PARTS = ("db_host", "db_port", "db_name", "db_user", "db_password")


def _settle_both_forms(
    chosen: dict[str, _Given], given: Mapping[str, _Given], problems: list[Problem]
) -> None:
    """One form is kept: a URL beats aliases of its parts; beside our own parts it is a problem."""
    parts = [part for part in _DB_PARTS if part in chosen]
    if "database_url" in chosen:
        for part in parts:
            if name_of(part) in given:
                problems.append(Problem(name_of(part), "must not be set beside QUAYMASTER_DATABASE_URL"))
            chosen.pop(part)
    elif parts and "db_host" not in chosen:
        named = ", ".join(name_of(part) for part in parts)
        problems.append(Problem("QUAYMASTER_DB_HOST", f"is required beside {named}"))
    if "redis_url" not in chosen and "REDIS_HOST" in given:
        url = _redis_from_parts(given, problems)
        if url is not None:
            chosen["redis_url"] = _Given(url, f"{given['REDIS_HOST'].source} (REDIS_HOST)")


def _redis_from_parts(given: Mapping[str, _Given], problems: list[Problem]) -> str | None:
    """REDIS_PORT counts only beside REDIS_HOST: Kubernetes sets it to something else."""
    from pydantic import TypeAdapter

    port = given.get("REDIS_PORT", _Given("6379", ""))
    parts = {"REDIS_HOST": (Host, given["REDIS_HOST"].text), "REDIS_PORT": (Port, port.text)}
    values: dict[str, Any] = {}
    for name, (kind, text) in parts.items():
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        try:
            values[name] = adapter.validate_python(text)
        except ValueError:
            problems.append(Problem(name, f"must be {rule_in_words(adapter.json_schema())}"))
    if len(values) < len(parts):
        return None
    return f"redis://{_bracketed(values['REDIS_HOST'])}:{values['REDIS_PORT']}/0"


def _require_for_production(chosen: Mapping[str, _Given], env: str, problems: list[Problem]) -> None:
    if env != "production":
        return
    parts = [part for part in _DB_PARTS if part in chosen]
    if "database_url" not in chosen and not parts:
        problems.append(
            Problem("QUAYMASTER_DATABASE_URL", "is required in production, or QUAYMASTER_DB_HOST")
        )
    over_socket = "db_host" in chosen and chosen["db_host"].text.strip().startswith("/")
    if parts and "db_password" not in chosen and not over_socket:
        problems.append(Problem("QUAYMASTER_DB_PASSWORD", "is required in production, except over a socket"))


def _validate(values: dict[str, Any], context: dict[str, str], problems: list[Problem]) -> Settings | None:
    """None when anything, here or before, is a problem."""
    garbled = {field for field, value in values.items() if isinstance(value, str) and not _printable(value)}
    problems.extend(
        Problem(name_of(field), "must not contain control characters") for field in sorted(garbled)
    )
    sound = {field: value for field, value in values.items() if field not in garbled}
    try:
        settings = Settings.model_validate(sound, context=context)
    except ValidationError as error:
        found = error.errors(include_input=False, include_context=False, include_url=False)
        # A default that looks at another field is not made while that one is wrong: no problem of its own.
        wrong = {str(each["loc"][0]) for each in found if each["type"] != "default_factory_not_called"}
        problems.extend(
            Problem(each.name, f"must be {each.rule}") for each in describe() if each.field in wrong
        )
        return None
    problems.extend(_disagreements(settings))
    return None if problems else settings


def _disagreements(settings: Settings) -> Iterator[Problem]:
    """Values that are right each by itself."""
    if settings.edge_tls != "off" and settings.edge_http_port == settings.edge_https_port:
        yield Problem("QUAYMASTER_EDGE_HTTPS_PORT", "must be another port than QUAYMASTER_EDGE_HTTP_PORT")
    if settings.cloudflare_zones and settings.cloudflare_token is None:
        yield Problem("QUAYMASTER_CLOUDFLARE_TOKEN", "is required beside QUAYMASTER_CLOUDFLARE_ZONES")


def _printable(text: str) -> bool:
    """No control characters, and nothing that UTF-8 cannot carry."""
    return not re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text)


def _in_order(problems: Iterable[Problem]) -> list[Problem]:
    """One line for each, in the schema's order; files and aliases after the variables."""
    rank = {variable.name: number for number, variable in enumerate(describe())}
    return sorted(dict.fromkeys(problems), key=lambda problem: rank.get(problem.name, len(rank)))


def _complete(settings: Settings, chosen: Mapping[str, _Given], given: Mapping[str, _Given]) -> Settings:
    """With the URL made from the parts, the sources by variable, and the warnings."""
    sources = {name_of(field): value.source for field, value in chosen.items()}
    update: dict[str, Any] = {"sources": sources}
    if settings.db_host is not None:
        update["database_url"] = _database_from_parts(settings, settings.db_host)
        sources["QUAYMASTER_DATABASE_URL"] = "QUAYMASTER_DB_*"
    update["warnings"] = (*_unknown(given), *_doubts(settings.model_copy(update=update)))
    return settings.model_copy(update=update)


def _database_from_parts(settings: Settings, host: str) -> SecretStr:
    """`postgresql://user:password@host:port/name`; a socket directory goes into the query."""
    password = settings.db_password.get_secret_value() if settings.db_password else None
    user = quote(settings.db_user, safe="") + (f":{quote(password, safe='')}" if password is not None else "")
    name = quote(settings.db_name, safe="")
    if host.startswith("/"):
        return SecretStr(f"postgresql://{user}@/{name}?host={quote(host, safe='')}&port={settings.db_port}")
    return SecretStr(f"postgresql://{user}@{_bracketed(host)}:{settings.db_port}/{name}")


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


COMMITTER = ("QUAYMASTER_TASK", "QUAYMASTER_AGENT")
"""No settings: they say whose commit it is, to `locks check` in a hook."""


def _unknown(given: Mapping[str, _Given]) -> list[str]:
    """QUAYMASTER_ variables that do not exist, with the name that was probably meant. They stop nothing."""
    known = [name_of(field) for field, info in Settings.model_fields.items() if info.description]
    meant = {*known, *COMMITTER}
    strange = sorted(name for name in given if name.startswith("QUAYMASTER_") and name not in meant)
    if not strange:
        return []
    from difflib import get_close_matches

    warnings = []
    for name in strange:
        near = get_close_matches(name, known, n=1, cutoff=0.8)
        hint = f"; did you mean {near[0]}?" if near else ""
        warnings.append(f"{ascii(name)[1:-1]}: no such setting ({given[name].source}){hint}")
    return warnings


def _doubts(settings: Settings) -> list[str]:
    """What is allowed and yet probably not meant."""
    doubts = []
    if settings.env == "production" and settings.redis_url is None:
        doubts.append(
            "QUAYMASTER_REDIS_URL: not set in production; each process keeps its own cache and rate limits"
        )
    if settings.edge == "nginx" and settings.edge_tls != "off":
        doubts.append(
            "QUAYMASTER_EDGE_TLS: nginx fetches no certificates; only hosts whose files you bring are served over TLS"
        )
    if settings.env == "test":
        doubts.extend(
            f"{name}: taken from {settings.sources[name]}, so the tests do not run on a throw-away store"
            for name in ("QUAYMASTER_HOME", "QUAYMASTER_DATABASE_URL", "QUAYMASTER_DB_HOST")
            if settings.sources.get(name) in (".env", ".env.local")
        )
    return doubts


def default_home(env: str = "development") -> Path:
    """The state directory when QUAYMASTER_HOME is unset. Creates nothing; in test each call gives another."""
    if env == "test":
        import secrets
        import tempfile

        return Path(tempfile.gettempdir()) / f"quaymaster-test-{secrets.token_hex(8)}"
    root = _checkout()
    if root is not None:
        return root / "registry" / "state"
    import platformdirs

    return Path(platformdirs.user_data_dir("quaymaster", appauthor=False))


def _checkout() -> Path | None:
    """The directory above this package, if it is Quaymaster's own source tree."""
    import tomllib

    root = Path(__file__).resolve().parents[2]
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError):
        return None
    return root if project.get("name") == "quaymaster" else None
