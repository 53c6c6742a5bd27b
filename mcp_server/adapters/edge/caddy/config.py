"""The one configuration of the edge's Caddy. It names no project: what changes is in the directory that it
reads.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import Field

from mcp_server.adapters.edge.probes import EDGE_HEADER, PROBE_HEADER, SLOT_HEADER
from mcp_server.domain.records import Value

Tls = Literal["acme", "staging", "internal", "off"]
Permission = Literal["module", "ask"]
Json = dict[str, Any]

STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
IDLE = "2s"
"""How long an unused connection to a target is kept: after it, only running requests hold a drained slot."""


class CaddySettings(Value):
    """`switch` is the directory as Caddy sees it. `address` "" listens on all. `admin` "" turns the admin API
    off.

    `permission` is how this Caddy spells who allows certificates: `module` since 2.8, `ask` before.
    `public_https_port` is the port that visitors use, where it is not the one that Caddy listens on.
    `directory` and `directory_root` name another ACME service and the file of its root certificate.
    """

    installation: str = Field(pattern=r"^[A-Za-z0-9-]{1,64}$")
    token: str = Field(pattern=r"^[0-9a-f]{32}$")
    switch: str = Field(pattern=r"^/[^{}*?\[\]\\]*$")
    storage: str | None = None
    admin: str = ""
    address: str = ""
    http_port: int = 80
    https_port: int = 443
    public_https_port: int = 443
    tls: Tls = "off"
    permission: Permission = "module"
    email: str | None = Field(default=None, pattern=r"^[^@\s{}]+@[^@\s{}]+$")
    directory: str | None = Field(default=None, pattern=r"^https?://[^\s{}]+$")
    directory_root: str | None = Field(default=None, pattern=r"^/[^{}]*$")


def configuration(settings: CaddySettings) -> Json:
    """Caddy's JSON. The same settings give the same bytes once dumped with sorted keys."""
    secure = settings.tls != "off"
    config: Json = {
        "admin": _admin(settings.admin),
        "apps": {
            "http": {
                "http_port": settings.http_port,
                "https_port": settings.https_port,
                "grace_period": "10s",
                "servers": {
                    "plain": {
                        "listen": [f"{settings.address}:{settings.http_port}"],
                        "automatic_https": {"disable": True},
                        "routes": [
                            *_identity(settings),
                            *([_permission_answer(settings), _redirect(settings)] if secure else []),
                            *_projects(settings),
                        ],
                    }
                },
            }
        },
    }
    if settings.storage is not None:
        config["storage"] = {"module": "file_system", "root": settings.storage}
    if secure:
        config["apps"]["http"]["servers"]["secure"] = {
            "listen": [f"{settings.address}:{settings.https_port}"],
            "protocols": ["h1", "h2"],
            "tls_connection_policies": [{}],
            "automatic_https": {"disable_redirects": True},
            "routes": [*_identity(settings), *_projects(settings)],
        }
        config["apps"]["tls"] = {"automation": _automation(settings)}
        config["apps"]["pki"] = {"certificate_authorities": {"local": {"install_trust": False}}}
    return config


def text(settings: CaddySettings) -> str:
    return json.dumps(configuration(settings), indent=2, sort_keys=True) + "\n"


def identity(settings: CaddySettings) -> str:
    """What the proxy answers to a probe: whose it is, and which configuration it runs. How its version spells a
    key is no difference: had it been wrong, it would not have started.
    """
    described = settings.model_dump_json(exclude={"token", "permission"})
    secure = [_redirect(settings)] if settings.tls != "off" else []
    shape = json.dumps([_reads(settings), *secure, *_projects(settings)], sort_keys=True).replace(
        settings.token, ""
    )
    return f"{settings.installation} {hashlib.sha256((described + shape).encode()).hexdigest()[:16]}"


def _admin(listen: str) -> Json:
    off: Json = {"config": {"persist": False}}
    return {"disabled": True, **off} if not listen else {"listen": listen, **off}


def blind(settings: CaddySettings) -> str:
    """What a proxy answers in place of its identity that cannot read the directory."""
    return f"{identity(settings)} blind"


def _identity(settings: CaddySettings) -> list[Json]:
    """Whoever does not know the word sees no difference."""
    return [
        {
            "match": [{**_probe(settings), **_reads(settings)}],
            "handle": [_response_header(EDGE_HEADER, identity(settings))],
        },
        {
            "match": [{**_probe(settings), "not": [_reads(settings)]}],
            "handle": [_response_header(EDGE_HEADER, blind(settings))],
        },
    ]


