"""The installation's own nginx, in a container on the network that it shares with the slots."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import anyio.from_thread
import anyio.to_thread
from pydantic import SecretBytes

from mcp_server.adapters.edge.container import INSIDE, EdgeContainer, edge_name, label
from mcp_server.domain.errors import Unavailable
from mcp_server.domain.routes import Target
from mcp_server.domain.workloads import Attachment, Executed, File, Mount, Owner, PublishedPort, Ref, Workload
from mcp_server.ports.orchestrator import Orchestrator

CONFIG = "/etc/quaymaster-nginx.conf"
HTTP_PORT, HTTPS_PORT = 8080, 8443
"""Inside: ports that need no privilege."""

RESOLVER = "127.0.0.11"
"""The engine's, which knows the slots' names."""

RUN = "/tmp"  # noqa: S108 - of the container alone, in memory
"""Memory takes the mode of the image's directory, and this is the one where any user may write."""

MAIN = f"""daemon off;
user root;
worker_processes auto;
pid {RUN}/nginx.pid;
error_log stderr;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 1000000;
    client_body_temp_path {RUN}/client_body;
    proxy_temp_path {RUN}/proxy;
    fastcgi_temp_path {RUN}/fastcgi;
    uwsgi_temp_path {RUN}/uwsgi;
    scgi_temp_path {RUN}/scgi;
    include {INSIDE}/nginx.conf;
}}
"""


class ContainerNginx:
    """Called in threads of the event loop that the orchestrator belongs to."""

    def __init__(
        self,
        orchestrator: Orchestrator,
        owner: Owner,
        image: str,
        root: Path,
        door_ports: tuple[int, int],
        *,
        secure: bool,
        public: bool,
    ) -> None:
        self._container = EdgeContainer(orchestrator, owner, root)
        self._workload = container(owner, image, root, door_ports, secure=secure, public=public)

    @property
    def ref(self) -> Ref:
        return self._container.ref

    @property
    def network(self) -> str:
        return self._container.name

    def target(self, workload: str, container_port: int, published_port: int) -> Target:
        return self._container.target(workload, container_port)

    def up(self, answers: Callable[[], bool]) -> None:
        async def fitted() -> Workload:
            return self._workload

        async def answering() -> bool:
            return await anyio.to_thread.run_sync(answers)

        anyio.from_thread.run(self._container.run, self._workload, fitted, answering)

    def test(self) -> str | None:
        if not anyio.from_thread.run(self._container.runs):
            return None
        done = self._run("-t")
        return None if done.exit_code == 0 else done.stderr.strip()[-500:]

    def reload(self) -> None:
        done = self._run("-s", "reload")
        if done.exit_code:
            raise Unavailable(
                f"The edge's container could not be told to reload: {done.stderr.strip()[-200:]}"
            )

    def connections(self, target: Target) -> int:
        return anyio.from_thread.run(self._container.connections, target)

    def unanswered(self, file: Path, *, needed: bool) -> str | None:
        return self._container.unanswered(needed=needed)

    def _run(self, *arguments: str) -> Executed:
        return anyio.from_thread.run(self._container.exec, "nginx", "-c", CONFIG, *arguments)


def container(
    owner: Owner, image: str, root: Path, ports: tuple[int, int], *, secure: bool, public: bool
) -> Workload:
    """It runs as this process's user, who can read the certificates' keys, and has no privilege."""
    opened = [PublishedPort(container=HTTP_PORT, host=ports[0], public=public)]
    if secure:
        opened.append(PublishedPort(container=HTTPS_PORT, host=ports[1], public=public))
    name, user = edge_name(owner), f"{os.geteuid()}:{os.getegid()}"
    return Workload(
        name=name,
        owner=owner,
        kind="edge",
        image=image,
        command=("nginx", "-c", CONFIG),
        files=(File(path=CONFIG, content=SecretBytes(MAIN.encode()), mode=0o444),),
        networks=(Attachment(network=name),),
        ports=tuple(opened),
        mounts=(Mount(source=str(root), target=INSIDE, read_only=True),),
        tmpfs=(RUN,),
        user=user,
        extra_labels=label("nginx", MAIN, image, root, ports, secure, public, user),
    )
