"""An engine that runs workloads, speaks of workloads only, and touches nothing that is not ours."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from mcp_server.domain.workloads import (
    EngineStatus,
    Executed,
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
)

Progress = Callable[[str], Awaitable[None]]
"""Told one short line at a time, at most a few a second."""

Sink = Callable[[bytes], Awaitable[None]]
"""Takes output piece by piece; the engine waits while it does."""


class Orchestrator(Protocol):
    """Every call is bounded in time and raises one of these, nothing else of the engine's:

    Unavailable  the engine is away, silent past the bound, or failed by itself (a full disk)
    NotFound     the workload, network, volume or image does not exist
    Conflict     the name is taken; `details["owner"]`: "ours" (same owner) or "foreign". A host port
                 is taken: `details["port"]`. The thing is in use. Nothing foreign is ever changed or removed.
    Invalid      the engine refuses the request as such: a command that does not exist, a bad image name

    Whether a name is ours is decided by its labels (`Owner`), for the one thing that is then acted on, not
    again for its name. After Unavailable the outcome of a change is unknown: `inspect` tells. Cancelling is
    safe at any point; what a cancelled call leaves is said at the call.
    """

    # -- the engine ----------------------------------------------------------------------------------------

    async def detect(self, *, refresh: bool = False) -> EngineStatus:
        """Whether there is an engine, within 2 seconds. Never raises. Kept 60 seconds unless `refresh`; that it was
        silent, 5 seconds."""
        ...

    async def close(self) -> None: ...

    # -- images ----------------------------------------------------------------------------------------------

    async def ensure_image(self, name: str, progress: Progress | None = None) -> Image:
        """The image as the engine has it, else pulled. A local one is used as it is, without asking a
        registry.

        Raises Unavailable when it is neither here nor can be pulled (which says both), NotFound when the
        registry does not know it. A cancelled pull is given up.
        """
        ...

    async def build_image(
        self,
        tag: str,
        context: bytes | AsyncIterable[bytes],
        *,
        owner: Owner,
        dockerfile: str = "Dockerfile",
        progress: Progress | None = None,
    ) -> Image:
        """An image from a tar archive, built by the engine; labelled with its owner. `dockerfile` is a path
        in the archive.

        Raises Invalid with the last lines of its output when a step fails. A cancelled build is given up and
        leaves no workload behind.
        """
        ...

    async def remove_image(self, tag: str, owner: Owner) -> None:
        """Remove the tag of an image that was built for this owner. None is no error; Conflict while it is in
        use.
        """
        ...

    # -- networks and volumes --------------------------------------------------------------------------------

    async def ensure_network(self, network: Network) -> None:
        """Make it unless it exists. Unavailable when the operator's range of subnets is full."""
        ...

    async def remove_network(self, network: Ref) -> None:
        """None is no error. Conflict while workloads are attached."""
        ...

    async def networks(self, labels: Mapping[str, str]) -> Sequence[Kept]:
        """Those that carry all of these labels, by name."""
        ...

    async def ensure_volume(self, volume: Volume) -> bool:
        """Make it unless it exists; whether it was made now."""
        ...

    async def remove_volume(self, volume: Ref) -> None:
        """Its data are gone. None is no error. Conflict while a workload (running or not) mounts it."""
        ...

    async def volumes(self, labels: Mapping[str, str]) -> Sequence[Kept]:
        """Those that carry all of these labels, by name."""
        ...

    # -- workloads -------------------------------------------------------------------------------------------

    async def create(self, workload: Workload) -> str:
        """Make it, join its networks, put its files, without starting it; its id.

        Its image, networks and volumes must exist (NotFound). Not idempotent: an existing name is a Conflict,
        ours or not. All or nothing: when it fails or is cancelled, what was made is removed before the call
        returns. Only if the engine dies in between may it be left, unstarted and labelled: `remove` then is
        enough.
        """
        ...

    async def start(self, workload: Ref) -> None:
        """Running already is no error. Conflict with `port` when a published port is taken; it then stays as
        it was.

        A cancelled start may have happened.
        """
        ...

    async def stop(self, workload: Ref, *, grace: int | None = None) -> None:
        """Ask it to end, kill it after `grace` seconds (None: its own); returns when it has ended. Stopped:
        no error.
        """
        ...

    async def remove(self, workload: Ref) -> None:
        """Kill and remove it with its unnamed volumes; named ones stay. None is no error. A cancelled one may
        happen.
        """
        ...

    async def rename(self, workload: Ref, name: str) -> None:
        """Running or not; its labels stay. Conflict when the name is taken, Invalid if the engine cannot."""
        ...

    async def inspect(self, name: str) -> Observed | None:
        """What the engine says of a workload of this name or id, ours or not; None when there is none."""
        ...

    async def list(self, labels: Mapping[str, str]) -> Sequence[Observed]:
        """Workloads in every state that carry all of these labels, by name."""
        ...

    async def wait_exit(self, workload: Ref, *, timeout: float) -> int:
        """Its exit code once it has ended. Unavailable when it has not within `timeout` seconds. Cancelling
        changes nothing.
        """
        ...

    async def logs(
        self, workload: Ref, *, tail: int = 200, since: datetime | None = None, max_bytes: int = 65536
    ) -> Logs:
        """The newest `tail` lines (at most 5000) that are not older than `since`, cut at their beginning to
        `max_bytes`.
        """
        ...

    async def usage(self, workload: Ref) -> Usage | None:
        """What it uses now; None when it does not run. Takes about a second on some engines."""
        ...

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
        """Run a command inside a running workload and wait for its end; a failing command is no error.

        `stdin` is given whole and closed. With `stdout` the output goes there as it comes, however much it
        is; without, the first `max_output` bytes are collected. Of standard error the last 8192 bytes are
        kept. Neither `environment` nor `argv` is a place for a secret: both can be inspected while it runs;
        `stdin` is. When it is cancelled or exceeds `timeout` seconds (Unavailable), its input and output are
        closed; a command that uses neither may go on inside. A program that does not exist is exit code 126
        or 127.
        """
        ...

    async def connect(self, workload: Ref, network: Ref, aliases: Sequence[str] = ()) -> None:
        """Join a network under these names. Joined already under the same names: no error; under others:
        joined anew.
        """
        ...

    async def disconnect(self, workload: Ref, network: Ref) -> None:
        """Leave a network, at once. Not joined, or no such network: no error."""
        ...
