"""Environment variables of a project: sealed, every version kept, shown only to those who may see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import Field

from mcp_server.domain.dotenv import parsed
from mcp_server.domain.environments import (
    Difference,
    EnvironmentVersion,
    ProjectEnvironment,
    difference,
    merged,
    renamed,
    writable,
)
from mcp_server.domain.errors import Conflict, Forbidden, Invalid, Unavailable
from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.projects import Project
from mcp_server.domain.records import Moment, Value
from mcp_server.domain.results import Result
from mcp_server.domain.roles import at_least
from mcp_server.domain.slots import SlotName, SlotPair, pair_key
from mcp_server.domain.teams import EnvironmentName
from mcp_server.ports.store import Reading, Transaction
from mcp_server.services.access import chosen_environment, project_of
from mcp_server.services.calls import Call, Calls
from mcp_server.services.pages import page_size
from mcp_server.services.vault import Values, Vault

TRIES = 5
BOTH: tuple[SlotName, ...] = ("blue", "green")
Change = Callable[[Values], Values]


class VariableView(Value):
    """`fingerprint` is equal for equal values of one name; `value` is there only when it was asked for."""

    name: str
    fingerprint: str
    value: str | None = None


class EnvironmentView(Result):
    project: str
    environment: EnvironmentName
    version: int
    variables: tuple[VariableView, ...] = ()
    updated_at: Moment | None = None
    updated_by: str | None = None


class ChangedView(Result):
    """`stale_slots` still run an older version: variables reach an application when it is deployed."""

    project: str
    environment: EnvironmentName
    version: int
    difference: Difference
    stale_slots: tuple[str, ...] = Field(default=(), description="Slots that run an older version")
    next: str | None = None


class VersionLine(Value):
    """Not `readable`: the key that sealed its values is lost; what has another value in it is not known."""

    version: int
    created_at: Moment
    created_by: str | None = None
    count: int
    difference: Difference
    readable: bool = True


class HistoryView(Result):
    """`running` maps a slot to the version that its application was started with."""

    project: str
    environment: EnvironmentName
    versions: tuple[VersionLine, ...]
    running: dict[str, int]
    cursor: str | None = None


class DiffView(Result):
    project: str
    environment: EnvironmentName
    from_version: int
    to_version: int
    difference: Difference


@dataclass(frozen=True, slots=True)
class _Present:
    project: Project
    environment: EnvironmentName
    record: ProjectEnvironment | None
    values: Values

    @property
    def version(self) -> int:
        return 0 if self.record is None else self.record.version


class _MovedOn(Exception):
    """Somebody else saved a version meanwhile."""


class Environments:
    def __init__(self, calls: Calls, vault: Vault) -> None:
        self._calls = calls
        self._vault = vault

    async def set(
        self,
        call: Call,
        project: str,
        environment: EnvironmentName | None = None,
        variables: Mapping[str, str] | None = None,
        dotenv_content: str | None = None,
    ) -> ChangedView:
        """Set these variables; the others stay. A variable may not be given both ways."""
        given, read = dict(variables or {}), {} if dotenv_content is None else parsed(dotenv_content)
        if not given and not read:
            raise Invalid.field("variables", "at least one, or dotenv_content")
        if given.keys() & read.keys():
            raise Invalid.field("variables", "not the same name as in dotenv_content")
        merged({}, {**given, **read})
        return await self._change(
            call, project, environment, lambda before: merged(before, {**given, **read})
        )

    async def unset(
        self, call: Call, project: str, names: Sequence[str], environment: EnvironmentName | None = None
    ) -> ChangedView:
        """Remove these variables; one that is not there is no error."""
        gone = set(writable(names, "names"))
        return await self._change(
            call, project, environment, lambda before: {k: v for k, v in before.items() if k not in gone}
        )

    async def restore(
        self, call: Call, project: str, version: int, environment: EnvironmentName | None = None
    ) -> ChangedView:
        """The variables of that version as a new version."""

        async def look(tx: Reading) -> Values:
            found = await project_of(tx, call.caller, project)
            name = await chosen_environment(tx, call.caller, environment)
            return await self._vault.values(tx, found, name, version)

        values = await self._calls.read(look)
        return await self._change(call, project, environment, lambda _: values)

    async def get(
        self,
        call: Call,
        project: str,
        environment: EnvironmentName | None = None,
        version: int | None = None,
        reveal: bool = False,
    ) -> EnvironmentView:
        """Names and fingerprints; values for members and above, when they ask for them."""
        if reveal and not at_least(call.caller.role, "member"):
            raise Forbidden("values are shown to members and above", needs="member")

        async def look(tx: Reading) -> EnvironmentView:
            now = await self._present(tx, call, project, environment)
            values, at = now.values, now.version
            if version is not None and version != at:
                values, at = await self._vault.values(tx, now.project, now.environment, version), version
            kept = await tx.environment_versions.get(f"{now.project.name}/{now.environment}/{at}")
            shown = tuple(self._shown(now, name, value, reveal=reveal) for name, value in values.items())
            return EnvironmentView(
                project=now.project.name,
                environment=now.environment,
                version=at,
                variables=shown,
                updated_at=None if kept is None else kept.created_at,
                updated_by=None if kept is None else kept.created_by,
            )

        view = await self._calls.read(look)
        call.about("environments", f"{view.project}/{view.environment}")
        return view

    async def history(
        self,
        call: Call,
        project: str,
        environment: EnvironmentName | None = None,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> HistoryView:
        """Every version with what it changed, the newest first."""
        size = page_size(limit)

        async def look(tx: Reading) -> HistoryView:
            found = await project_of(tx, call.caller, project)
            name = await chosen_environment(tx, call.caller, environment)
            page = await tx.environment_versions.of_environment(found.name, name, limit=size, after=cursor)
            lines = [await self._line(tx, found, one) for one in page.items]
            pair = await tx.slots.get(pair_key(found.name, name))
            return HistoryView(
                project=found.name,
                environment=name,
                versions=tuple(lines),
                running=await running_versions(tx, pair),
                cursor=page.cursor,
            )

        view = await self._calls.read(look)
        call.about("environments", f"{view.project}/{view.environment}")
        return view

    async def diff(
        self,
        call: Call,
        project: str,
        from_version: int,
        to_version: int | None = None,
        environment: EnvironmentName | None = None,
    ) -> DiffView:
        """What changed from one version to another, to the present one unless named. Version 0 is empty."""

        async def look(tx: Reading) -> DiffView:
            now = await self._present(tx, call, project, environment)
            to = now.version if to_version is None else to_version
            before = await self._vault.values(tx, now.project, now.environment, from_version)
            after = await self._vault.values(tx, now.project, now.environment, to)
            return DiffView(
                project=now.project.name,
                environment=now.environment,
                from_version=from_version,
                to_version=to,
                difference=difference(before, after),
            )

        view = await self._calls.read(look)
        call.about("environments", f"{view.project}/{view.environment}")
        return view

    # -- saving ------------------------------------------------------------------------------------------

    async def _change(
        self, call: Call, project: str, environment: EnvironmentName | None, change: Change
    ) -> ChangedView:
        """Sealed before the transaction, which may run twice; begun anew when somebody else was quicker."""
        for _ in range(TRIES):
            now = await self._calls.read(
                partial(self._present, call=call, project=project, environment=environment)
            )
            call.about("environments", f"{now.project.name}/{now.environment}")
            after = change(now.values)
            sealed = self._vault.sealed(now.project, now.environment, now.version + 1, after)
            save = partial(self._save, call=call, now=now, after=after, sealed=sealed)
            try:
                return await self._calls.write(call, save, ChangedView)
            except _MovedOn:
                continue
        raise Conflict("somebody else is changing these variables right now", next="Call again in a moment.")

    async def _save(
        self, tx: Transaction, *, call: Call, now: _Present, after: Values, sealed: Values
    ) -> ChangedView:
        project = await project_of(tx, call.caller, now.project.name)
        held = await tx.environments.hold(f"{project.name}/{now.environment}")
        if (held.rev if held else 0) != (
            now.record.rev if now.record else 0
        ) or project.uid != now.project.uid:
            raise _MovedOn
        changes = difference(now.values, after)
        if changes == Difference() and held is not None:
            return await self._changed(tx, now, held.version, changes)
        at, by, version = await tx.now(), call.caller.user[:255], now.version + 1
        fields = {"env_data": sealed, "encrypted": True, "created_by": by}
        if held is None:
            await tx.environments.add(
                ProjectEnvironment(
                    project=project.name,
                    environment=now.environment,
                    version=version,
                    created_at=at,
                    updated_at=at,
                    **fields,
                )
            )
        else:
            await tx.environments.save(held.change(version=version, updated_at=at, **fields))
        await tx.environment_versions.add(
            EnvironmentVersion(
                project=project.name, environment=now.environment, version=version, created_at=at, **fields
            )
        )
        return await self._changed(tx, now, version, changes)

    async def _changed(self, tx: Reading, now: _Present, version: int, changes: Difference) -> ChangedView:
        pair = await tx.slots.get(pair_key(now.project.name, now.environment))
        running = await running_versions(tx, pair)
        stale = tuple(
            f"{slot} ({_state(pair, slot)}) runs version {at}"
            for slot, at in running.items()
            if at != version
        )
        return ChangedView(
            project=now.project.name,
            environment=now.environment,
            version=version,
            difference=changes,
            stale_slots=stale,
            next="Deploy again to run with these variables" if stale else None,
        )

    async def _present(
        self, tx: Reading, call: Call, project: str, environment: EnvironmentName | None
    ) -> _Present:
        found = await project_of(tx, call.caller, project)
        name = await chosen_environment(tx, call.caller, environment)
        record = await tx.environments.get(f"{found.name}/{name}")
        values: Values = {}
        if record is not None:
            values = self._vault.opened(found, name, record.env_data, encrypted=record.encrypted)
        return _Present(found, name, record, values)

    async def _line(self, tx: Reading, project: Project, version: EnvironmentVersion) -> VersionLine:
        name = version.environment
        before = await tx.environment_versions.get(f"{project.name}/{name}/{version.version - 1}")
        try:
            changes = difference(self._opened(project, before), self._opened(project, version))
            readable = True
        except Unavailable:
            changes, readable = renamed(before.env_data if before else {}, version.env_data), False
        return VersionLine(
            version=version.version,
            created_at=version.created_at,
            created_by=version.created_by,
            count=len(version.env_data),
            difference=changes,
            readable=readable,
        )

    def _opened(self, project: Project, version: EnvironmentVersion | None) -> Values:
        if version is None:
            return {}
        return self._vault.opened(project, version.environment, version.env_data, encrypted=version.encrypted)

    def _shown(self, now: _Present, name: str, value: str, *, reveal: bool) -> VariableView:
        fingerprint = self._vault.fingerprint(now.project, now.environment, name, value)
        return VariableView(name=name, fingerprint=fingerprint, value=value if reveal else None)


async def running_versions(tx: Reading, pair: SlotPair | None) -> dict[str, int]:
    """By slot the version of the variables with which its application was started."""
    found: dict[str, int] = {}
    for name in BOTH:
        deployment = None if pair is None else await tx.deployments.get(pair.slot(name).deployment or "")
        if deployment is not None and deployment.release is not None:
            found[name] = deployment.release.environment_version
    return found


def _state(pair: SlotPair | None, slot: str) -> str:
    return "" if pair is None else (pair.blue if slot == "blue" else pair.green).state
