"""The edge on nginx in a container of its own, on a real engine."""

import datetime
import http.client
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mcp_server.adapters.docker.orchestrator import DockerOrchestrator
from mcp_server.adapters.edge.container import INSIDE
from mcp_server.adapters.edge.nginx.config import NginxSettings
from mcp_server.adapters.edge.nginx.container import HTTP_PORT, HTTPS_PORT, RESOLVER, ContainerNginx
from mcp_server.adapters.edge.nginx.edge import NginxEdge
from mcp_server.adapters.edge.probes import Door
from mcp_server.adapters.edge.switch import SwitchDirectory
from mcp_server.domain.errors import Conflict
from mcp_server.domain.routes import Target
from mcp_server.domain.slots import SlotName
from mcp_server.domain.workloads import Attachment, Owner, Ref, Workload
from tests.services.edge import get
from tests.services.ports import ReservedPort

ROUTE, HOST = "app.production", "app.quay.test"
SLOTS: tuple[SlotName, SlotName] = ("blue", "green")


@pytest.fixture
async def edge(
    orchestrator: DockerOrchestrator, owner: Owner, image: Callable[[str], str], tmp_path: Path
) -> AsyncIterator[NginxEdge]:
    http, https = ReservedPort(), ReservedPort()
    ports = (http.number, https.number)
    directory = SwitchDirectory(tmp_path / "edge", owner.installation)
    door = Door("127.0.0.1", *ports, "internal", directory.token())
    settings = NginxSettings(
        installation=owner.installation,
        token=door.token,
        http_port=HTTP_PORT,
        https_port=HTTPS_PORT,
        public_https_port=https.number,
        resolver=RESOLVER,
    )
    nginx = ContainerNginx(
        orchestrator, owner, image("nginx"), directory.root, ports, secure=True, public=False
    )
    yield NginxEdge(directory, settings, door, nginx, INSIDE)
    http.release()
    https.release()


async def served(
    edge: NginxEdge, orchestrator: DockerOrchestrator, owner: Owner, image: Callable[[str], str]
) -> None:
    """Both slots run under their names, and blue is active."""
    await edge.ensure()
    assert edge.network is not None
    await edge.attach(HOST, ROUTE)
    for slot in SLOTS:
        demo = Workload(
            name=f"qt-{owner.installation[-8:]}-{slot}",
            owner=owner,
            image=image("demo"),
            networks=(Attachment(network=edge.network),),
        )
        await orchestrator.create(demo)
        await orchestrator.start(demo.ref)
    await edge.point(ROUTE, "blue", target(edge, owner, "blue"))
    with anyio.fail_after(20):
        while get(edge._door.http_port, HOST).status != 200:
            await anyio.sleep(0.1)


def target(edge: NginxEdge, owner: Owner, slot: str) -> Target:
    return edge.target(f"qt-{owner.installation[-8:]}-{slot}", 8080, 0)


async def test_it_is_started_switched_left_alone_and_comes_back_with_its_slot_when_somebody_removes_it(
    edge: NginxEdge, orchestrator: DockerOrchestrator, owner: Owner, image: Callable[[str], str]
) -> None:
    await served(edge, orchestrator, owner, image)
    assert edge.network is not None
    first = await orchestrator.inspect(edge.network)
    for slot in ("green", "blue", "green"):
        await edge.point(ROUTE, "green" if slot == "green" else "blue", target(edge, owner, slot))
        assert [probe.slot for probe in await edge.probe(HOST, count=3)] == [slot] * 3
    await edge.ensure()
    again = await orchestrator.inspect(edge.network)
    assert first is not None
    assert again is not None
    assert (again.id, again.started_at) == (first.id, first.started_at)
    assert await edge.check() == ()
    with anyio.fail_after(10):
        while await edge.connections(target(edge, owner, "green")):
            await anyio.sleep(0.1)
    await orchestrator.remove(Ref(name=edge.network, owner=owner))
    assert f"'docker logs {edge.network}'" in (await edge.check())[0]
    await edge.ensure()
    with anyio.fail_after(20):
        while (await edge.probe(HOST))[0].slot != "green":
            await anyio.sleep(0.1)
    assert await edge.check() == ()


async def test_a_file_that_somebody_broke_is_told_and_written_again_even_when_nginx_ended_over_it(
    edge: NginxEdge, orchestrator: DockerOrchestrator, owner: Owner, image: Callable[[str], str]
) -> None:
    await served(edge, orchestrator, owner, image)
    assert edge.network is not None
    written = edge.file.read_text()
    edge.file.write_text("garbage;;\n")
    assert f"{edge.file} is not as Quaymaster wrote it" in (await edge.check())[0]
    proxy = Ref(name=edge.network, owner=owner)
    await orchestrator.stop(proxy)
    await orchestrator.start(proxy)
    with anyio.fail_after(20):
        while (found := await orchestrator.inspect(edge.network)) is None or found.state != "restarting":
            await anyio.sleep(0.02)
    await edge.ensure()
    assert edge.file.read_text() == written
    with anyio.fail_after(20):
        while (await edge.probe(HOST))[0].slot != "blue":
            await anyio.sleep(0.1)
    assert await edge.check() == ()


async def test_a_host_with_certificate_files_is_served_over_tls_and_new_files_are_taken_up(
    edge: NginxEdge, orchestrator: DockerOrchestrator, owner: Owner, image: Callable[[str], str]
) -> None:
    await served(edge, orchestrator, owner, image)
    assert edge.url(HOST) == f"http://{HOST}:{edge._door.http_port}"
    folder = edge.file.parent / "certificates"
    folder.mkdir()
    first = certificate(folder)
    await edge.allow_tls(HOST)
    assert shown(edge._door.https_port) == first
    assert edge.url(HOST) == f"https://{HOST}:{edge._door.https_port}"
    assert get(edge._door.http_port, HOST).status == 308
    assert [(probe.slot, probe.secure) for probe in await edge.probe(HOST)] == [("blue", True)]
    second = certificate(folder)
    await edge.ensure()
    assert shown(edge._door.https_port) == second


async def test_a_foreign_container_of_that_name_is_not_touched(
    edge: NginxEdge, orchestrator: DockerOrchestrator, owner: Owner, image: Callable[[str], str]
) -> None:
    assert edge.network is not None
    foreign = Workload(
        name=edge.network, owner=owner.change(home="home-b"), image=image("busybox"), command=("sleep", "60")
    )
    await orchestrator.create(foreign)
    with pytest.raises(Conflict, match="not this installation's"):
        await edge.ensure()
    found = await orchestrator.inspect(edge.network)
    assert found is not None
    assert found.owner == foreign.owner


def certificate(folder: Path) -> bytes:
    """A fresh one, signed by itself, with its key as only we may read it; in DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(HOST)]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (folder / f"{HOST}.key").write_bytes(key.private_bytes(*form, plain))
    (folder / f"{HOST}.key").chmod(0o600)
    (folder / f"{HOST}.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return made.public_bytes(serialization.Encoding.DER)


def shown(port: int) -> bytes | None:
    """The certificate of an answered request."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 10) as plain:
        secure = context.wrap_socket(plain, server_hostname=HOST)
        connection = http.client.HTTPConnection(HOST)
        connection.sock = secure
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        found = secure.getpeercert(binary_form=True)
        connection.close()
        return found
