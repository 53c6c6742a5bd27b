"""What runs on an engine: workloads, networks and volumes as values. `our_workloads` puts ours together.

Nothing here knows an engine's API. A workload is wanted; `Observed` is what an engine said about one. Whose a
thing is, its labels say: installation, home and project. Names alone prove nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from ipaddress import IPv4Network
from typing import Literal, Self

from pydantic import Field, SecretBytes, SecretStr, model_validator

from mcp_server.domain.errors import Invalid
from mcp_server.domain.records import Moment, Value

LABEL = "quaymaster"
SHARED = "-"
"""The project of what belongs to no single project: standbys, the shared server, the proxy."""

NAME = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,199}$"
LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - the edge is there to be reached
MB = 1024 * 1024

MAX_IMAGE = 500
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = r"(?:localhost|[a-zA-Z0-9][a-zA-Z0-9-]*(?:\.[a-zA-Z0-9-]+)+|[a-zA-Z0-9-]+(?=:[0-9]))(?::[0-9]{1,5})?"
IMAGE = re.compile(
    rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::(?P<tag>\w[\w.-]{{0,127}}))?(?:@(?P<digest>sha256:[0-9a-f]{{64}}))?",
    re.ASCII,
)
IMAGE_ID = re.compile(r"sha256:[0-9a-f]{64}")

WorkloadState = Literal["created", "running", "restarting", "paused", "exited", "dead"]
Health = Literal["none", "starting", "healthy", "unhealthy"]
Restart = Literal["no", "on-failure", "unless-stopped"]
Capability = Literal["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"]

# -- whose -------------------------------------------------------------------------------------------------


class Owner(Value):
    """Whose a thing on an engine is. `project` is the project's uid, or SHARED."""

    installation: str = Field(min_length=1)
    home: str = Field(min_length=1)
    project: str = Field(default=SHARED, min_length=1)

    def labels(self) -> dict[str, str]:
        return {
            f"{LABEL}.installation": self.installation,
            f"{LABEL}.home": self.home,
            f"{LABEL}.project": self.project,
        }

    def owns(self, labels: Mapping[str, str]) -> bool:
        return owner_of(labels) == self


def owner_of(labels: Mapping[str, str]) -> Owner | None:
    """None for what no Quaymaster made."""
    found = [labels.get(f"{LABEL}.{part}") for part in ("installation", "home", "project")]
    if not all(found):
        return None
    installation, home, project = found
    return Owner(installation=str(installation), home=str(home), project=str(project))


class Ref(Value):
    """A thing by its name, together with who must own it for it to be touched."""

    name: str = Field(pattern=NAME)
    owner: Owner


# -- what is wanted ----------------------------------------------------------------------------------------


class Network(Ref):
    """A network that workloads join; its subnet comes from the operator's range."""

    kind: str = "project"

    def labels(self) -> dict[str, str]:
        return {**self.owner.labels(), f"{LABEL}.kind": self.kind}


class Volume(Ref):
    kind: str = "data"

    def labels(self) -> dict[str, str]:
        return {**self.owner.labels(), f"{LABEL}.kind": self.kind}


class Attachment(Value):
    """A network by name, and the names under which its other members find the workload."""

    network: str = Field(pattern=NAME)
    aliases: tuple[str, ...] = ()


class PublishedPort(Value):
    """A TCP port on 127.0.0.1 of the engine's host. 0: the engine chooses.

    `public` is for the edge alone, whose visitors come from elsewhere: the port is open on every address.
    """

    container: int = Field(ge=1, le=65535)
    host: int = Field(ge=0, le=65535)
    public: bool = False


class Mount(Value):
    """A volume by name, or a directory of the host by its absolute path."""

    source: str = Field(pattern=r"^(?:/[^\x00:]*|[a-zA-Z0-9][a-zA-Z0-9_.-]*)$")
    target: str = Field(pattern=r"^/[^\x00:]+$")
    read_only: bool = False


class File(Value):
    """A file put into the workload before it starts: the way for secrets, which then stand in no argument and
    no inspection.

    A file below a tmpfs of the workload would be hidden by it.
    """

    path: str = Field(pattern=r"^/[^\x00]*[^/\x00]$")
    content: SecretBytes
    mode: int = Field(default=0o400, ge=0, le=0o777)
    uid: int = Field(default=0, ge=0)


class Limits(Value):
    """`memory` in bytes, without swap on top; `cpus` in cores; `shared_memory` (/dev/shm) in bytes."""

    memory: int | None = Field(default=None, ge=6 * MB)
    cpus: float | None = Field(default=None, gt=0)
    pids: int | None = Field(default=None, ge=1)
    shared_memory: int | None = Field(default=None, ge=1)


class HealthCheck(Value):
    """A command run inside. Times in seconds. Failures in the first `start_period` seconds do not count."""

    command: tuple[str, ...] = Field(min_length=1)
    interval: float = Field(default=5, ge=0.001)
    timeout: float = Field(default=3, ge=0.001)
    retries: int = Field(default=3, ge=1)
    start_period: float = Field(default=30, ge=0.001)


class LogRotation(Value):
    max_bytes: int = Field(default=10 * MB, ge=1024)
    files: int = Field(default=3, ge=1)


