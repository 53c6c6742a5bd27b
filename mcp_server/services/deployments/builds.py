"""Images built from a project's own files, so that an agent can deploy what it has just written."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from copy import copy
from dataclasses import dataclass

import anyio

from mcp_server.domain.errors import Invalid, QuaymasterError
from mcp_server.domain.projects import Project
from mcp_server.domain.redaction import redacted_text
from mcp_server.domain.results import Result
from mcp_server.domain.workloads import Image, image_name
from mcp_server.ports.orchestrator import Orchestrator
from mcp_server.ports.sources import Sources
from mcp_server.ports.store import Reading
from mcp_server.services.access import project_of, require_in_place
from mcp_server.services.calls import Call, Calls
from mcp_server.services.deployments.slots import Slots, Step
from mcp_server.services.works import Work, Works

MAX_WAIT = 600
MAX_OUTCOMES = 50
KEPT_SECONDS = 600.0
"""So long an outcome waits for whoever asked for the build; later the source is another."""
Context = AbstractAsyncContextManager[AsyncIterator[bytes]]


class BuildView(Result):
    """`image` is the name to deploy."""

    project: str
    status: str
    image: str
    image_id: str | None = None
    last_line: str | None = None
    next: str | None = None


@dataclass
class _Ended:
    outcome: Image | QuaymasterError
    at: float
    told: bool = False


class Builds:
    """Outcomes that nobody has asked for yet are kept in this process for a while, the newest ones."""

    def __init__(
        self, calls: Calls, engine: Orchestrator, sources: Sources, slots: Slots, works: Works, step: Step
    ) -> None:
        self._calls = calls
        self._engine = engine
        self._sources = sources
        self._slots = slots
        self._works = works
        self._step = step
        self._outcomes: dict[str, _Ended] = {}

    async def build(
        self,
        call: Call,
        project: str,
        version: str | None = None,
        ref: str | None = None,
        archive_content: str | None = None,
        dockerfile: str = "Dockerfile",
        wait_seconds: float = 45,
    ) -> BuildView:
        """Build from the project's path, from a git revision of it, or from an archive that came along.

        Calling again with the same arguments while it is built waits on. Raises Invalid with the last lines when
        a step fails.
        """
        found = await self._calls.read(lambda tx: _project(tx, call, project))
        name = image_name(f"quaymaster/{found.name}:{version or call.new_id('b')}")
        call.about("projects", found.name)
        context = await self._context(found, ref, archive_content, dockerfile)
        key = f"build-{found.uid}-{name}-{_digest(ref, archive_content, dockerfile)}"

        async def body(work: Work) -> None:
            await self._build(work, key, found, name, context, dockerfile)

        work = self._works.get(key)
        if work is None and not self._waits_for_somebody(key):
            self._outcomes.pop(key, None)
            work = self._works.begin(key, body)
        if work is not None and not await work.follow(min(wait_seconds, MAX_WAIT), call.tell):
            tag = name.rpartition(":")[2]
            again = (
                f"Call build_image again with version='{tag}' and the other arguments as they are to wait on"
            )
            return BuildView(
                project=found.name, status="running", image=name, last_line=work.line, next=again
            )
        if (ended := self._outcomes.get(key)) is not None:
            ended.told = True
        elif work is not None and (error := work.failed()) is not None:
            raise error
        return _outcome(found, name, None if ended is None else ended.outcome)

    def _waits_for_somebody(self, key: str) -> bool:
        """Whether there is an outcome that nobody has heard, of a build so young that its source is the same."""
        ended = self._outcomes.get(key)
        return ended is not None and not ended.told and anyio.current_time() - ended.at < KEPT_SECONDS

    async def _context(
        self, project: Project, ref: str | None, archive: str | None, dockerfile: str
    ) -> Context:
        if archive is not None:
            try:
                return self._sources.given(base64.b64decode(archive, validate=True))
            except ValueError as error:
                raise Invalid.field("archive_content", "a tar archive in base64") from error
        if project.path is None:
            raise Invalid(
                "the project has no path to build from",
                next="Set its path with update_project, or pass archive_content.",
            )
        await require_in_place(project.path)
        return (
            self._sources.directory(project.path, dockerfile)
            if ref is None
            else self._sources.revision(project.path, ref)
        )

    async def _build(
        self, work: Work, key: str, project: Project, name: str, context: Context, dockerfile: str
    ) -> None:
        try:
            async with context as pieces:
                self._step("build.begun")
                outcome: Image | QuaymasterError = await self._engine.build_image(
                    name,
                    pieces,
                    owner=self._slots.site.owner(project.uid),
                    dockerfile=dockerfile,
                    progress=work.tell,
                )
        except QuaymasterError as error:
            outcome = error
        self._step("build.ended")
        while len(self._outcomes) >= MAX_OUTCOMES:
            self._outcomes.pop(next(iter(self._outcomes)))
        self._outcomes[key] = _Ended(outcome, anyio.current_time())


def _digest(ref: str | None, archive: str | None, dockerfile: str) -> str:
    """Of what is built: another revision or archive under the same version is another build."""
    return hashlib.sha256(json.dumps([ref, archive, dockerfile]).encode()).hexdigest()[:16]


async def _project(tx: Reading, call: Call, name: str) -> Project:
    return await project_of(tx, call.caller, name)


def _outcome(project: Project, name: str, outcome: Image | QuaymasterError | None) -> BuildView:
    if isinstance(outcome, QuaymasterError):
        output = str(outcome.details.get("output", ""))
        outcome.details["output"] = "\n".join(redacted_text(line) for line in output.splitlines())
        raise copy(outcome)
    if outcome is None:
        raise Invalid("the build ended without an outcome", next="Call build_image again.")
    return BuildView(
        project=project.name,
        status="done",
        image=name,
        image_id=outcome.id,
        next=f"deploy_project('{project.name}', '{name}')",
    )
