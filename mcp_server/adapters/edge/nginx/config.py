"""What nginx is to include in its `http` block, from sites and their locations.

Every value that reaches the text was checked by its type: host names, targets, paths of a small alphabet,
numbers. There is no way to pass a directive, a variable or a quote.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from mcp_server.adapters.edge.probes import EDGE_HEADER, PROBE_HEADER, SLOT_HEADER
from mcp_server.domain.records import Value
from mcp_server.domain.routes import Target, checked_host
from mcp_server.domain.slots import SlotName

Host = Annotated[str, AfterValidator(checked_host)]
Path = Annotated[str, Field(pattern=r"^/(?:[A-Za-z0-9._-]+/)*$", max_length=200)]
File = Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]+$", max_length=1000)]
Port = Annotated[int, Field(ge=1, le=65535)]

SECURITY_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
)


class Location(Value):
    """A path with a slash at its end, and where it leads: to targets, or to the files of a directory.

    With several targets each request goes to one of them by chance; a target that is down is answered 502.
    `strip` takes the path off before the target sees it. `rate` is in requests a second and client address.
    """

    path: Path = "/"
    targets: tuple[Target, ...] = ()
    files: File | None = None
    strip: bool = False
    rate: Annotated[int, Field(ge=1, le=100_000)] | None = None

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Location:
        if bool(self.targets) == (self.files is not None):
            raise ValueError("a location leads to targets or to files")
        return self


class Site(Value):
    """Host names that share their locations. With a certificate plain requests are redirected to HTTPS.

    `slot` is what probes are told. `certificate_from`: when its files were written, so that new ones are another
    configuration.
    """

    hosts: tuple[Host, ...] = Field(min_length=1)
    locations: tuple[Location, ...] = Field(min_length=1)
    certificate: File | None = None
    certificate_key: File | None = None
    certificate_from: int | None = None
    slot: SlotName | None = None
    secure_headers: bool = False


class NginxSettings(Value):
    """`resolver` answers for targets with names (the engine's is 127.0.0.11); without it they must be
    addresses.
    """

    installation: str = Field(pattern=r"^[A-Za-z0-9-]{1,64}$")
    token: str = Field(pattern=r"^[0-9a-f]{32}$")
    address: str = Field(default="", pattern=r"^[0-9.]*$")
    http_port: Port = 80
    https_port: Port = 443
    public_https_port: Port = 443
    resolver: str | None = Field(default=None, pattern=r"^[0-9.]+$")


def text(settings: NginxSettings, sites: Sequence[Site]) -> str:
    """The file. Sites are written in the order given, a site's longest locations first."""
    body = "\n".join(_lines(settings, sites)) + "\n"
    return body.replace(_GENERATION, generation(settings, sites))


def generation(settings: NginxSettings, sites: Sequence[Site]) -> str:
    """What workers that run exactly this text answer to a probe."""
    body = "\n".join(_lines(settings, sites))
    return f"{settings.installation} {hashlib.sha256(body.encode()).hexdigest()[:16]}"


_GENERATION = "@generation@"


def _lines(settings: NginxSettings, sites: Sequence[Site]) -> Iterator[str]:
    yield "# Written by Quaymaster; changes are overwritten."
    yield from _maps(settings)
    for number, site in enumerate(sites):
        yield from _choices(number, site)
    yield from _nobody(settings)
    for number, site in enumerate(sites):
        yield from _plain(settings, number, site)
        if site.certificate is not None:
            yield from _secure(settings, number, site)


def _maps(settings: NginxSettings) -> Iterator[str]:
    yield "server_names_hash_bucket_size 512;"
    yield 'map $http_x_quaymaster_probe $quaymaster_probe { default ""; "' + settings.token + '" 1; }'
    yield 'map $quaymaster_probe $quaymaster_edge { default ""; 1 "' + _GENERATION + '"; }'
    yield 'map $http_upgrade $quaymaster_connection { default upgrade; "" ""; }'


def _choices(number: int, site: Site) -> Iterator[str]:
    """Before the servers: where a request may go, and how often an address may come."""
    for place, location in enumerate(site.locations):
        name = f"{number}_{place}"
        if len(location.targets) > 1:
            share = 100 / len(location.targets)
            parts = [f'{share:.2f}% "{target}";' for target in location.targets[:-1]]
            yield f"split_clients $request_id $quaymaster_target_{name} {{ {' '.join(parts)} * "
            yield f'"{location.targets[-1]}"; }}'
        if location.rate is not None:
            zone = f"zone=quaymaster_{name}:1m rate={location.rate}r/s"
            yield f"limit_req_zone $binary_remote_addr {zone};"


def _nobody(settings: NginxSettings) -> Iterator[str]:
    yield "server {"
    yield f"    listen {_listen(settings.address, settings.http_port)} default_server;"
    yield "    server_name _;"
    yield f"    add_header {EDGE_HEADER} $quaymaster_edge always;"
    yield '    location / { default_type text/plain; return 404 "no such project\\n"; }'
    yield "}"


def _plain(settings: NginxSettings, number: int, site: Site) -> Iterator[str]:
    yield "server {"
    yield f"    listen {_listen(settings.address, settings.http_port)};"
    yield f"    server_name {' '.join(site.hosts)};"
    if site.certificate is not None:
        port = "" if settings.public_https_port == 443 else f":{settings.public_https_port}"
        yield f"    return 308 https://$host{port}$request_uri;"
    else:
        yield from _inside(settings, number, site)
    yield "}"


def _secure(settings: NginxSettings, number: int, site: Site) -> Iterator[str]:
    yield "server {"
    yield f"    listen {_listen(settings.address, settings.https_port)} ssl http2;"
    yield f"    server_name {' '.join(site.hosts)};"
    yield f"    # written at {site.certificate_from}"
    yield f"    ssl_certificate {site.certificate};"
    yield f"    ssl_certificate_key {site.certificate_key};"
    yield "    ssl_protocols TLSv1.2 TLSv1.3;"
    yield from _inside(settings, number, site)
    yield "}"


def _inside(settings: NginxSettings, number: int, site: Site) -> Iterator[str]:
    if settings.resolver is not None:
        yield f"    resolver {settings.resolver} valid=1s ipv6=off;"
    yield '    set $quaymaster_slot "";'
    if site.slot is not None:
        yield f"    if ($quaymaster_probe) {{ set $quaymaster_slot {site.slot}; }}"
    yield f"    add_header {SLOT_HEADER} $quaymaster_slot always;"
    yield f"    add_header {EDGE_HEADER} $quaymaster_edge always;"
    if site.secure_headers:
        for name, value in SECURITY_HEADERS:
            yield f"    add_header {name} {value} always;"
    yield "    client_max_body_size 0;"
    by_length = sorted(enumerate(site.locations), key=lambda one: -len(one[1].path))
    for place, location in by_length:
        yield from _location(f"{number}_{place}", location)


def _location(name: str, location: Location) -> Iterator[str]:
    yield f"    location {location.path} {{"
    if location.rate is not None:
        yield f"        limit_req zone=quaymaster_{name} burst={location.rate} nodelay;"
        yield "        limit_req_status 429;"
    if location.files is not None:
        yield f"        alias {location.files.rstrip('/')}/;"
    else:
        yield from _proxy(name, location)
    yield "    }"


def _proxy(name: str, location: Location) -> Iterator[str]:
    """The target is a variable, so that nginx starts and reloads while nothing listens there yet."""
    several = len(location.targets) > 1
    target = f"$quaymaster_target_{name}" if several else str(location.targets[0])
    yield f"        set $quaymaster_upstream {target};"
    if location.strip and location.path != "/":
        yield f"        rewrite ^{re.escape(location.path)}(.*)$ /$1 break;"
    yield "        proxy_pass http://$quaymaster_upstream;"
    yield "        proxy_http_version 1.1;"
    yield "        proxy_set_header Host $http_host;"
    yield "        proxy_set_header Upgrade $http_upgrade;"
    yield "        proxy_set_header Connection $quaymaster_connection;"
    yield "        proxy_set_header X-Forwarded-For $remote_addr;"
    yield "        proxy_set_header X-Forwarded-Host $http_host;"
    yield "        proxy_set_header X-Forwarded-Proto $scheme;"
    yield f'        proxy_set_header {PROBE_HEADER} "";'
    yield f"        proxy_hide_header {SLOT_HEADER};"
    yield f"        proxy_hide_header {EDGE_HEADER};"
    yield "        proxy_connect_timeout 2s;"
    yield "        proxy_read_timeout 1h;"
    yield "        proxy_send_timeout 1h;"
    yield "        proxy_buffering off;"
    yield "        proxy_request_buffering off;"


def _listen(address: str, port: int) -> str:
    return f"{address}:{port}" if address else str(port)
