"""Every setting once: name, type, default, meaning.

`load` reads the environment and the dotenv files and gives `Settings`, or `SettingsError` with all problems
at once. `effective` is what `quaymaster config` shows. `.env.example` and `docs/settings.md` are written from
the same schema: `python -m mcp_server.config --write`.

No message of this module quotes a value: a password pasted into the wrong variable must not reach a log.
"""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NoReturn
from urllib.parse import quote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)

from mcp_server.domain.databases import parse_ports

REDACTED = "********"
ENVIRONMENTS = ("development", "test", "production")


class Problem(NamedTuple):
    """A variable (or dotenv file) and the rule it breaks; never the value."""

    name: str
    rule: str

    def __str__(self) -> str:
        return f"{self.name}: {self.rule}"


class SettingsError(Exception):
    """The settings cannot be used. `problems` holds all of them, in order of the variables; one line each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


# Types. The text under "rule" is what a person reads, in the documentation and when a value is refused.


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _strip(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _split(value: object) -> object:
    """`a, b` gives a and b; empty parts are dropped."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _refuse() -> NoReturn:
    raise ValueError("refused")


def _host(text: str) -> str:
    """A host name or an IP address, in lower case; an IPv6 address without brackets and zone."""
    name = text.lower()
    if ":" in name:
        return str(ipaddress.IPv6Address(name.removeprefix("[").removesuffix("]").replace("%", "refused")))
    label = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
    if len(name) > 253 or not re.fullmatch(rf"{label}(\.{label})*", name):
        _refuse()
    return name


def _port_range(text: str) -> str:
    parse_ports(text)
    return text


def _domain(text: str) -> str:
    """A DNS name: what `_host` takes, without addresses and underscores."""
    name = _host(text)
    if ":" in name or "_" in name or re.fullmatch(r"[0-9.]+", name):
        _refuse()
    return name


def _database_host(text: str) -> str:
    return text if text.startswith("/") else _host(text)


