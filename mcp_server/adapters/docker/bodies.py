"""What is sent to the engine's API: values in, JSON out. Nothing here speaks to an engine."""

from __future__ import annotations

import io
import posixpath
import tarfile
from ipaddress import IPv4Network
from typing import Any

from mcp_server.domain.workloads import (
    EVERYWHERE,
    LOOPBACK,
    Attachment,
    File,
    HealthCheck,
    Limits,
    Mount,
    Network,
    Volume,
    Workload,
)

NANO = 1_000_000_000


def workload_body(workload: Workload) -> dict[str, Any]:
    """The body of POST /containers/create. Files and all networks but the first come in later."""
    body: dict[str, Any] = {
        "Image": workload.image,
        "Env": [f"{name}={value.get_secret_value()}" for name, value in sorted(workload.environment.items())],
        "Labels": workload.labels(),
        "ExposedPorts": {f"{port.container}/tcp": {} for port in workload.ports},
        "StopTimeout": workload.stop_grace,
        "HostConfig": _host(workload),
        "NetworkingConfig": {"EndpointsConfig": _first_network(workload)},
    }
    if workload.command is not None:
        body["Cmd"] = list(workload.command)
    if workload.user:
        body["User"] = workload.user
    if workload.stop_signal:
        body["StopSignal"] = workload.stop_signal
    if workload.health:
        body["Healthcheck"] = _health(workload.health)
    return body


def network_body(network: Network, subnet: IPv4Network) -> dict[str, Any]:
    """The body of POST /networks/create. A port published without an address is on loopback, too."""
    return {
        "Name": network.name,
        "CheckDuplicate": True,
        "Driver": "bridge",
        "IPAM": {"Driver": "default", "Config": [{"Subnet": str(subnet)}]},
        "Options": {"com.docker.network.bridge.host_binding_ipv4": LOOPBACK},
        "Labels": network.labels(),
    }


def volume_body(volume: Volume) -> dict[str, Any]:
    """The body of POST /volumes/create."""
    return {"Name": volume.name, "Driver": "local", "Labels": volume.labels()}


def endpoint_body(aliases: tuple[str, ...]) -> dict[str, Any]:
    """How a workload takes part in a network."""
    return {"Aliases": list(aliases)}


def archive_of(files: tuple[File, ...]) -> bytes:
    """A tar archive to be unpacked at the root. Folders on the way that do not exist yet are made, others are
    left.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for file in files:
            content = file.content.get_secret_value()
            entry = tarfile.TarInfo(posixpath.normpath(file.path).lstrip("/"))
            entry.size, entry.mode, entry.uid, entry.gid = len(content), file.mode, file.uid, file.uid
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _host(workload: Workload) -> dict[str, Any]:
    return {
        "NetworkMode": _network_mode(workload),
        "PortBindings": {
            f"{port.container}/tcp": [
                {"HostIp": EVERYWHERE if port.public else LOOPBACK, "HostPort": str(port.host or "")}
            ]
            for port in workload.ports
        },
        "Mounts": [_mount(mount) for mount in workload.mounts],
        "Tmpfs": dict.fromkeys(workload.tmpfs, "rw,noexec,nosuid,size=64m"),
        "ReadonlyRootfs": workload.read_only,
        "Init": workload.init,
        "Privileged": False,
        "CapDrop": ["ALL"],
        "CapAdd": list(workload.capabilities),
        "SecurityOpt": ["no-new-privileges"],
        "RestartPolicy": _restart(workload),
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": str(workload.logs.max_bytes), "max-file": str(workload.logs.files)},
        },
        **_limits(workload.limits),
    }


def _network_mode(workload: Workload) -> str:
    if workload.host_network:
        return "host"
    return workload.networks[0].network if workload.networks else "bridge"


def _mount(mount: Mount) -> dict[str, Any]:
    kind = "bind" if mount.source.startswith("/") else "volume"
    return {"Type": kind, "Source": mount.source, "Target": mount.target, "ReadOnly": mount.read_only}


def _restart(workload: Workload) -> dict[str, Any]:
    retries = 3 if workload.restart == "on-failure" else 0
    return {"Name": workload.restart, "MaximumRetryCount": retries}


def _limits(limits: Limits) -> dict[str, Any]:
    """Swap is bounded with memory, or the memory limit would only make a workload slow."""
    body: dict[str, Any] = {}
    if limits.memory is not None:
        body |= {"Memory": limits.memory, "MemorySwap": limits.memory}
    if limits.cpus is not None:
        body["NanoCpus"] = round(limits.cpus * NANO)
    if limits.pids is not None:
        body["PidsLimit"] = limits.pids
    if limits.shared_memory is not None:
        body["ShmSize"] = limits.shared_memory
    return body


def _health(check: HealthCheck) -> dict[str, Any]:
    return {
        "Test": ["CMD", *check.command],
        "Interval": round(check.interval * NANO),
        "Timeout": round(check.timeout * NANO),
        "Retries": check.retries,
        "StartPeriod": round(check.start_period * NANO),
    }


def _first_network(workload: Workload) -> dict[str, Any]:
    first: tuple[Attachment, ...] = workload.networks[:1]
    return {attachment.network: endpoint_body(attachment.aliases) for attachment in first}
