"""What the engine's API answered, as values. Nothing here speaks to an engine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from ipaddress import AddressValueError, IPv4Network, NetmaskValueError
from typing import Any, cast, get_args

from mcp_server.domain.redaction import without_values
from mcp_server.domain.workloads import Health, Image, Kept, Observed, Usage, WorkloadState

HEALTH_IN_STATUS = re.compile(r"\((?:health: )?(starting|healthy|unhealthy)\)")
HEALTH_LOG = 2000
NANO = 1_000_000_000


def observed(answer: Mapping[str, Any]) -> Observed:
    """From GET /containers/NAME/json."""
    state, settings = answer["State"], answer.get("NetworkSettings") or {}
    health = state.get("Health") or {}
    return Observed(
        id=answer["Id"],
        name=answer["Name"].removeprefix("/"),
        state=_state(state["Status"]),
        image=answer["Config"]["Image"],
        image_id=answer["Image"],
        labels=answer["Config"].get("Labels") or {},
        created_at=moment(answer["Created"]) or datetime.fromtimestamp(0, UTC),
        health=_health(health.get("Status")),
        ports=_bound_ports(settings.get("Ports") or {}),
        networks=tuple(sorted(settings.get("Networks") or {})),
        addresses=_addresses(settings.get("Networks") or {}),
        volumes=_volumes(answer.get("Mounts") or ()),
        exit_code=state["ExitCode"] if state["Status"] in ("exited", "dead", "restarting") else None,
        out_of_memory=bool(state.get("OOMKilled")),
        error=state.get("Error") or "",
        health_log=_last_check(health.get("Log") or (), answer["Config"].get("Env") or ()),
        restarts=answer.get("RestartCount") or 0,
        started_at=moment(state.get("StartedAt")),
        finished_at=moment(state.get("FinishedAt")),
    )


def listed(answer: Mapping[str, Any]) -> Observed:
    """From an entry of GET /containers/json."""
    health = HEALTH_IN_STATUS.search(answer.get("Status") or "")
    return Observed(
        id=answer["Id"],
        name=min(answer["Names"], key=lambda name: name.count("/")).removeprefix("/"),
        state=_state(answer["State"]),
        image=answer["Image"],
        image_id=answer["ImageID"],
        labels=answer.get("Labels") or {},
        created_at=datetime.fromtimestamp(answer["Created"], UTC),
        health=_health(health[1] if health else None),
        ports={
            port["PrivatePort"]: port["PublicPort"]
            for port in answer.get("Ports") or ()
            if port.get("PublicPort") and port.get("Type") == "tcp"
        },
        networks=tuple(sorted((answer.get("NetworkSettings") or {}).get("Networks") or {})),
        volumes=_volumes(answer.get("Mounts") or ()),
    )


def _addresses(networks: Mapping[str, Any]) -> dict[str, str]:
    return {name: one["IPAddress"] for name, one in networks.items() if one and one.get("IPAddress")}


def image(name: str, answer: Mapping[str, Any]) -> Image:
    """From GET /images/NAME/json."""
    config = answer.get("Config") or {}
    check: list[str] = (config.get("Healthcheck") or {}).get("Test") or []
    return Image(
        name=name,
        id=answer["Id"],
        digest=_digest(name, answer.get("RepoDigests") or ()),
        user=config.get("User") or "",
        has_health_check=bool(check) and check[:1] != ["NONE"],
        ports=tuple(sorted(int(port.partition("/")[0]) for port in config.get("ExposedPorts") or {})),
        volumes=tuple(sorted(config.get("Volumes") or {})),
    )


def kept_volume(answer: Mapping[str, Any]) -> Kept:
    return Kept(
        name=answer["Name"], labels=answer.get("Labels") or {}, created_at=moment(answer.get("CreatedAt"))
    )


def kept_network(answer: Mapping[str, Any]) -> Kept:
    found = [str(subnet) for subnet in subnets(answer)]
    return Kept(
        name=answer["Name"],
        labels=answer.get("Labels") or {},
        created_at=moment(answer.get("Created")),
        subnet=found[0] if found else None,
    )


def subnets(network: Mapping[str, Any]) -> list[IPv4Network]:
    """The IPv4 subnets of an entry of GET /networks."""
    found = []
    for part in (network.get("IPAM") or {}).get("Config") or ():
        try:
            found.append(IPv4Network(part.get("Subnet", ""), strict=False))
        except (AddressValueError, NetmaskValueError, ValueError):
            continue
    return found


def usage(answer: Mapping[str, Any]) -> Usage | None:
    """From GET /containers/NAME/stats. Memory without what the kernel keeps of files and would give back."""
    memory = answer.get("memory_stats") or {}
    if "usage" not in memory:
        return None
    details = memory.get("stats") or {}
    files = details.get("total_inactive_file", details.get("inactive_file", 0))
    return Usage(
        memory=max(0, memory["usage"] - files),
        memory_limit=memory.get("limit") or 0,
        cpu_seconds=answer["cpu_stats"]["cpu_usage"]["total_usage"] / NANO,
        pids=(answer.get("pids_stats") or {}).get("current") or 0,
    )


def moment(text: str | None) -> datetime | None:
    """The engine writes nanoseconds, and the year 1 for never."""
    if not text or text.startswith("0001-"):
        return None
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))


def _state(text: str) -> WorkloadState:
    """One that is being removed counts as dead."""
    return cast(WorkloadState, text) if text in get_args(WorkloadState) else "dead"


def _health(text: str | None) -> Health:
    return cast(Health, text) if text in get_args(Health) else "none"


def _bound_ports(ports: Mapping[str, Any]) -> dict[int, int]:
    return {
        int(port.partition("/")[0]): int(bindings[0]["HostPort"])
        for port, bindings in ports.items()
        if bindings and port.endswith("/tcp")
    }


def _volumes(mounts: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(sorted(mount["Name"] for mount in mounts if mount.get("Type") == "volume"))


def _last_check(entries: Iterable[Mapping[str, Any]], environment: Iterable[str]) -> str:
    """What the newest check wrote. It runs with the container's variables: their values are hidden, then it is cut."""
    outputs = [entry.get("Output") or "" for entry in entries]
    values = (pair.partition("=")[2] for pair in environment)
    return without_values(outputs[-1], values)[-HEALTH_LOG:] if outputs else ""


def _digest(name: str, digests: Iterable[str]) -> str | None:
    """The digest under this repository's name first: an image may be known under several."""
    repository = re.sub(r"(?::[^/@]*)?(?:@.*)?$", "", name)
    found = sorted(digests, key=lambda digest: (digest.partition("@")[0] != repository, digest))
    return found[0] if found else None
