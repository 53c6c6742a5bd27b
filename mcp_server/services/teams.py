"""Teams: a caller sees and changes its own, and an owner may found another."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from mcp_server.domain.callers import Caller
from mcp_server.domain.errors import Conflict, Invalid, NotFound
from mcp_server.domain.grants import require_within
from mcp_server.domain.keys import ApiKey, stored_form
from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.records import Moment, Record, Value
from mcp_server.domain.results import PlanResult, Result
from mcp_server.domain.teams import DeploymentDefaults, Team, TeamSettings
from mcp_server.domain.validation import changed, checked
from mcp_server.domain.wording import counted
from mcp_server.ports.store import Reading, Transaction
from mcp_server.services.access import team_of
from mcp_server.services.calls import Call, Calls
from mcp_server.services.keys import draw_key
from mcp_server.services.pages import every, page_size
from mcp_server.services.plans import draw_token, gate

LOCAL = "local"
"""The team of the operating-system user on a home of its own."""


class TeamView(Result):
    """`notifications` names the channels that have an address; the addresses are secret and not shown."""

    id: str
    name: str
    slug: str
    owner: str
    plan: str
    notifications: tuple[str, ...] = ()
    deployment_defaults: DeploymentDefaults
    created_at: Moment


class TeamItem(Value):
    id: str
    name: str
    slug: str


class TeamList(Result):
    items: tuple[TeamItem, ...]
    cursor: str | None = None


class TeamCreated(Result):
    """`key` is the text of the new team's owner key, which is shown this once and kept nowhere."""

    id: str
    name: str
    slug: str
    key_id: str
    key: str | None = Field(default=None, json_schema_extra={"secret": True})


