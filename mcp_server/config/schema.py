"""Every setting once: name, type, default, meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from mcp_server.config.kinds import (
    AcmeUrl,
    Count,
    Cpus,
    DatabaseHost,
    DatabaseUrl,
    Days,
    DockerHost,
    Domain,
    DomainList,
    Edge,
    EdgeMode,
    EdgePlaces,
    EdgeTls,
    Email,
    EncryptionKey,
    EngineName,
    Environment,
    HomePath,
    HostList,
    Hours,
    Image,
    Isolation,
    KeyPrefix,
    LogFormat,
    LogLevel,
    Megabytes,
    NetworkList,
    Password,
    PoolSize,
    Port,
    PortRange,
    ProviderToken,
    PublicUrl,
    RedisUrl,
    Roots,
    Seconds,
    ServerList,
    Standbys,
    Starts,
    Text,
    Token,
    ToolsetList,
    decode_key,
)


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
        "Redis for cache and rate limits of all servers together. Without it, and while it is away, each process keeps its own in memory.",
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
    rate_limit: Count = _variable(
        600,
        "Requests a minute and key over HTTP, where the key has no limit of its own: calls, and lists of tools, "
        "prompts and resources.",
    )

    public_url: PublicUrl | None = _variable(
        None, "The address that clients use, for a server behind a name."
    )
    allowed_hosts: HostList = _variable((), "Host headers answered besides loopback and the public URL's.")
    trusted_proxies: NetworkList = _variable((), "Proxies whose forwarding headers are believed.")
    project_roots: Roots = _variable(
        (),
        "Where a project's path may lie. Over HTTP nowhere, unless set, and never at, in or above another team's.",
    )
    program_roots: Roots = _variable(
        (),
        "Where the env.py of Alembic projects is run, as this server's user, for callers over HTTP. Unset: nowhere.",
    )

    quota_projects: Count = _variable(200, "Most projects of a team.")
    quota_databases: Count = _variable(50, "Most databases of a team.")
    backup_hours: Hours = _variable(
        0,
        "Hours between scheduled backups of Quaymaster itself and of every running project database; 0: none.",
    )
    backup_keep: Count = _variable(7, "Backups of a database that stay, however old.")
    backup_days: Days = _variable(30, "Days for which further backups stay.")
    branch_megabytes: Count = _variable(2048, "Largest database, in MiB, that is copied as a branch.")
    quota_domains: Count = _variable(200, "Most domains of a team.")
    quota_members: Count = _variable(200, "Most members of a team.")
    quota_keys: Count = _variable(200, "Most API keys of a team that are not revoked.")
    quota_tasks: Count = _variable(5000, "Most open tasks of a team.")

    toolsets: ToolsetList = _variable(
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
    database_starts: Starts | None = _variable(
        None,
        "Servers of project databases that may start at once, in all processes of a home.",
        shown="one for each core of the engine, at least 2",
    )
    warm_pool: Standbys = _variable(2, "Standby databases, filled after the first PostgreSQL database.")

    ports_production: PortRange = _variable("4100-4499", "Ports of 127.0.0.1 for slots of production.")
    ports_staging: PortRange = _variable("4500-4999", "Ports of 127.0.0.1 for slots of staging.")
    ports_preview: PortRange = _variable("5000-5499", "Ports of 127.0.0.1 for slots of preview.")
    drain_seconds: Seconds = _variable(
        30.0,
        "Longest wait for open connections before a slot goes, then for its application to end.",
    )

    edge: Edge = _variable("caddy", "Reverse proxy in front of the projects.")
    edge_mode: EdgeMode = _variable("container", "The proxy is a managed container, or the host's own.")
    edge_image: Image | None = _variable(None, "Image of the managed proxy.", shown="follows QUAYMASTER_EDGE")
    edge_http_port: Port = _variable(80, "Port of the proxy for HTTP.")
    edge_https_port: Port = _variable(443, "Port of the proxy for HTTPS.")
    edge_dir: HomePath | None = _variable(
        None,
        "What the proxy reads; for a proxy of another user, a directory outside the state directory.",
        shown="edge in the state directory",
    )
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
    edge_email: Email | None = _variable(None, "Address that the ACME service may write to.")
    edge_acme_url: AcmeUrl | None = _variable(
        None, "Directory of another ACME service.", shown="follows QUAYMASTER_EDGE_TLS"
    )
    edge_acme_root: HomePath | None = _variable(None, "File of that service's root certificate, in PEM.")
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
            name=name_of(field),
            aliases=aliases_of(field),
            rule=rule_in_words(schema[field]),
            default=_extra(field).get("shown") or as_text(info.default),
            meaning=info.description,
            secret="SecretStr" in str(info.annotation),
        )
        for field, info in Settings.model_fields.items()
        if info.description
    ]


def _extra(field: str) -> dict[str, Any]:
    extra = Settings.model_fields[field].json_schema_extra
    return extra if isinstance(extra, dict) else {}


def name_of(field: str) -> str:
    return _extra(field).get("name") or f"QUAYMASTER_{field.upper()}"


def aliases_of(field: str) -> tuple[str, ...]:
    return tuple(_extra(field).get("aliases", ()))


def rule_in_words(schema: dict[str, Any]) -> str:
    """The rule in words, of a type or of a type that may be missing."""
    options = [schema, *schema.get("anyOf", ())]
    for option in options:
        if "rule" in option:
            return str(option["rule"])
        if "enum" in option:
            return "one of " + ", ".join(option["enum"])
    raise TypeError("every variable's type needs a rule in words")


def as_text(value: object) -> str:
    """A value as it would be written in a file; None is empty."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ",".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