class Workload(Ref):
    """One container on one engine. The first network is joined at creation, the others before the start.

    `command` None: the image's own. `user` "": the image's own. `health` None: the image's own check if it
    has one. `init`: a small PID 1 that passes signals on and collects orphans. `host_network`: no network of its
    own but the host's, for a client of one of its servers. `environment` can be read by whoever may inspect
    the workload on the engine; what must not be read there goes into `files`.
    """

    kind: str = "workload"
    image: str = Field(min_length=1)
    command: tuple[str, ...] | None = None
    environment: Mapping[str, SecretStr] = Field(default_factory=dict)
    files: tuple[File, ...] = ()
    networks: tuple[Attachment, ...] = ()
    host_network: bool = False
    ports: tuple[PublishedPort, ...] = ()
    mounts: tuple[Mount, ...] = ()
    tmpfs: tuple[str, ...] = ()
    limits: Limits = Limits()
    capabilities: tuple[Capability, ...] = ()
    user: str = ""
    read_only: bool = False
    init: bool = False
    health: HealthCheck | None = None
    restart: Restart = "unless-stopped"
    logs: LogRotation = LogRotation()
    stop_signal: str | None = None
    stop_grace: int = Field(default=10, ge=0)
    extra_labels: Mapping[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _files_can_be_put(self) -> Self:
        targets = [mount.target.rstrip("/") + "/" for mount in self.mounts if not mount.read_only]
        if self.read_only and any(not file.path.startswith(tuple(targets)) for file in self.files):
            raise ValueError("with a read-only root, files can only be put into volumes")
        return self

    @property
    def ref(self) -> Ref:
        return Ref(name=self.name, owner=self.owner)

    def labels(self) -> dict[str, str]:
        return {**self.extra_labels, **self.owner.labels(), f"{LABEL}.kind": self.kind}


# -- what is ----------------------------------------------------------------------------------------------


class EngineStatus(Value):
    """`reason` says why there is none, and `remedy` what to do about it, for a person; `silent`: because it did not
    answer, and may only be busy. `memory` in bytes and `cpus` are the engine's host's, if it said.
    """

    available: bool
    address: str
    version: str | None = None
    api_version: str | None = None
    reason: str | None = None
    remedy: str | None = None
    silent: bool = False
    memory: int | None = None
    cpus: int | None = None


class Image(Value):
    """`id` names the content on this engine; `digest` (name@sha256:...) names it in its registry, None for a
    local build.
    """

    name: str
    id: str
    digest: str | None = None
    user: str = ""
    has_health_check: bool = False
    ports: tuple[int, ...] = ()
    volumes: tuple[str, ...] = ()

    @property
    def runs_as_root(self) -> bool:
        return self.user.partition(":")[0] in ("", "0", "root")


class Observed(Value):
    """A workload as the engine tells it. `ports` maps a port inside to the one on the host while it runs.
    `addresses` maps a network to the workload's IPv4 address in it.

    `image_id` is the content that runs, whatever its name means by now. `error` is the engine's word on a
    failed start. `health_log` is the output of the newest check, without the values of its variables. In a listing
    the fields marked with * stay at their defaults.
    """

    id: str
    name: str
    state: WorkloadState
    image: str
    image_id: str
    labels: Mapping[str, str]
    created_at: Moment
    health: Health = "none"
    ports: Mapping[int, int] = Field(default_factory=dict)
    networks: tuple[str, ...] = ()
    addresses: Mapping[str, str] = Field(default_factory=dict)
    """*"""
    volumes: tuple[str, ...] = ()
    exit_code: int | None = None
    """*"""
    out_of_memory: bool = False
    """*"""
    error: str = ""
    """*"""
    health_log: str = ""
    """*"""
    restarts: int = 0
    """*"""
    started_at: Moment | None = None
    """*"""
    finished_at: Moment | None = None
    """*"""

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def owner(self) -> Owner | None:
        return owner_of(self.labels)

    @property
    def kind(self) -> str | None:
        return self.labels.get(f"{LABEL}.kind")


class Kept(Value):
    """A volume or a network as the engine lists it. `subnet` is a network's."""

    name: str
    labels: Mapping[str, str]
    created_at: Moment | None = None
    subnet: str | None = None

    @property
    def owner(self) -> Owner | None:
        return owner_of(self.labels)


class Logs(Value):
    """The newest lines of standard output and error, in the engine's order. Untrusted text."""

    text: str = ""
    truncated: bool = False


class Executed(Value):
    """What a command inside a workload did. `truncated`: output was collected and there was more than the
    bound.
    """

    exit_code: int
    stdout: bytes = b""
    stderr: str = ""
    truncated: bool = False


class Usage(Value):
    """`memory` and `memory_limit` in bytes, `cpu_seconds` since the start."""

    memory: int
    memory_limit: int
    cpu_seconds: float
    pids: int


# -- subnets ----------------------------------------------------------------------------------------------


def free_subnets(
    pool: IPv4Network, prefix: int, taken: Sequence[IPv4Network], name: str
) -> Iterator[IPv4Network]:
    """The subnets of `pool` that overlap nothing taken, each once, beginning at a place that depends on the
    name.

    Two servers that make networks at one time thereby rarely try the same one.
    """
    count = 2 ** (prefix - pool.prefixlen)
    size = 2 ** (32 - prefix)
    first = int.from_bytes(sha256(name.encode()).digest()[:8]) % count
    for step in range(count):
        base = int(pool.network_address) + (first + step) % count * size
        subnet = IPv4Network((base, prefix))
        if not any(subnet.overlaps(other) for other in taken):
            yield subnet


# -- names ----------------------------------------------------------------------------------------------


def image_name(text: str) -> str:
    """An image's name as engines and registries take it; without tag and digest it means `latest`.

    Raises Invalid for everything else, so that a name leads nowhere but to an image.
    """
    if IMAGE_ID.fullmatch(text):
        return text
    match = IMAGE.fullmatch(text) if len(text) <= MAX_IMAGE else None
    if match is None:
        raise Invalid.field("image", "an image name such as registry/name:tag or name@sha256:digest")
    return text if match["tag"] or match["digest"] else f"{text}:latest"
