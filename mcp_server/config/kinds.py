"""The types of settings. The text under "rule" is what a person reads, in the documentation and when a value is
refused."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NoReturn
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationInfo, WithJsonSchema

from mcp_server.domain.databases import parse_ports
from mcp_server.domain.toolsets import CHOICE, NAMES


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


def _email(text: str) -> str:
    """An address as a CA takes it. Without braces, which Caddy would replace."""
    if not re.fullmatch(r"[A-Za-z0-9.!#$%&'*+/=?^_`|~-]{1,64}@[^@]+", text):
        _refuse()
    _domain(text.rpartition("@")[2])
    return text


def _acme_url(text: str) -> str:
    if re.search(r"[{}\s]", text):
        _refuse()
    return _public_url(text)


def _toolsets(texts: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(text.lower() for text in texts)
    if not names or not set(names) <= set(NAMES):
        _refuse()
    return names


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
Starts = Annotated[int, Field(ge=1, le=1000), WithJsonSchema({"rule": "a whole number, 1 to 1000"})]
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
Email = Annotated[
    str, BeforeValidator(_strip), AfterValidator(_email), WithJsonSchema({"rule": "an e-mail address"})
]
AcmeUrl = Annotated[
    str,
    BeforeValidator(_strip),
    AfterValidator(_acme_url),
    WithJsonSchema({"rule": "an http or https URL without user, query and fragment"}),
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
ToolsetList = Annotated[
    tuple[str, ...], BeforeValidator(_split), AfterValidator(_toolsets), WithJsonSchema({"rule": CHOICE})
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
