"""Workloads on one Docker engine: the port `Orchestrator` by the engine's API."""

from __future__ import annotations

import asyncio
import builtins
import json
import re
import uuid
from collections.abc import AsyncIterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from ipaddress import IPv4Network
from itertools import islice
from typing import Any

import anyio

from mcp_server.adapters.docker import answers, bodies, images
from mcp_server.adapters.docker.detection import Detection
from mcp_server.adapters.docker.engine import SLOW, Engine
from mcp_server.adapters.docker.streams import read_logs, run_inside
from mcp_server.domain.errors import Conflict, Invalid, NotFound, QuaymasterError, Unavailable
from mcp_server.domain.workloads import (
    LABEL,
    NAME,
    EngineStatus,
    Executed,
    File,
    Image,
    Kept,
    Logs,
    Network,
    Observed,
    Owner,
    Ref,
    Usage,
    Volume,
    Workload,
    free_subnets,
    owner_of,
)
from mcp_server.ports.orchestrator import Progress, Sink

SUBNETS = IPv4Network("10.64.0.0/12")
SUBNET_PREFIX = 26
SUBNET_TRIES = 16
CLEAN_UP = 30.0
"""Seconds for undoing what a failed or cancelled creation made."""
DOUBLES = 10.0
"""Seconds that two networks of one name may be there."""
BETWEEN_LOOKS = 0.05
MAX_TAIL = 5000
MADE = f"{LABEL}.made"
"""A label that tells which of several calls at one time made a volume."""