def _hosts_with_ports(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Each `host`, `host:port` or `host:*`, in lower case."""
    for text in texts:
        match = re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(\*|[0-9]{1,5}))?", text)
        if match is None or not 1 <= int((match[2] or "1").replace("*", "1")) <= 65535:
            _refuse()
        _host(match[1])
    return tuple(text.lower() for text in texts)


def _networks(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(ipaddress.ip_network(text)) for text in texts)


def _edge_places(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Addresses, or one DNS name alone: no other record may stand beside a CNAME."""
    places = tuple(_host(text) for text in texts)
    names = [place for place in places if ":" not in place and not re.fullmatch(r"[0-9.]+", place)]
    for place in places:
        if place in names:
            _domain(place)
        else:
            ipaddress.ip_address(place)
    if names and len(places) > 1:
        _refuse()
    return places


def _servers(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Each an address, or an address with a port."""
    for text in texts:
        bare = re.fullmatch(r"(?:\[([^\]]+)\]|([0-9.]+)):([0-9]{1,5})", text)
        if bare is not None and not 1 <= int(bare[3]) <= 65535:
            _refuse()
        ipaddress.ip_address(text if bare is None else bare[1] or bare[2])
    return texts


def _zone_names(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_domain(text) for text in texts)


def _words(texts: tuple[str, ...]) -> tuple[str, ...]:
    if not texts or not all(re.fullmatch(r"[a-z][a-z0-9_-]*", text) for text in texts):
        _refuse()
    return texts


def _path(text: str, info: ValidationInfo) -> str:
    """An absolute path; `~` and relative paths resolve by what `load` was given, not by the disk."""
    context: Mapping[str, str] = info.context or {}
    if text.startswith("~"):
        if text[1:2] not in ("", "/") or not context.get("HOME"):
            _refuse()
        text = context["HOME"] + text[1:]
    text = os.path.normpath(os.path.join(context.get("cwd", ""), text))
    if not os.path.isabs(text):
        _refuse()
    return text


def _absolute(value: object, info: ValidationInfo) -> object:
    return _path(value, info) if isinstance(value, str) else value


def _absolute_all(values: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    if not all(value.startswith(("/", "~")) for value in values):
        _refuse()
    return tuple(_path(value, info) for value in values)


def _public_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or "@" in parts.netloc or parts.query or parts.fragment:
        _refuse()
    _host(parts.hostname or "")
    _ = parts.port
    return text.rstrip("/")


def _docker_host(text: str) -> str:
    parts = urlsplit(text)
    local, remote = parts.scheme in ("unix", "npipe"), parts.scheme in ("tcp", "http", "https", "ssh")
    if not (local and parts.path) and not (remote and parts.hostname):
        _refuse()
    if parts.password is not None:
        _refuse()
    _ = parts.port
    return text


def _service_url(secret: SecretStr, schemes: tuple[str, ...]) -> SecretStr:
    """Refuses what would be read otherwise than it was meant: a password with a bare `@`, `/`, `?` or `#`."""
    text = secret.get_secret_value().strip()
    parts = urlsplit(text)
    if parts.scheme not in schemes or not (parts.netloc or parts.path.strip("/")) or re.search(r"\s", text):
        _refuse()
    if "#" in text or text.count("@") > 1 or "@" in parts.path + parts.query:
        _refuse()
    _ = parts.port
    return SecretStr(text)


def _database_url(secret: SecretStr) -> SecretStr:
    return _service_url(secret, ("postgresql", "postgres"))


def _redis_url(secret: SecretStr) -> SecretStr:
    return _service_url(secret, ("redis", "rediss", "unix"))


def _token(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip()
    if re.search(r"\s", text) or not text.isascii():
        _refuse()
    return SecretStr(text)


def _encryption_key(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip()
    decode_key(text)
    return SecretStr(text)


def decode_key(text: str) -> bytes:
    """The 32 bytes written as 64 hexadecimal digits or in base64 (either alphabet). Raises ValueError."""
    import base64

    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text)
    if not re.fullmatch(r"[A-Za-z0-9_+/-]{43}=?", text):
        _refuse()
    return base64.urlsafe_b64decode(text.replace("+", "-").replace("/", "_").rstrip("=") + "=")


Environment = Annotated[Literal["development", "test", "production"], BeforeValidator(_lower)]
Edge = Annotated[Literal["caddy", "nginx", "off"], BeforeValidator(_lower)]
EdgeMode = Annotated[Literal["container", "host"], BeforeValidator(_lower)]
EdgeTls = Annotated[Literal["acme", "staging", "internal", "off"], BeforeValidator(_lower)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]
LogFormat = Annotated[Literal["text", "json"], BeforeValidator(_lower)]
Count = Annotated[int, Field(ge=1, le=1_000_000), WithJsonSchema({"rule": "a whole number, 1 to 1000000"})]
PoolSize = Annotated[int, Field(ge=1, le=1000), WithJsonSchema({"rule": "a whole number, 1 to 1000"})]
PortRange = Annotated[
    str,
    BeforeValidator(_strip),
    AfterValidator(_port_range),
    WithJsonSchema({"rule": "two ports with '-' between them, the lower first"}),
]
EngineName = Annotated[
    str,
    BeforeValidator(_strip),
    Field(max_length=100, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*\{project\}[a-zA-Z0-9_.-]*$"),
    WithJsonSchema({"rule": "letters, digits, '_', '.' and '-', with {project} in it, not at the beginning"}),
]
Isolation = Annotated[Literal["container", "shared"], BeforeValidator(_lower)]
Megabytes = Annotated[
    int, Field(ge=64, le=1_048_576), WithJsonSchema({"rule": "whole megabytes, 64 to 1048576"})
]
Cpus = Annotated[
    float, Field(ge=0.1, le=1024, allow_inf_nan=False), WithJsonSchema({"rule": "cores, 0.1 to 1024"})
]
Standbys = Annotated[int, Field(ge=0, le=100), WithJsonSchema({"rule": "a whole number, 0 to 100"})]
Hours = Annotated[int, Field(ge=0, le=8760), WithJsonSchema({"rule": "whole hours, 0 to 8760"})]
Days = Annotated[int, Field(ge=1, le=36500), WithJsonSchema({"rule": "whole days, 1 to 36500"})]
Port = Annotated[int, Field(ge=1, le=65535), WithJsonSchema({"rule": "a port, 1 to 65535"})]
Seconds = Annotated[
    float,
    Field(gt=0, le=3600, allow_inf_nan=False),
    WithJsonSchema({"rule": "seconds, more than 0 and at most 3600"}),
]
Text = Annotated[
    str,
    BeforeValidator(_strip),
    Field(min_length=1, max_length=63),
    WithJsonSchema({"rule": "1 to 63 characters"}),
]
Image = Annotated[
    str,
    BeforeValidator(_strip),
    Field(max_length=255, pattern=r"^[a-zA-Z0-9][a-zA-Z0-9._:/@-]*$"),
    WithJsonSchema({"rule": "an image name such as registry/name:tag or name@digest"}),
]
KeyPrefix = Annotated[
    str,
    BeforeValidator(_strip),
    Field(pattern=r"^[a-z][a-z0-9]{0,7}$"),
    WithJsonSchema({"rule": "a lower-case letter and up to 7 lower-case letters or digits"}),
]
Domain = Annotated[
    str, BeforeValidator(_strip), AfterValidator(_domain), WithJsonSchema({"rule": "a domain name"})
]
Host = Annotated[
    str,
    BeforeValidator(_strip),
    AfterValidator(_host),
    WithJsonSchema({"rule": "a host name or an IP address"}),
]
DatabaseHost = Annotated[
    str,
    BeforeValidator(_strip),
    AfterValidator(_database_host),
    WithJsonSchema({"rule": "a host name, an IP address, or the absolute path of a socket directory"}),
]
PublicUrl = Annotated[
    str,
    BeforeValidator(_strip),
    AfterValidator(_public_url),
    WithJsonSchema({"rule": "an http or https URL without user, query and fragment"}),
]
DockerHost = Annotated[
    str,
    BeforeValidator(_strip),
    AfterValidator(_docker_host),
    WithJsonSchema({"rule": "a URL such as unix:///path or tcp://host:port, without a password"}),
]
HomePath = Annotated[Path, BeforeValidator(_absolute), WithJsonSchema({"rule": "a path"})]
Roots = Annotated[
    tuple[str, ...],
    BeforeValidator(_split),
    AfterValidator(_absolute_all),
    WithJsonSchema({"rule": "absolute paths, separated by commas"}),
]
HostList = Annotated[
    tuple[str, ...],
    BeforeValidator(_split),
    AfterValidator(_hosts_with_ports),
    WithJsonSchema({"rule": "host, host:port or host:*, separated by commas"}),
]
NetworkList = Annotated[
    tuple[str, ...],
    BeforeValidator(_split),
    AfterValidator(_networks),
    WithJsonSchema({"rule": "IP addresses or networks such as 10.0.0.0/8, separated by commas"}),
]
EdgePlaces = Annotated[
    tuple[str, ...],
    BeforeValidator(_split),
    AfterValidator(_edge_places),
    WithJsonSchema({"rule": "IP addresses separated by commas, or one domain name"}),
]
ServerList = Annotated[
    tuple[str, ...],
    BeforeValidator(_split),
    AfterValidator(_servers),
    WithJsonSchema({"rule": "IP addresses, each with or without :port, separated by commas"}),
]
DomainList = Annotated[
    tuple[str, ...],
    BeforeValidator(_split),
    AfterValidator(_zone_names),
    WithJsonSchema({"rule": "domain names, separated by commas"}),
]
WordList = Annotated[
    tuple[str, ...],
    BeforeValidator(_split),
    AfterValidator(_words),
    WithJsonSchema({"rule": "names in lower case, separated by commas"}),
]
ENCODED = "with @ / ? # and % in its password percent-encoded"
DatabaseUrl = Annotated[
    SecretStr,
    AfterValidator(_database_url),
    WithJsonSchema({"rule": f"postgresql://user:password@host:port/name, {ENCODED}"}),
]
RedisUrl = Annotated[
    SecretStr,
    AfterValidator(_redis_url),
    WithJsonSchema({"rule": f"redis://, rediss:// or unix:// and where, {ENCODED}"}),
]
Password = Annotated[SecretStr, WithJsonSchema({"rule": "a password"})]
Token = Annotated[SecretStr, AfterValidator(_token), WithJsonSchema({"rule": "an API key"})]
ProviderToken = Annotated[
    SecretStr, AfterValidator(_token), WithJsonSchema({"rule": "a token without spaces"})
]
EncryptionKey = Annotated[
    SecretStr,
    AfterValidator(_encryption_key),
    WithJsonSchema({"rule": "32 random bytes as 64 hexadecimal digits or in base64"}),
]


def _variable(
    default: Any, meaning: str, *, name: str = "", aliases: tuple[str, ...] = (), shown: str = ""
) -> Any:
    """A field that is a variable. `name` only where it is not QUAYMASTER_ and the field's name in capitals;
    `shown` describes a default that depends on other things."""
    extra: dict[str, Any] = {"name": name, "aliases": list(aliases), "shown": shown}
    return Field(default, description=meaning, json_schema_extra=extra)


def _tls_for(settings: dict[str, Any]) -> Literal["acme", "off"]:
    base = settings["base_domain"]
    return "off" if base == "localhost" or base.endswith(".localhost") else "acme"


class Settings(BaseModel):
    """The settings of one process. Times are seconds. Secrets print as redacted.

    `database_url` None: the JSON registry is the store. When PostgreSQL was named by QUAYMASTER_DB_*,
    `database_url` is made from them: read only `database_url`. `warnings` are sentences for the log and
    stop nothing. `sources` says by variable where its value came from; defaults are not in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    env: Environment = _variable(
        "development", "Which environment this is; it also chooses the file .env.{environment}."
    )
    home: HomePath = Field(
        description="State directory: registry, keys, SQLite files. Created with mode 0700.",
        json_schema_extra={
            "shown": "registry/state in a checkout, else in the user's data directory; in test a new one"
        },
    )

    database_url: DatabaseUrl | None = _variable(
        None,
        "PostgreSQL as one URL. Without it and without QUAYMASTER_DB_HOST the JSON registry is the store.",
        shown="made from QUAYMASTER_DB_* when QUAYMASTER_DB_HOST is set",
    )
    db_host: DatabaseHost | None = _variable(None, "PostgreSQL's host.", aliases=("CODEB_DB_HOST",))
    db_port: Port = _variable(5432, "PostgreSQL's port.", aliases=("CODEB_DB_PORT",))
    db_name: Text = _variable("quaymaster", "Name of the database.", aliases=("CODEB_DB_NAME",))
    db_user: Text = _variable("quaymaster", "Role to sign in as.", aliases=("CODEB_DB_USER",))
    db_password: Password | None = _variable(
        None,
        "Password of the role, taken as it is. Production needs one, except over a socket directory.",
        aliases=("CODEB_DB_PASSWORD",),
    )
    db_pool_max: PoolSize = _variable(20, "Most connections to PostgreSQL of one process.")
    db_pool_idle: Seconds = _variable(30.0, "Seconds after which an idle connection is closed.")
    db_connect_timeout: Seconds = _variable(5.0, "Seconds to wait for a connection to PostgreSQL.")

    redis_url: RedisUrl | None = _variable(
        None,
        "Redis for cache and rate limits. Without it each process keeps its own in memory.",
        shown="made from REDIS_HOST and REDIS_PORT when REDIS_HOST is set",
    )

    api_key: Token | None = _variable(
        None,
        "On stdio: the caller's key. Without one, on the JSON registry only, the local user is the owner.",
    )
    secret_key: EncryptionKey | None = _variable(
        None, "Key that encrypts stored secrets. The same on every server of one PostgreSQL."
    )
    key_prefix: KeyPrefix = _variable("qm", "First part of new API keys.")
    rate_limit: Count = _variable(600, "Requests a minute and key, where the key has no limit of its own.")

    public_url: PublicUrl | None = _variable(
        None, "The address that clients use, for a server behind a name."
    )
    allowed_hosts: HostList = _variable((), "Host headers answered besides loopback and the public URL's.")
    trusted_proxies: NetworkList = _variable((), "Proxies whose forwarding headers are believed.")
    project_roots: Roots = _variable((), "Where a project's path may lie. Over HTTP nowhere, unless set.")

    quota_projects: Count = _variable(200, "Most projects of a team.")
    quota_databases: Count = _variable(50, "Most databases of a team.")
    backup_hours: Hours = _variable(0, "Hours between scheduled backups of every running database; 0: none.")
    backup_keep: Count = _variable(7, "Backups of a database that stay, however old.")
    backup_days: Days = _variable(30, "Days for which further backups stay.")
    branch_megabytes: Count = _variable(2048, "Largest database, in MiB, that is copied as a branch.")
    quota_domains: Count = _variable(200, "Most domains of a team.")
    quota_members: Count = _variable(200, "Most members of a team.")
    quota_keys: Count = _variable(200, "Most API keys of a team that are not revoked.")
    quota_tasks: Count = _variable(5000, "Most open tasks of a team.")
    quota_locks: Count = _variable(10000, "Most file locks of a team that are held at one time.")

    toolsets: WordList = _variable(
        ("default",), "Toolsets that clients see when they do not choose; default and all are names too."
    )

    postgres_image: Image = _variable("postgres:16-alpine", "Image of project databases.")
    postgres_vector_image: Image = _variable("pgvector/pgvector:pg16", "The same with pgvector.")
    database_isolation: Isolation = _variable(
        "container", "A server for each project database, or one shared server with a database for each."
    )
    database_ports: PortRange = _variable("5432-5500", "Ports of 127.0.0.1 for project databases.")
    database_container: EngineName = _variable(
        "quaymaster-db-{project}", "Name of a project database's container."
    )
    database_volume: EngineName = _variable(
        "quaymaster-data-{project}", "Name of a project database's volume."
    )
    database_memory: Megabytes = _variable(512, "Most memory of a project database's server.")
    database_cpus: Cpus = _variable(1.0, "Most processor time of a project database's server.")
    database_pids: Count = _variable(200, "Most processes of a project database's server.")
    warm_pool: Standbys = _variable(2, "Standby databases, filled after the first PostgreSQL database.")

    ports_production: PortRange = _variable("4100-4499", "Ports of 127.0.0.1 for slots of production.")
    ports_staging: PortRange = _variable("4500-4999", "Ports of 127.0.0.1 for slots of staging.")
    ports_preview: PortRange = _variable("5000-5499", "Ports of 127.0.0.1 for slots of preview.")
    drain_seconds: Seconds = _variable(
        30.0, "Longest wait for open connections before a slot's container is removed."
    )

    edge: Edge = _variable("caddy", "Reverse proxy in front of the projects.")
    edge_mode: EdgeMode = _variable("container", "The proxy is a managed container, or the host's own.")
    edge_image: Image | None = _variable(None, "Image of the managed proxy.", shown="follows QUAYMASTER_EDGE")
    edge_http_port: Port = _variable(80, "Port of the proxy for HTTP.")
    edge_https_port: Port = _variable(443, "Port of the proxy for HTTPS.")
    base_domain: Domain = _variable(
        "localhost",
        "Projects answer at {project}.{base} in production, {project}-{environment}.{base} elsewhere.",
    )
    # Below base_domain: its default looks at it.
    edge_tls: EdgeTls = Field(
        default_factory=_tls_for,
        description="Certificates: by ACME, its staging service, an internal authority, or none.",
        json_schema_extra={"shown": "off for localhost, else acme"},
    )
    edge_address: EdgePlaces = _variable(
        (),
        "Where DNS must lead for a domain to be verified: the proxy's addresses, or one name that has them.",
    )
    dns_servers: ServerList = _variable(
        (), "DNS servers that are asked where a domain leads.", shown="the machine's own"
    )
    cloudflare_zones: DomainList = _variable(
        (), "Zones at Cloudflare in which subdomains may be made, with their DNS records."
    )
    cloudflare_token: ProviderToken | None = _variable(
        None, "Cloudflare's API token that may read the zones and edit their DNS."
    )
    cloudflare_url: PublicUrl = _variable(
        "https://api.cloudflare.com/client/v4", "Where Cloudflare's API is spoken."
    )
    webhook_networks: NetworkList = _variable(
        (), "Internal networks that a team's webhooks may lead to; public addresses always may."
    )
    docker_host: DockerHost | None = _variable(
        None, "The Docker engine.", name="DOCKER_HOST", shown="the engine's usual socket"
    )

    audit_retention_days: Days = _variable(90, "Days after which audit rows are removed.")
    log_level: LogLevel = _variable("info", "Least severe log lines that are written, to stderr.")
    log_format: LogFormat = _variable("text", "Form of log lines.")

    warnings: tuple[str, ...] = ()
    sources: Mapping[str, str] = Field(default_factory=dict, repr=False)

    def encryption_key(self) -> bytes | None:
        """The 32 bytes of QUAYMASTER_SECRET_KEY."""
        return decode_key(self.secret_key.get_secret_value()) if self.secret_key else None


class Variable(NamedTuple):
    """What is known of a variable without loading anything."""

    field: str
    name: str
    aliases: tuple[str, ...]
    rule: str
    default: str
    meaning: str
    secret: bool


def describe() -> list[Variable]:
    """All variables in the order of the schema."""
    schema = Settings.model_json_schema()["properties"]
    return [
        Variable(
            field=field,
            name=_name(field),
            aliases=_aliases(field),
            rule=_rule(schema[field]),
            default=_extra(field).get("shown") or _as_text(info.default),
            meaning=info.description,
            secret="SecretStr" in str(info.annotation),
        )
        for field, info in Settings.model_fields.items()
        if info.description
    ]


def _extra(field: str) -> dict[str, Any]:
    extra = Settings.model_fields[field].json_schema_extra
    return extra if isinstance(extra, dict) else {}


def _name(field: str) -> str:
    return _extra(field).get("name") or f"QUAYMASTER_{field.upper()}"


def _aliases(field: str) -> tuple[str, ...]:
    return tuple(_extra(field).get("aliases", ()))


def _rule(schema: dict[str, Any]) -> str:
    """The rule in words, of a type or of a type that may be missing."""
    options = [schema, *schema.get("anyOf", ())]
    for option in options:
        if "rule" in option:
            return str(option["rule"])
        if "enum" in option:
            return "one of " + ", ".join(option["enum"])
    raise TypeError("every variable's type needs a rule in words")


def _as_text(value: object) -> str:
    """A value as it would be written in a file; None is empty."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


# Loading, in the order it happens.


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
            name = next((name for name in (_name(field), *_aliases(field)) if name in given), None)
            if name is not None:
                text, source = given[name]
                chosen[field] = _Given(text, source if name == _name(field) else f"{source} ({name})")
    return chosen


_DB_PARTS = ("db_host", "db_port", "db_name", "db_user", "db_password")


def _settle_both_forms(
    chosen: dict[str, _Given], given: Mapping[str, _Given], problems: list[Problem]
) -> None:
    """One form is kept: a URL beats aliases of its parts; beside our own parts it is a problem."""
    parts = [part for part in _DB_PARTS if part in chosen]
    if "database_url" in chosen:
        for part in parts:
            if _name(part) in given:
                problems.append(Problem(_name(part), "must not be set beside QUAYMASTER_DATABASE_URL"))
            chosen.pop(part)
    elif parts and "db_host" not in chosen:
        named = ", ".join(_name(part) for part in parts)
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
            problems.append(Problem(name, f"must be {_rule(adapter.json_schema())}"))
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
    problems.extend(Problem(_name(field), "must not contain control characters") for field in sorted(garbled))
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
    return None if problems else settings


def _printable(text: str) -> bool:
    """No control characters, and nothing that UTF-8 cannot carry."""
    return not re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text)


def _in_order(problems: Iterable[Problem]) -> list[Problem]:
    """One line for each, in the schema's order; files and aliases after the variables."""
    rank = {variable.name: number for number, variable in enumerate(describe())}
    return sorted(dict.fromkeys(problems), key=lambda problem: rank.get(problem.name, len(rank)))


def _complete(settings: Settings, chosen: Mapping[str, _Given], given: Mapping[str, _Given]) -> Settings:
    """With the URL made from the parts, the sources by variable, and the warnings."""
    sources = {_name(field): value.source for field, value in chosen.items()}
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


def _unknown(given: Mapping[str, _Given]) -> list[str]:
    """QUAYMASTER_ variables that do not exist, with the name that was probably meant. They stop nothing."""
    known = [_name(field) for field, info in Settings.model_fields.items() if info.description]
    strange = sorted(name for name in given if name.startswith("QUAYMASTER_") and name not in known)
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

    root = Path(__file__).resolve().parent.parent
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError):
        return None
    return root if project.get("name") == "quaymaster" else None


# Showing.


class Effective(NamedTuple):
    """One row of `quaymaster config`. `value` is redacted and empty when unset."""

    name: str
    value: str
    source: str
    meaning: str


def effective(settings: Settings) -> list[Effective]:
    """All variables in the order of the schema. Source: default, environment, command line, or a file."""
    return [
        Effective(
            variable.name,
            _shown(getattr(settings, variable.field)),
            settings.sources.get(variable.name, "default"),
            variable.meaning,
        )
        for variable in describe()
    ]


def _shown(value: object) -> str:
    """Of a secret URL where it leads stays visible; all else of a secret does not."""
    if not isinstance(value, SecretStr):
        return _as_text(value)
    parts = urlsplit(value.get_secret_value())
    if not parts.scheme or not parts.hostname:
        return REDACTED
    return f"{parts.scheme}://{REDACTED}@{parts.netloc.rpartition('@')[2]}{parts.path}"


_INTRODUCTION = """\
# Settings

Written by `python -m mcp_server.config --write`; do not edit by hand.

A value is looked for on the command line, in the environment, then in `.env.local`, `.env.{environment}`
and `.env` of the working directory; the first that has it wins. An empty value counts as unset. Values in
files are taken literally: `${...}` is not replaced. `QUAYMASTER_ENV` is not read from `.env.{environment}`.

PostgreSQL is named by `QUAYMASTER_DATABASE_URL` or by `QUAYMASTER_DB_*`, not by both. Production needs it;
development and test run on the JSON registry without it. `CODEB_DB_*`, `REDIS_HOST` and `REDIS_PORT` count
only where Quaymaster's own names are unset.

`quaymaster config` shows every setting with where it came from, secrets redacted. A wrong or missing value
stops the start with all problems listed; a name that does not exist is a warning.

| variable | value | default | meaning |
|---|---|---|---|
"""


def render_markdown() -> str:
    """docs/settings.md."""
    lines = []
    for variable in describe():
        names = "<br>".join(f"`{name}`" for name in (variable.name, *variable.aliases))
        rule = variable.rule + (" (secret)" if variable.secret else "")
        cells = [names, rule, _default_cell(variable), variable.meaning]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return _INTRODUCTION + "\n".join(lines) + "\n"


def _default_cell(variable: Variable) -> str:
    if " " in variable.default:
        return variable.default
    return f"`{variable.default}`" if variable.default else "unset"


def render_example() -> str:
    """.env.example: every variable, none of them set."""
    lines = [
        "# Settings of Quaymaster. Copy to .env and uncomment what you change.",
        "# Written by `python -m mcp_server.config --write`; do not edit by hand.",
    ]
    for variable in describe():
        written = " " not in variable.default
        lines += ["", f"# {variable.meaning}", f"# Value: {variable.rule}."]
        lines += [] if written else [f"# Default: {variable.default}."]
        lines.append(f"#{variable.name}={variable.default if written else ''}")
    return "\n".join(lines) + "\n"


def write(root: Path) -> None:
    """Write both files under the checkout `root`."""
    (root / ".env.example").write_text(render_example(), encoding="utf-8")
    (root / "docs").mkdir(exist_ok=True)
    (root / "docs" / "settings.md").write_text(render_markdown(), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m mcp_server.config --write")
    write(Path(__file__).resolve().parent.parent)
