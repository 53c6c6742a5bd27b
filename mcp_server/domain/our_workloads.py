"""How our own workloads are put together: a project's database, and a deployed version in its slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256

from pydantic import SecretBytes, SecretStr

from mcp_server.domain.slots import SlotName
from mcp_server.domain.teams import EnvironmentName
from mcp_server.domain.workloads import (
    LABEL,
    LOOPBACK,
    MB,
    Attachment,
    Capability,
    File,
    HealthCheck,
    Image,
    Limits,
    Mount,
    Owner,
    PublishedPort,
    Workload,
)

POSTGRES_PORT = 5432
POSTGRES_DATA = "/var/lib/postgresql/data"
SUPERUSER_FILE = "/etc/quaymaster/superuser"
FIRST_STEPS_FILE = "/docker-entrypoint-initdb.d/10-quaymaster.sql"
POSTGRES_CAPABILITIES: tuple[Capability, ...] = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID")
"""The image begins as root, takes its data directory over and gives root up."""

DATABASE_LIMITS = Limits(memory=512 * MB, cpus=1, pids=200, shared_memory=128 * MB)
DATABASE_CHECK_SECONDS = 30.0
"""Each check starts a process in the container: of fifty servers they would take a whole core every five seconds."""
SLOT_LIMITS = Limits(memory=512 * MB, cpus=1, pids=512)
ROOT_IMAGE_CAPABILITIES: tuple[Capability, ...] = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "KILL",
    "NET_BIND_SERVICE",
    "SETGID",
    "SETUID",
)
"""What images that begin as root need in order to give it up; an image with a user of its own gets none."""


def database_workload(
    *,
    name: str,
    owner: Owner,
    image: str,
    volume: str,
    port: int,
    superuser_verifier: str,
    first_steps: str = "",
    networks: Sequence[Attachment] = (),
    settings: Mapping[str, str] | None = None,
    limits: Limits = DATABASE_LIMITS,
    kind: str = "database",
    extra_labels: Mapping[str, str] | None = None,
) -> Workload:
    """A PostgreSQL server from an image with the public image's contract (16 and 17; one volume for its
    data).

    No password enters it: `superuser_verifier` is a SCRAM verifier (`domain.scram.verifier`), and
    `first_steps`, SQL run once on an empty volume before the server listens, takes verifiers as well. Without
    first steps the only role is `postgres`, which inside the workload needs no password (socket) and through
    the port does.
    """
    files = [File(path=SUPERUSER_FILE, content=SecretBytes(superuser_verifier.encode()), mode=0o444)]
    if first_steps:
        files.append(File(path=FIRST_STEPS_FILE, content=SecretBytes(first_steps.encode()), mode=0o444))
    options = [part for key, value in sorted((settings or {}).items()) for part in ("-c", f"{key}={value}")]
    return Workload(
        name=name,
        owner=owner,
        kind=kind,
        image=image,
        command=("postgres", *options),
        environment=_plain({"PGDATA": POSTGRES_DATA, "POSTGRES_PASSWORD_FILE": SUPERUSER_FILE}),
        files=tuple(files),
        networks=tuple(networks),
        ports=(PublishedPort(container=POSTGRES_PORT, host=port),),
        mounts=(Mount(source=volume, target=POSTGRES_DATA),),
        limits=limits,
        capabilities=POSTGRES_CAPABILITIES,
        health=HealthCheck(
            command=("pg_isready", "-q", "-h", LOOPBACK, "-p", str(POSTGRES_PORT), "-U", "postgres"),
            interval=DATABASE_CHECK_SECONDS,
            retries=2,
        ),
        restart="unless-stopped",
        stop_signal="SIGINT",
        stop_grace=30,
        extra_labels=extra_labels or {},
    )


def slot_workload(
    *,
    project: str,
    environment: EnvironmentName,
    slot: SlotName,
    owner: Owner,
    image: Image,
    container_port: int,
    host_port: int,
    network: str,
    variables: Mapping[str, str],
    limits: Limits = SLOT_LIMITS,
    stop_grace: int = 30,
    extra_labels: Mapping[str, str] | None = None,
) -> Workload:
    """A deployed version of a project in one slot. `PORT` is set unless the variables say otherwise.

    Its aliases on the project's network are `{environment}-{slot}` and its name, so that the proxy and its
    neighbours find it.
    """
    name = slot_workload_name(project, environment, slot)
    labels = {f"{LABEL}.environment": environment, f"{LABEL}.slot": slot, f"{LABEL}.name": project}
    return Workload(
        name=name,
        owner=owner,
        kind="slot",
        image=image.id,
        environment=_plain({"PORT": str(container_port), **variables}),
        networks=(Attachment(network=network, aliases=(f"{environment}-{slot}",)),),
        ports=(PublishedPort(container=container_port, host=host_port),),
        limits=limits,
        capabilities=ROOT_IMAGE_CAPABILITIES if image.runs_as_root else (),
        init=True,
        restart="unless-stopped",
        stop_grace=stop_grace,
        extra_labels={**(extra_labels or {}), **labels},
    )


def slot_workload_name(project: str, environment: EnvironmentName, slot: SlotName) -> str:
    return f"{LABEL}-{project}-{environment}-{slot}"


def project_network_name(project: str) -> str:
    return f"{LABEL}-net-{project}"


def own_name(plain: str, owner: Owner) -> str:
    """Where the plain name is somebody else's: the same with a mark that no other project anywhere has."""
    mark = sha256("\0".join((owner.installation, owner.home, owner.project)).encode()).hexdigest()[:8]
    return f"{plain}-{mark}"


def _plain(variables: Mapping[str, str]) -> dict[str, SecretStr]:
    return {name: SecretStr(value) for name, value in variables.items()}