class DockerOrchestrator:
    """`subnets` is the range from which project networks get theirs, each of `prefix` length."""

    def __init__(
        self, address: str | None = None, *, subnets: IPv4Network = SUBNETS, prefix: int = SUBNET_PREFIX
    ) -> None:
        self._engine = Engine(address)
        self._detection = Detection(self._engine)
        self._subnets = subnets
        self._prefix = prefix

    # -- the engine ------------------------------------------------------------------------------------

    async def detect(self, *, refresh: bool = False) -> EngineStatus:
        return await self._detection.status(refresh)

    async def close(self) -> None:
        await self._engine.close()

    # -- images ------------------------------------------------------------------------------------------

    async def ensure_image(self, name: str, progress: Progress | None = None) -> Image:
        return await images.ensure(self._engine, name, progress)

    async def build_image(
        self,
        tag: str,
        context: bytes | AsyncIterable[bytes],
        *,
        owner: Owner,
        dockerfile: str = "Dockerfile",
        progress: Progress | None = None,
    ) -> Image:
        return await images.build(
            self._engine, tag, context, owner=owner, dockerfile=dockerfile, progress=progress
        )

    async def remove_image(self, tag: str, owner: Owner) -> None:
        await images.remove(self._engine, tag, owner)

    # -- networks ------------------------------------------------------------------------------------------

    async def ensure_network(self, network: Network) -> None:
        existing = await self._networks_named(network.name)
        if not existing:
            await self._make_network(network)
            existing = await self._networks_named(network.name)
        _check_owner(network, existing[0].get("Labels") or {} if existing else {})
        for double in existing[1:]:
            await self._drop_double(network, double)

    async def remove_network(self, network: Ref) -> None:
        for found in await self._networks_named(network.name):
            _check_owner(network, found.get("Labels") or {})
            with suppress(NotFound):
                await self._engine.send("DELETE", f"networks/{found['Id']}", seconds=SLOW)

    async def networks(self, labels: Mapping[str, str]) -> Sequence[Kept]:
        found = await self._engine.send("GET", "networks", params=_filter(labels))
        return sorted((answers.kept_network(network) for network in found), key=lambda kept: kept.name)

    async def _networks_named(self, name: str) -> builtins.list[dict[str, Any]]:
        """The oldest first. The engine may hold several of one name; its filter matches parts of names."""
        params = {"filters": {"name": [f"^{re.escape(name)}$"]}}
        found = await self._engine.send("GET", "networks", params=params)
        same = [network for network in found if network["Name"] == name]
        return sorted(same, key=lambda network: (network["Created"], network["Id"]))

    async def _make_network(self, network: Network) -> None:
        """With the next free subnet; another server may take one at the same time."""
        everything = await self._engine.send("GET", "networks")
        taken = [subnet for other in everything for subnet in answers.subnets(other)]
        for subnet in islice(free_subnets(self._subnets, self._prefix, taken, network.name), SUBNET_TRIES):
            try:
                body = bodies.network_body(network, subnet)
                await self._engine.send("POST", "networks/create", body=body, seconds=SLOW)
                return
            except Conflict as error:
                if "overlaps" not in error.message:
                    return
        raise Unavailable(
            f"No free subnet of /{self._prefix} is left in {self._subnets}.",
            next="Remove networks that are no longer needed, or widen the range of subnets.",
        )

    async def _drop_double(self, network: Network, double: Mapping[str, Any]) -> None:
        """Two servers may have made it at one time; all of them keep the oldest."""
        if network.owner.owns(double.get("Labels") or {}):
            with suppress(NotFound, Conflict):
                await self._engine.send("DELETE", f"networks/{double['Id']}", seconds=SLOW)

    async def _once_resolved(self, method: str, path: str, **fields: Any) -> Any:
        """Sent again while a network's name means two: whoever made the second one takes it away at once."""
        for _ in range(round(DOUBLES / BETWEEN_LOOKS)):
            try:
                return await self._engine.send(method, path, **fields)
            except Invalid as error:
                if "is ambiguous" not in error.message:
                    raise
                await asyncio.sleep(BETWEEN_LOOKS)
        return await self._engine.send(method, path, **fields)

    # -- volumes -------------------------------------------------------------------------------------------

    async def ensure_volume(self, volume: Volume) -> bool:
        """The engine answers with the existing volume, as it is, when the name is taken."""
        body, mark = bodies.volume_body(volume), uuid.uuid4().hex
        body["Labels"][MADE] = mark
        labels = (await self._engine.send("POST", "volumes/create", body=body, seconds=SLOW))["Labels"] or {}
        _check_owner(volume, labels)
        return bool(labels.get(MADE) == mark)

    async def remove_volume(self, volume: Ref) -> None:
        with suppress(NotFound):
            found = await self._engine.send("GET", f"volumes/{volume.name}")
            _check_owner(volume, found.get("Labels") or {})
            await self._engine.send("DELETE", f"volumes/{volume.name}", seconds=SLOW)

    async def volumes(self, labels: Mapping[str, str]) -> Sequence[Kept]:
        found = await self._engine.send("GET", "volumes", params=_filter(labels))
        kept = (answers.kept_volume(volume) for volume in found["Volumes"] or ())
        return sorted(kept, key=lambda volume: volume.name)

    # -- the life of a workload ------------------------------------------------------------------------------

    async def create(self, workload: Workload) -> str:
        """The making runs on when the caller is cancelled: only its end tells what is to be removed."""
        making = asyncio.create_task(self._make(workload))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            with anyio.move_on_after(CLEAN_UP, shield=True), suppress(QuaymasterError):
                await self._delete(await making)
            raise

    async def start(self, workload: Ref) -> None:
        container = (await self._own(workload))["Id"]
        await self._once_resolved("POST", f"containers/{container}/start", seconds=SLOW)

    async def stop(self, workload: Ref, *, grace: int | None = None) -> None:
        found = await self._own(workload)
        seconds = grace if grace is not None else found["Config"].get("StopTimeout") or 10
        await self._engine.send(
            "POST", f"containers/{found['Id']}/stop", params={"t": seconds}, seconds=SLOW + seconds
        )

    async def remove(self, workload: Ref) -> None:
        with suppress(NotFound):
            await self._delete((await self._own(workload))["Id"])

    async def rename(self, workload: Ref, name: str) -> None:
        container = (await self._own(workload))["Id"]
        _check_name(name)
        try:
            await self._engine.send("POST", f"containers/{container}/rename", params={"name": name})
        except Conflict as error:
            raise await self._taken(Ref(name=name, owner=workload.owner), error) from error

    async def connect(self, workload: Ref, network: Ref, aliases: Sequence[str] = ()) -> None:
        found = await self._own(workload)
        joined = (found["NetworkSettings"].get("Networks") or {}).get(network.name)
        if joined is not None and set(aliases) <= set(joined.get("Aliases") or ()):
            return
        if joined is not None:
            await self.disconnect(workload, network)
        await self._join(found["Id"], network, tuple(aliases))

    async def disconnect(self, workload: Ref, network: Ref) -> None:
        found = await self._own(workload)
        joined = (found["NetworkSettings"].get("Networks") or {}).get(network.name)
        if joined is None:
            return
        body = {"Container": found["Id"], "Force": True}
        with suppress(NotFound):
            place = joined.get("NetworkID") or network.name
            await self._engine.send("POST", f"networks/{place}/disconnect", body=body, seconds=SLOW)

    async def _make(self, workload: Workload) -> str:
        """Created with its first network; then the others and the files, or nothing stays."""
        await self._check_parts(workload)
        body, params = bodies.workload_body(workload), {"name": workload.name}
        try:
            made = await self._once_resolved(
                "POST", "containers/create", params=params, body=body, seconds=SLOW
            )
        except Conflict as error:
            raise await self._taken(workload, error) from error
        container: str = made["Id"]
        try:
            for attachment in workload.networks[1:]:
                place = Ref(name=attachment.network, owner=workload.owner)
                await self._join(container, place, attachment.aliases)
            if workload.files:
                await self._put(container, workload.files)
        except BaseException:
            with anyio.move_on_after(CLEAN_UP, shield=True), suppress(QuaymasterError):
                await self._delete(container)
            raise
        return container

    async def _check_parts(self, workload: Workload) -> None:
        """The engine would make a missing volume by itself, without a label. A project's parts may serve
        another's workload (the proxy joins every network), another home's never.
        """
        for mount in workload.mounts:
            if not mount.source.startswith("/"):
                volume = await self._engine.send("GET", f"volumes/{mount.source}")
                _check_home(workload.owner, mount.source, volume.get("Labels") or {})
        for attachment in workload.networks:
            found = await self._networks_named(attachment.network)
            if not found:
                raise NotFound(f"There is no network {attachment.network}.")
            _check_home(workload.owner, attachment.network, found[0].get("Labels") or {})

    async def _join(self, container: str, network: Ref, aliases: tuple[str, ...]) -> None:
        found = await self._networks_named(network.name)
        if not found:
            raise NotFound(f"There is no network {network.name}.")
        _check_home(network.owner, network.name, found[0].get("Labels") or {})
        body = {"Container": container, "EndpointConfig": bodies.endpoint_body(aliases)}
        await self._engine.send("POST", f"networks/{found[0]['Id']}/connect", body=body, seconds=SLOW)

    async def _put(self, container: str, files: tuple[File, ...]) -> None:
        archive = bodies.archive_of(files)
        await self._engine.send(
            "PUT", f"containers/{container}/archive", params={"path": "/"}, archive=archive, seconds=SLOW
        )

    async def _delete(self, container: str) -> None:
        """Gone when it returns, also when somebody else is removing it already."""
        try:
            await self._engine.send(
                "DELETE", f"containers/{container}", params={"force": True, "v": True}, seconds=SLOW
            )
        except NotFound:
            return
        except Conflict:
            await self._gone(container)

    async def _gone(self, container: str) -> None:
        for _ in range(round(CLEAN_UP / BETWEEN_LOOKS)):
            if await self.inspect(container) is None:
                return
            await asyncio.sleep(BETWEEN_LOOKS)
        raise Unavailable("The Docker engine does not end removing a workload.")

    # -- looking -------------------------------------------------------------------------------------------

    async def inspect(self, name: str) -> Observed | None:
        _check_name(name)
        try:
            return answers.observed(await self._engine.send("GET", f"containers/{name}/json"))
        except NotFound:
            return None

    async def list(self, labels: Mapping[str, str]) -> Sequence[Observed]:
        params = {"all": True, **_filter(labels)}
        found = await self._engine.send("GET", "containers/json", params=params)
        return sorted((answers.listed(entry) for entry in found), key=lambda one: one.name)

    async def wait_exit(self, workload: Ref, *, timeout: float) -> int:
        container = (await self._own(workload))["Id"]
        try:
            answer = await self._engine.send("POST", f"containers/{container}/wait", seconds=timeout)
        except Unavailable as error:
            raise Unavailable(f"{workload.name} has not ended within {timeout:g} seconds.") from error
        return int(answer["StatusCode"])

    async def logs(
        self, workload: Ref, *, tail: int = 200, since: datetime | None = None, max_bytes: int = 65536
    ) -> Logs:
        container = (await self._own(workload))["Id"]
        params: dict[str, Any] = {"stdout": True, "stderr": True, "tail": str(min(max(tail, 0), MAX_TAIL))}
        if since is not None:
            params["since"] = f"{since.timestamp():.6f}"
        return await read_logs(self._engine, container, params, max_bytes)

    async def usage(self, workload: Ref) -> Usage | None:
        container = (await self._own(workload))["Id"]
        return answers.usage(
            await self._engine.send("GET", f"containers/{container}/stats", params={"stream": False})
        )

    async def exec(
        self,
        workload: Ref,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        user: str = "",
        stdin: bytes | AsyncIterable[bytes] | None = None,
        stdout: Sink | None = None,
        max_output: int = 1_048_576,
        timeout: float = 60,
    ) -> Executed:
        container = (await self._own(workload))["Id"]
        request = {
            "AttachStdin": stdin is not None,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": False,
            "Cmd": [*argv],
            "Env": [f"{name}={value}" for name, value in (environment or {}).items()],
            "User": user,
        }
        return await run_inside(
            self._engine,
            container,
            request,
            stdin=stdin,
            stdout=stdout,
            max_output=max_output,
            seconds=timeout,
        )

    # -- whose -----------------------------------------------------------------------------------------------

    async def _own(self, workload: Ref) -> dict[str, Any]:
        """What the engine says of it, once it is known to be ours. What follows acts on its id, not on its
        name.
        """
        try:
            found: dict[str, Any] = await self._engine.send("GET", f"containers/{workload.name}/json")
        except NotFound as error:
            raise NotFound(f"There is no workload {workload.name}.") from error
        if found["Name"].removeprefix("/") != workload.name and found["Id"] != workload.name:
            raise NotFound(f"There is no workload {workload.name}.")
        _check_owner(workload, found["Config"].get("Labels") or {})
        return found

    async def _taken(self, wanted: Ref, error: Conflict) -> Conflict:
        """Whose the name is; the engine's own words when nobody has it (any more)."""
        found = await self.inspect(wanted.name)
        if found is None:
            return error
        whose = "ours" if wanted.owner.owns(found.labels) else "foreign"
        return Conflict(f"The name {wanted.name} is taken on this engine.", owner=whose)


def _check_owner(wanted: Ref, labels: Mapping[str, str]) -> None:
    if not wanted.owner.owns(labels):
        raise Conflict(
            f"{wanted.name} on this engine belongs to somebody else; it is left alone.", owner="foreign"
        )


def _check_home(owner: Owner, name: str, labels: Mapping[str, str]) -> None:
    found = owner_of(labels)
    if found is None or (found.installation, found.home) != (owner.installation, owner.home):
        raise Conflict(f"{name} on this engine belongs to somebody else; it is left alone.", owner="foreign")


def _check_name(name: str) -> None:
    if not re.match(NAME, name):
        raise Invalid.field("name", "letters, digits, '_', '.' and '-', beginning with a letter or digit")


def _filter(labels: Mapping[str, str]) -> dict[str, Any]:
    return {"filters": json.dumps({"label": [f"{name}={value}" for name, value in sorted(labels.items())]})}
