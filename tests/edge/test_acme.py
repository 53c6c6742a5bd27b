"""Certificates by ACME: from a service of one's own, which another Caddy plays, that asks the host over HTTP or TLS."""

import http.client
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from pydantic import SecretBytes

from mcp_server.adapters.docker.orchestrator import DockerOrchestrator
from mcp_server.adapters.edge.caddy.config import CaddySettings
from mcp_server.adapters.edge.caddy.container import ACME_ROOT, ADMIN, STORAGE, ContainerCaddy
from mcp_server.adapters.edge.caddy.edge import CaddyEdge
from mcp_server.adapters.edge.container import INSIDE, edge_name
from mcp_server.adapters.edge.probes import Door
from mcp_server.adapters.edge.switch import SwitchDirectory
from mcp_server.domain.workloads import Attachment, File, Network, Owner, Ref, Workload
from tests.edge.conftest import proxy_program
from tests.services.edge_images import newer_caddy
from tests.services.engine import DockerEngine
from tests.services.ports import ReservedPort

ROUTE, HOST, NEVER = "app.production", "app.quay.test", "never.quay.test"
AUTHORITY, EMAIL = "ca.quay.test", "ops@quay.test"
SERVICE = {
    "admin": {"disabled": True},
    "storage": {"module": "file_system", "root": "/data"},
    "apps": {
        "pki": {"certificate_authorities": {"local": {"install_trust": False}}},
        "tls": {"automation": {"policies": [{"subjects": [AUTHORITY], "issuers": [{"module": "internal"}]}]}},
        "http": {
            "servers": {
                "acme": {
                    "listen": [":443"],
                    "automatic_https": {"disable_redirects": True},
                    "routes": [{"match": [{"host": [AUTHORITY]}], "handle": [{"handler": "acme_server"}]}],
                }
            }
        },
    },
}


@dataclass
class Stage:
    edge: CaddyEdge
    proxy: Ref
    https: int
    root: bytes


@pytest.fixture(params=["caddy-2.6", "caddy-2.11"])
async def stage(
    request: pytest.FixtureRequest,
    orchestrator: DockerOrchestrator,
    owner: Owner,
    engine: DockerEngine,
    image: Callable[[str], str],
    tmp_path: Path,
) -> AsyncIterator[Stage]:
    """The proxy, which the service finds under HOST, in front of an application."""
    for program in ("caddy-2.6", "caddy-2.11"):
        proxy_program(program)
    name = edge_name(owner)
    await orchestrator.ensure_network(Network(name=name, owner=owner, kind="edge"))
    service = Workload(
        name=f"{name}-ca",
        owner=owner,
        image=newer_caddy(engine),
        command=("caddy", "run", "--config", "/etc/ca.json"),
        files=(File(path="/etc/ca.json", content=SecretBytes(json.dumps(SERVICE).encode())),),
        networks=(Attachment(network=name, aliases=(AUTHORITY,)),),
        capabilities=("NET_BIND_SERVICE",),
    )
    app = Workload(name=f"{name}-app", owner=owner, image=image("demo"), networks=(Attachment(network=name),))
    for workload in (service, app):
        await orchestrator.create(workload)
        await orchestrator.start(workload.ref)
    root = await _root_of(orchestrator, service.ref)
    http, https = ReservedPort(), ReservedPort()
    directory = SwitchDirectory(tmp_path / "edge", owner.installation)
    settings = CaddySettings(
        installation=owner.installation,
        token=directory.token(),
        switch=f"{INSIDE}/switch",
        storage=STORAGE,
        admin=ADMIN,
        public_https_port=https.number,
        tls="acme",
        email=EMAIL,
        directory=f"https://{AUTHORITY}/acme/local/directory",
        directory_root=ACME_ROOT,
    )
    caddy = ContainerCaddy(
        orchestrator,
        owner,
        image("caddy") if request.param == "caddy-2.6" else newer_caddy(engine),
        directory.root,
        (http.number, https.number),
        public=False,
        acme_root=root,
    )
    door = Door("127.0.0.1", http.number, https.number, "acme", directory.token())
    edge = CaddyEdge(directory, settings, door, caddy)
    await edge.ensure()
    await orchestrator.connect(caddy.ref, Ref(name=name, owner=owner), aliases=(HOST, NEVER))
    await edge.attach(HOST, ROUTE)
    await edge.point(ROUTE, "blue", edge.target(app.name, 8080, 0))
    yield Stage(edge, caddy.ref, https.number, root)
    http.release()
    https.release()


async def _root_of(orchestrator: DockerOrchestrator, service: Ref) -> bytes:
    with anyio.fail_after(30):
        while True:
            done = await orchestrator.exec(service, ("cat", "/data/pki/authorities/local/root.crt"))
            if done.exit_code == 0:
                return done.stdout
            await anyio.sleep(0.1)


@pytest.mark.timeout(180)
async def test_a_host_gets_its_certificate_from_the_named_service_in_the_name_of_the_address(
    stage: Stage, orchestrator: DockerOrchestrator, tmp_path: Path
) -> None:
    await stage.edge.allow_tls(HOST)
    (tmp_path / "root.crt").write_bytes(stage.root)
    trust = ssl.create_default_context(cafile=str(tmp_path / "root.crt"))
    with anyio.fail_after(90):
        while not (await stage.edge.probe(HOST))[0].secure:
            await anyio.sleep(0.5)
    assert over_tls(trust, stage.https, HOST) == 200
    with pytest.raises(ssl.SSLError):
        over_tls(trust, stage.https, NEVER)
    accounts = await orchestrator.exec(
        stage.proxy, ("ls", f"/data/acme/{AUTHORITY}-acme-local-directory/users")
    )
    assert accounts.stdout.decode().split() == [EMAIL]


def over_tls(trust: ssl.SSLContext, port: int, host: str) -> int:
    with socket.create_connection(("127.0.0.1", port), 20) as plain:
        connection = http.client.HTTPConnection(host)
        connection.sock = trust.wrap_socket(plain, server_hostname=host)
        connection.request("GET", "/")
        status = connection.getresponse().status
        connection.close()
        return status
