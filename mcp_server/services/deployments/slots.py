"""Containers of slots on this home's engine: started, asked, drained and taken away.

Nothing here decides which slot; a deployment or a rollback does, and has the slot pair to itself meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import anyio
from pydantic import SecretStr

from mcp_server.domain.databases import Site
from mcp_server.domain.deployments import Deployment, Release
from mcp_server.domain.errors import (
    Conflict,
    Invalid,
    NotFound,
    QuaymasterError,
    Unavailable,
)
from mcp_server.domain.hosts import environment_host, preview_host
from mcp_server.domain.our_workloads import slot_workload
from mcp_server.domain.redaction import redacted_text, without_values
from mcp_server.domain.routes import Preview, Target
from mcp_server.domain.teams import EnvironmentName
from mcp_server.domain.wording import counted
from mcp_server.domain.workloads import LABEL, MB, Image, Limits, Observed, Ref, Workload
from mcp_server.ports.databases import Machine
from mcp_server.ports.edge import Edge
from mcp_server.ports.orchestrator import Orchestrator
from mcp_server.ports.readiness import Readiness
from mcp_server.ports.store import Store
from mcp_server.services.deployments.berths import Berth
from mcp_server.services.deployments.slot_ports import PORT_TRIES, SlotPorts
from mcp_server.services.project_networks import ProjectNetworks
from mcp_server.services.works import Tell, nobody

log = logging.getLogger(__name__)
Step = Callable[[str], None]
"""Told each named step as it is passed; tests end the process there."""

Variables = Mapping[str, SecretStr]
Health = Literal["healthy", "unhealthy", "starting", "missing", "stopped"]

DEPLOYMENT = f"{LABEL}.deployment"
"""The label that names the deployment that a container belongs to."""

LOOK_PAUSE = 0.1
ANSWER_SECONDS = 5.0
LAST_LINES = 20


def _ranges() -> Mapping[EnvironmentName, range]:
    return {
        "production": range(4100, 4500),
        "staging": range(4500, 5000),
        "preview": range(5000, 5500),
    }


@dataclass(frozen=True, slots=True)
class SlotOptions:
    """`drain_seconds`: the longest wait for open connections before a slot's container goes, and then again for
    the application to end after SIGTERM.
    """

    base_domain: str = "localhost"
    ports: Mapping[EnvironmentName, range] = field(default_factory=_ranges)
    drain_seconds: float = 30.0


class Seen(NamedTuple):
    """`deployment` is the one whose container it is; `restarts`: how often it ended by itself and was started
    again.
    """

    health: Health
    reason: str | None = None
    deployment: str | None = None
    image_id: str | None = None
    restarts: int = 0


class Slots:
    def __init__(
        self,
        store: Store,
        engine: Orchestrator,
        edge: Edge,
        readiness: Readiness,
        machine: Machine,
        site: Site,
        options: SlotOptions,
        step: Step,
    ) -> None:
        self._engine = engine
        self._networks = ProjectNetworks(engine, site)
        self._readiness = readiness
        self.ports = SlotPorts(store, machine, site, options.ports)
        self._step = step
        self.edge = edge
        self.site = site
        self.options = options

    # -- names -----------------------------------------------------------------------------------------

    def ref(self, berth: Berth) -> Ref:
        return Ref(name=berth.name, owner=self.site.owner(berth.uid))

    def host(self, berth: Berth) -> str:
        return environment_host(berth.project, berth.environment, self.options.base_domain)

    def preview_host(self, berth: Berth) -> str:
        return preview_host(berth.project, berth.environment, berth.slot, self.options.base_domain)

    def target(self, berth: Berth, container_port: int, port: int) -> Target:
        return self.edge.target(berth.name, container_port, port)

    # -- starting ----------------------------------------------------------------------------------------

    async def image(self, deployment: Deployment, tell: Tell = nobody) -> Image:
        """The content that was deployed before, else what the image's name means now.

        Raises Conflict when the recorded content is no longer to be had.
        """
        release = deployment.release
        name = deployment.image or ""
        if release is None or release.image_id is None:
            return await self._engine.ensure_image(name, tell)
        for known in (release.image_id, release.image_digest):
            if known is not None:
                try:
                    found = await self._engine.ensure_image(known, tell)
                except QuaymasterError as error:
                    log.info("the image of %s is not there as %s: %s", deployment.id, known, error.message)
                    continue
                if found.id == release.image_id:
                    return found
        raise Conflict(
            f"the image of deployment {deployment.id} is no longer on this engine, nor in its registry",
            next="Deploy that version again with deploy_project, then promote it.",
        )

    async def start(
        self, berth: Berth, deployment: Deployment, release: Release, image: Image, variables: Variables
    ) -> int:
        """A fresh container of the deployment in an empty berth; its port on loopback.

        Raises QuotaExceeded when the environment's ports are all taken.
        """
        network = await self._networks.ensure(berth.project, berth.uid)
        avoid: set[int] = set()
        for _ in range(PORT_TRIES):
            port = await self.ports.take(berth, avoid)
            self._step("slots.start.port")
            workload = self._workload(berth, deployment, release, image, variables, port, network.name)
            await self._engine.create(workload)
            self._step("slots.start.created")
            try:
                await self._engine.start(workload.ref)
            except Conflict as error:
                if "port" not in error.details:
                    raise
                avoid.add(port)
                await self._engine.remove(workload.ref)
                await self.ports.give_back(berth)
                continue
            self._step("slots.start.started")
            return port
        raise Unavailable(
            f"{PORT_TRIES} ports of {berth.environment} were taken by others on this host, one after the other",
            next="Look at what listens on these ports, or give the environment another range.",
        )

    def _workload(
        self,
        berth: Berth,
        deployment: Deployment,
        release: Release,
        image: Image,
        variables: Variables,
        port: int,
        network: str,
    ) -> Workload:
        return slot_workload(
            project=berth.project,
            environment=berth.environment,
            slot=berth.slot,
            owner=self.site.owner(berth.uid),
            image=image,
            container_port=release.container_port,
            host_port=port,
            network=network,
            variables={name: value.get_secret_value() for name, value in variables.items()},
            limits=Limits(memory=release.memory * MB, cpus=release.cpus, pids=512),
            stop_grace=max(1, round(self.options.drain_seconds)),
            extra_labels={DEPLOYMENT: deployment.id},
        )

    async def until_healthy(
        self, berth: Berth, release: Release, port: int, variables: Variables, tell: Tell = nobody
    ) -> None:
        """Raises Unavailable when it ended, or is not healthy in time; with its last lines."""
        why = "it has not answered yet"
        with anyio.move_on_after(release.health_timeout):
            while True:
                seen = await self._engine.inspect(berth.name)
                if seen is None or _ended(seen):
                    raise Unavailable(
                        f"the application ended{_code(seen)}{await self._last_words(berth, variables)}",
                        next="Correct the image or its variables; deployment_logs shows more.",
                    )
                answer = await self._answer(seen, release, port)
                if answer is None:
                    return
                if answer != why:
                    why = answer
                    await tell(f"waiting until it is healthy: {why}")
                await anyio.sleep(LOOK_PAUSE)
        raise Unavailable(
            f"not healthy within {release.health_timeout} s: {why}{await self._last_words(berth, variables)}",
            next="Look at health_path and container_port, or give it more time with health_timeout.",
        )

    async def _answer(self, seen: Observed, release: Release, port: int) -> str | None:
        if seen.health == "starting":
            return "its health check has not passed yet"
        if seen.health == "unhealthy":
            return redacted_text(f"its health check fails: {' '.join(seen.health_log.split())}")[:300]
        if seen.health == "healthy":
            return None
        if release.health_path:
            return await self._readiness.http(port, release.health_path, seconds=ANSWER_SECONDS)
        address = next(iter(seen.addresses.values()), None)
        if address is None:
            return "it has no address yet"
        # A published port accepts connections before anybody listens behind it.
        return await self._readiness.tcp(address, release.container_port, seconds=ANSWER_SECONDS)

    async def _last_words(self, berth: Berth, variables: Variables) -> str:
        try:
            logs = await self._engine.logs(self.ref(berth), tail=LAST_LINES, max_bytes=4000)
        except QuaymasterError:
            return ""
        text = without_secrets(logs.text, variables).strip()
        return f"; its last lines:\n{text[-1500:]}" if text else "; it wrote nothing"

    # -- the proxy ---------------------------------------------------------------------------------------

    async def join_edge(self, berth: Berth, release: Release, port: int) -> Target:
        """The proxy reaches the container; that it sends traffic there is another matter."""
        target = self.target(berth, release.container_port, port)
        await self.edge.ensure()
        if self.edge.network is not None:
            place = Ref(name=self.edge.network, owner=self.site.owner())
            await self._engine.connect(self.ref(berth), place, aliases=(target.host,))
        self._step("slots.edge.joined")
        return target

    async def show_preview(self, berth: Berth, target: Target) -> str | None:
        """The preview's address; None where the person routes, or the name is too long for DNS."""
        try:
            host = self.preview_host(berth)
        except Invalid:
            return None
        await self.edge.preview(berth.route, Preview(host=host, slot=berth.slot, target=target))
        await self.edge.allow_tls(host)
        self._step("slots.edge.preview")
        return self.edge.url(host)

    def preview_url(self, berth: Berth) -> str | None:
        try:
            return self.edge.url(self.preview_host(berth))
        except Invalid:
            return None

    # -- looking -----------------------------------------------------------------------------------------

    async def look(self, berth: Berth, release: Release | None, port: int | None) -> Seen:
        """How the berth's container is now. Raises Unavailable when the engine cannot be asked."""
        seen = await self._engine.inspect(berth.name)
        if seen is None:
            return Seen("missing", "its container is gone")
        if seen.owner != self.site.owner(berth.uid):
            return Seen("missing", "a container of somebody else bears its name")
        label, image = seen.labels.get(DEPLOYMENT), seen.image_id
        if not seen.running:
            reason = f"its container is {seen.state}{_code(seen)}"
            return Seen("stopped", reason, label, image, seen.restarts)
        if release is None or port is None:
            return Seen("starting", None, label, image, seen.restarts)
        answer = await self._answer(seen, release, port)
        if answer is None:
            return Seen("healthy", None, label, image, seen.restarts)
        health: Health = "starting" if seen.health == "starting" else "unhealthy"
        return Seen(health, answer, label, image, seen.restarts)

    async def logs(
        self, berth: Berth, variables: Variables, *, tail: int, since: object = None
    ) -> tuple[str, bool]:
        """Its newest lines without what is secret, and whether more were left out."""
        found = await self._engine.logs(self.ref(berth), tail=tail, since=since)  # type: ignore[arg-type]
        return without_secrets(found.text, variables), found.truncated

    async def open_connections(self, berth: Berth, release: Release, port: int) -> int:
        return await self.edge.connections(self.target(berth, release.container_port, port))

    # -- taking away -------------------------------------------------------------------------------------

    async def drain(self, berth: Berth, release: Release, port: int, tell: Tell = nobody) -> int:
        """Wait until no request and no websocket runs there any more, within bounds; how many are left."""
        left = 0
        with anyio.move_on_after(self.options.drain_seconds):
            while True:
                found = await self.open_connections(berth, release, port)
                if found == 0:
                    return 0
                if found != left:
                    left = found
                    await tell(f"still open: {counted(left, 'connection')} to {berth.slot}")
                await anyio.sleep(LOOK_PAUSE)
        return left

    async def take_away(self, berth: Berth, deployment: str | None = None) -> None:
        """No container in the berth, and no preview of it. With `deployment` only its container goes: somebody may
        have started another there by now. A foreign container of that name stays.

        The application is told with SIGTERM; one that does not end by itself is killed.
        """
        seen = await self._engine.inspect(berth.name)
        if seen is not None and deployment not in (None, seen.labels.get(DEPLOYMENT)):
            return
        with suppress(Invalid):
            await self.edge.detach(self.preview_host(berth))
        # By its id: the name may be another container's once this one has ended.
        await self._end(self.ref(berth) if seen is None else Ref(name=seen.id, owner=self.ref(berth).owner))

    async def _end(self, container: Ref) -> None:
        try:
            with suppress(NotFound, Unavailable):
                await self._engine.stop(container)
            self._step("slots.stopped")
            await self._engine.remove(container)
        except Conflict as error:
            if error.details.get("owner") != "foreign":
                raise
        self._step("slots.removed")


def without_secrets(text: str, variables: Variables) -> str:
    """The text without the values of variables, and without what has the form of a secret; lines are cut."""
    hidden = without_values(text, (value.get_secret_value() for value in variables.values()))
    return "\n".join(redacted_text(line) for line in hidden.splitlines())


def _ended(seen: Observed) -> bool:
    """One that comes back after a crash has ended, too."""
    return seen.state in ("exited", "dead", "restarting") or seen.restarts > 0


def _code(seen: Observed | None) -> str:
    if seen is None or seen.exit_code is None:
        return ""
    memory = ", out of memory" if seen.out_of_memory else ""
    return f" (exit code {seen.exit_code}{memory})"