def _reads(settings: CaddySettings) -> Json:
    return {"file": {"root": settings.switch, "try_files": ["/hosts/"]}}


def _projects(settings: CaddySettings) -> list[Json]:
    """A host name is a directory; the name of the file in it is where to go. All else is 404."""
    host = "/hosts/{http.request.host}"
    looked_at = [f"{host}/on-green/*", f"{host}/blue/*", f"{host}/only-*/*"]
    return [
        {
            "match": [{"file": {"root": settings.switch, "try_files": looked_at}}],
            "terminal": True,
            "handle": [_aim(), _slot_for_probes(settings), _proxy()],
        },
        {"handle": [{"handler": "static_response", "status_code": 404, "body": "no such project\n"}]},
    ]


def _aim() -> Json:
    return {
        "handler": "map",
        "source": "{http.matchers.file.relative}",
        "destinations": ["{slot}", "{target}"],
        "mappings": [
            {"input_regexp": "/on-green/([^/]+:[0-9]+)$", "outputs": ["green", "${1}"]},
            {"input_regexp": "/blue/([^/]+:[0-9]+)$", "outputs": ["blue", "${1}"]},
            {"input_regexp": "/only-(blue|green)/([^/]+:[0-9]+)$", "outputs": ["${1}", "${2}"]},
        ],
    }


def _slot_for_probes(settings: CaddySettings) -> Json:
    return {
        "handler": "subroute",
        "routes": [{"match": [_probe(settings)], "handle": [_response_header(SLOT_HEADER, "{slot}")]}],
    }


def _proxy() -> Json:
    """An application learns no probe's word, and cannot say which slot it is in place of the edge."""
    return {
        "handler": "reverse_proxy",
        "upstreams": [{"dial": "{target}"}],
        "headers": {
            "request": {"delete": [PROBE_HEADER]},
            "response": {"delete": [SLOT_HEADER, EDGE_HEADER]},
        },
        "transport": {
            "protocol": "http",
            "dial_timeout": "2s",
            "keep_alive": {"max_idle_conns_per_host": 256, "idle_timeout": IDLE},
        },
        "load_balancing": {"try_duration": "3s", "try_interval": "50ms"},
    }


def _redirect(settings: CaddySettings) -> Json:
    """Only hosts that have a certificate to come to: the others go on answering here, and probes always."""
    port = "" if settings.public_https_port == 443 else f":{settings.public_https_port}"
    return {
        "match": [
            {
                "file": {"root": settings.switch, "try_files": ["/tls/{http.request.host}"]},
                "not": [_probe(settings)],
            }
        ],
        "terminal": True,
        "handle": [
            {
                "handler": "static_response",
                "status_code": 308,
                "headers": {"Location": [f"https://{{http.request.host}}{port}{{http.request.uri}}"]},
            }
        ],
    }


def _permission_answer(settings: CaddySettings) -> Json:
    """Caddy asks itself, so that certificates go on while Quaymaster is down."""
    allowed = {"file": {"root": settings.switch, "try_files": ["/tls/{http.request.uri.query.domain}"]}}
    return {
        "match": [{"path": [f"/{settings.token}"]}],
        "terminal": True,
        "handle": [
            {
                "handler": "subroute",
                "routes": [
                    {
                        "match": [allowed],
                        "handle": [{"handler": "static_response", "status_code": 200}],
                        "terminal": True,
                    },
                    {"handle": [{"handler": "static_response", "status_code": 403}]},
                ],
            }
        ],
    }


def _automation(settings: CaddySettings) -> Json:
    endpoint = f"http://{settings.address or '127.0.0.1'}:{settings.http_port}/{settings.token}"
    return {
        "on_demand": {"ask": endpoint}
        if settings.permission == "ask"
        else {"permission": {"module": "http", "endpoint": endpoint}},
        "policies": [{"on_demand": True, "issuers": [_issuer(settings)]}],
    }


def _issuer(settings: CaddySettings) -> Json:
    if settings.tls == "internal":
        return {"module": "internal"}
    issuer: Json = {"module": "acme"}
    if settings.tls == "staging":
        issuer["ca"] = STAGING
    if settings.directory is not None:
        issuer["ca"] = settings.directory
    if settings.directory_root is not None:
        issuer["trusted_roots_pem_files"] = [settings.directory_root]
    if settings.email is not None:
        issuer["email"] = settings.email
    return issuer


def _response_header(name: str, value: str) -> Json:
    return {"handler": "headers", "response": {"deferred": True, "set": {name: [value]}}}


def _probe(settings: CaddySettings) -> Json:
    return {"header": {PROBE_HEADER: [settings.token]}}
