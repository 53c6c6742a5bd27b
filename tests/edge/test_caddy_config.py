"""The one configuration of Caddy, whole, and what real Caddys say to it."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from mcp_server.adapters.edge.caddy import config
from mcp_server.adapters.edge.caddy.config import CaddySettings, Tls
from tests.services.edge import CaddyProcess

TOKEN = "0123456789abcdef0123456789abcdef"
PLAIN = CaddySettings(installation="one", token=TOKEN, switch="/edge/switch")

PROBE = [{"header": {"X-Quaymaster-Probe": [TOKEN]}}]
PROJECTS = [
    {
        "match": [
            {
                "file": {
                    "root": "/edge/switch",
                    "try_files": [
                        "/hosts/{http.request.host}/on-green/*",
                        "/hosts/{http.request.host}/blue/*",
                        "/hosts/{http.request.host}/only-*/*",
                    ],
                }
            }
        ],
        "terminal": True,
        "handle": [
            {
                "handler": "map",
                "source": "{http.matchers.file.relative}",
                "destinations": ["{slot}", "{target}"],
                "mappings": [
                    {"input_regexp": "/on-green/([^/]+:[0-9]+)$", "outputs": ["green", "${1}"]},
                    {"input_regexp": "/blue/([^/]+:[0-9]+)$", "outputs": ["blue", "${1}"]},
                    {"input_regexp": "/only-(blue|green)/([^/]+:[0-9]+)$", "outputs": ["${1}", "${2}"]},
                ],
            },
            {
                "handler": "subroute",
                "routes": [
                    {
                        "match": PROBE,
                        "handle": [
                            {
                                "handler": "headers",
                                "response": {"deferred": True, "set": {"X-Quaymaster-Slot": ["{slot}"]}},
                            }
                        ],
                    }
                ],
            },
            {
                "handler": "reverse_proxy",
                "upstreams": [{"dial": "{target}"}],
                "headers": {
                    "request": {"delete": ["X-Quaymaster-Probe"]},
                    "response": {"delete": ["X-Quaymaster-Slot", "X-Quaymaster-Edge"]},
                },
                "transport": {
                    "protocol": "http",
                    "dial_timeout": "2s",
                    "keep_alive": {"max_idle_conns_per_host": 256, "idle_timeout": "2s"},
                },
                "load_balancing": {"try_duration": "3s", "try_interval": "50ms"},
            },
        ],
    },
    {"handle": [{"handler": "static_response", "status_code": 404, "body": "no such project\n"}]},
]


def identity(settings: CaddySettings) -> list[dict[str, object]]:
    reads = {"file": {"root": "/edge/switch", "try_files": ["/hosts/"]}}
    return [
        answer([{**PROBE[0], **reads}], config.identity(settings)),
        answer([{**PROBE[0], "not": [reads]}], config.identity(settings) + " blind"),
    ]


def answer(match: object, text: str) -> dict[str, object]:
    header = {"X-Quaymaster-Edge": [text]}
    return {"match": match, "handle": [{"handler": "headers", "response": {"deferred": True, "set": header}}]}


def test_without_tls_the_configuration_is_this() -> None:
    assert config.configuration(PLAIN) == {
        "admin": {"disabled": True, "config": {"persist": False}},
        "apps": {
            "http": {
                "http_port": 80,
                "https_port": 443,
                "grace_period": "10s",
                "servers": {
                    "plain": {
                        "listen": [":80"],
                        "automatic_https": {"disable": True},
                        "routes": [*identity(PLAIN), *PROJECTS],
                    }
                },
            }
        },
    }


def test_with_certificates_the_configuration_is_this() -> None:
    secure = PLAIN.model_copy(
        update={"tls": "acme", "admin": "unix//run/edge.sock", "storage": "/store", "email": "a@quay.test"}
    )
    allowed = {"file": {"root": "/edge/switch", "try_files": ["/tls/{http.request.uri.query.domain}"]}}
    permission = {
        "match": [{"path": [f"/{TOKEN}"]}],
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
    redirect = {
        "match": [
            {
                "file": {"root": "/edge/switch", "try_files": ["/tls/{http.request.host}"]},
                "not": PROBE,
            }
        ],
        "terminal": True,
        "handle": [
            {
                "handler": "static_response",
                "status_code": 308,
                "headers": {"Location": ["https://{http.request.host}{http.request.uri}"]},
            }
        ],
    }
    endpoint = f"http://127.0.0.1:80/{TOKEN}"
    assert config.configuration(secure) == {
        "admin": {"listen": "unix//run/edge.sock", "config": {"persist": False}},
        "storage": {"module": "file_system", "root": "/store"},
        "apps": {
            "http": {
                "http_port": 80,
                "https_port": 443,
                "grace_period": "10s",
                "servers": {
                    "plain": {
                        "listen": [":80"],
                        "automatic_https": {"disable": True},
                        "routes": [*identity(secure), permission, redirect, *PROJECTS],
                    },
                    "secure": {
                        "listen": [":443"],
                        "protocols": ["h1", "h2"],
                        "tls_connection_policies": [{}],
                        "automatic_https": {"disable_redirects": True},
                        "routes": [*identity(secure), *PROJECTS],
                    },
                },
            },
            "tls": {
                "automation": {
                    "on_demand": {"permission": {"module": "http", "endpoint": endpoint}},
                    "policies": [
                        {"on_demand": True, "issuers": [{"module": "acme", "email": "a@quay.test"}]}
                    ],
                }
            },
            "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
        },
    }


def test_caddy_before_2_8_is_asked_in_its_own_spelling() -> None:
    old = PLAIN.model_copy(update={"tls": "staging", "permission": "ask"})
    automation = config.configuration(old)["apps"]["tls"]["automation"]
    assert automation["on_demand"] == {"ask": f"http://127.0.0.1:80/{TOKEN}"}
    assert automation["policies"][0]["issuers"] == [{"module": "acme", "ca": config.STAGING}]


def test_the_same_settings_give_the_same_text_and_others_another_identity() -> None:
    assert config.text(PLAIN) == config.text(PLAIN.model_copy())
    assert json.loads(config.text(PLAIN)) == config.configuration(PLAIN)
    other = PLAIN.model_copy(update={"http_port": 8080})
    assert config.identity(other) != config.identity(PLAIN)
    assert TOKEN not in config.identity(PLAIN)


@pytest.mark.parametrize(
    "wrong",
    [
        {"switch": "/a/{env.HOME}"},
        {"switch": "relative"},
        {"switch": "/a/*"},
        {"token": "x"},
        {"installation": "a b"},
    ],
)
def test_nothing_that_caddy_would_expand_comes_from_settings(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        CaddySettings.model_validate({**PLAIN.model_dump(), **wrong})


@pytest.mark.parametrize("tls", ["off", "internal", "staging", "acme"])
def test_every_kind_is_valid_for_real_caddys(caddy_program: Path, tmp_path: Path, tls: Tls) -> None:
    settings = PLAIN.model_copy(
        update={
            "tls": tls,
            "switch": str(tmp_path),
            "storage": str(tmp_path / "store"),
            "admin": f"unix/{tmp_path}/admin.sock",
            "permission": "ask" if caddy_program.name == "caddy-2.6" else "module",
        }
    )
    CaddyProcess(caddy_program, settings, tmp_path).validate()