class Teams:
    """`prefix` begins the text of new keys."""

    def __init__(self, calls: Calls, *, prefix: str = "qm") -> None:
        self._calls = calls
        self._prefix = prefix

    async def create(self, call: Call, *, name: str) -> TeamCreated:
        """Found a team with an owner key, whose text is in the result, once.

        The caller's key does not reach the new team.

        Raises Forbidden for a key that is limited to scopes: the new key is not.
        """
        require_within(call.caller, "owner")
        team_id, key_id = call.new_id("t"), call.new_id("k")
        text = draw_key(self._prefix, team_id, "owner")
        call.about("teams", team_id)

        async def transaction(tx: Transaction) -> TeamCreated:
            now = await tx.now()
            slug = _slug(name, team_id)
            if await tx.teams.by_slug(slug) is not None:
                slug = f"{slug[:90]}-{team_id[2:10]}"
            owner = call.caller.user[:255]
            founded = checked(
                Team,
                {
                    "id": team_id,
                    "name": name.strip(),
                    "slug": slug,
                    "owner": owner,
                    "created_at": now,
                    "updated_at": now,
                },
            )
            team = await tx.teams.add(founded)
            await tx.keys.add(
                ApiKey(
                    id=key_id,
                    **stored_form(text),
                    name="owner",
                    team_id=team_id,
                    role="owner",
                    created_at=now,
                    created_by=owner,
                )
            )
            return TeamCreated(id=team.id, name=team.name, slug=team.slug, key_id=key_id, key=text)

        return await self._calls.write(call, transaction, TeamCreated)

    async def get(self, call: Call, *, team: str | None = None) -> TeamView:
        """The caller's team. `team`, its id or slug, may name it; any other is not found."""

        async def reading(tx: Reading) -> TeamView:
            return _view(await _own_team(tx, call.caller, team))

        call.about("teams", call.caller.team_id)
        return await self._calls.read(reading)

    async def list(self, call: Call, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> TeamList:
        """The teams that the caller can reach, which is its own."""
        page_size(limit)
        if cursor is not None:
            raise Invalid.field("cursor", "this list has one page")

        async def reading(tx: Reading) -> TeamList:
            team = await team_of(tx, call.caller)
            return TeamList(items=(TeamItem(id=team.id, name=team.name, slug=team.slug),))

        return await self._calls.read(reading)

    async def update(
        self,
        call: Call,
        *,
        team: str | None = None,
        name: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> TeamView:
        """Change what is given.

        `settings` are merged into the present ones, level by level; None takes an address away.
        """
        call.about("teams", call.caller.team_id)

        async def transaction(tx: Transaction) -> TeamView:
            before = await _own_team(tx, call.caller, team, hold=True)
            fields: dict[str, Any] = {"settings": _merged(before.settings, settings or {})}
            if name is not None:
                fields["name"] = name.strip()
            after = changed(before, fields)
            if after == before:
                return _view(before)
            return _view(await tx.teams.save(after.change(updated_at=await tx.now())))

        return await self._calls.write(call, transaction, TeamView)

    async def delete(self, call: Call, *, team: str | None = None) -> PlanResult:
        """Delete the caller's team, members and keys: first the plan, then, with its token, exactly that.

        Raises Conflict while it has projects, and always for the team of the local user.
        """
        call.about("teams", call.caller.team_id)
        token = draw_token()

        async def transaction(tx: Transaction) -> PlanResult:
            gone = await _own_team(tx, call.caller, team, hold=True)
            await _require_deletable(tx, gone)
            members = await every(partial(tx.members.of_team, gone.id))
            keys = await every(partial(tx.keys.of_team, gone.id))
            now = await tx.now()
            good = sum(key.good_at(now) for key in keys)
            effects = (
                f"the team '{gone.name}' is deleted",
                f"{counted(good, 'good API key')} will not work any more, this call's own among them",
                f"it loses {counted(len(members), 'member')}",
            )
            held: tuple[Record, ...] = (gone, *members, *keys)
            planned = await gate(tx, call, token, target={"team": gone.id}, holds=held, effects=effects)
            if planned is not None:
                return planned
            for key in keys:
                await tx.keys.remove(key)
            for member in members:
                await tx.members.remove(member)
            await tx.teams.remove(gone)
            return PlanResult(status="done", message=f"The team '{gone.name}' is deleted.", effects=effects)

        return await self._calls.write(call, transaction, PlanResult)


async def _own_team(tx: Reading, caller: Caller, named: str | None, *, hold: bool = False) -> Team:
    team = await team_of(tx, caller, hold=hold)
    if named is not None and named not in (team.id, team.slug):
        raise NotFound("no such team", next="A key reaches its own team only; list_teams shows it.")
    return team


async def _require_deletable(tx: Reading, team: Team) -> None:
    if team.id == LOCAL:
        raise Conflict(
            "the team 'local' belongs to this machine and cannot be deleted",
            next="Delete its projects and revoke its keys instead.",
        )
    count = await tx.projects.count_of_team(team.id)
    if count:
        raise Conflict(
            f"the team still has {count} project{'' if count == 1 else 's'}",
            next="Delete them first, with delete_project.",
            projects=count,
        )


def _slug(name: str, team_id: str) -> str:
    """A slug from the name; the id where the name has no letter or digit of its alphabet."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:100].strip("-") or team_id


def _merged(settings: TeamSettings, patch: Mapping[str, Any]) -> TeamSettings:
    merged = checked(TeamSettings, _laid_over(settings.model_dump(), patch))
    for channel, address in merged.notifications.model_dump().items():
        if address is not None and not _is_webhook(address):
            raise Invalid.field(
                f"settings.notifications.{channel}",
                "an https:// address of at most 500 characters, without a user",
            )
    return merged


def _is_webhook(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    plain = "@" not in parts.netloc and len(address) <= 500 and address.isprintable()
    return parts.scheme == "https" and bool(parts.hostname) and plain


def _laid_over(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the patch's values; a section is merged into its like, and None for one changes nothing."""
    merged = dict(base)
    for name, value in patch.items():
        below = base.get(name)
        if isinstance(below, Mapping):
            merged[name] = (
                _laid_over(below, value)
                if isinstance(value, Mapping)
                else (below if value is None else value)
            )
        else:
            merged[name] = value
    return merged


def _view(team: Team) -> TeamView:
    addresses = team.settings.notifications.model_dump()
    return TeamView(
        id=team.id,
        name=team.name,
        slug=team.slug,
        owner=team.owner,
        plan=team.plan,
        notifications=tuple(sorted(channel for channel, address in addresses.items() if address is not None)),
        deployment_defaults=team.settings.deploymentDefaults,
        created_at=team.created_at,
    )
