"""API keys of a team: made, listed, revoked and replaced, never above whoever does it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

from pydantic import Field

from mcp_server.domain.callers import Caller
from mcp_server.domain.errors import Conflict, Forbidden, Invalid, NotFound, QuotaExceeded
from mcp_server.domain.grants import known_scopes, require_within
from mcp_server.domain.keys import ApiKey, key_text, stored_form
from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.records import Moment, Value
from mcp_server.domain.results import Result
from mcp_server.domain.roles import Role
from mcp_server.domain.teams import Team
from mcp_server.domain.validation import checked
from mcp_server.ports.store import Reading, Transaction
from mcp_server.services.access import team_of
from mcp_server.services.calls import Call, Calls
from mcp_server.services.pages import every, page_size

MAX_DAYS = 3650
MAX_GRACE_SECONDS = 7 * 86_400


class KeyItem(Value):
    """A key without anything that could sign in.

    `rate_limit` in requests a minute, None for the server's default.
    """

    id: str
    name: str
    role: Role
    prefix: str
    state: Literal["good", "expired", "revoked"]
    scopes: tuple[str, ...] = ()
    rate_limit: int | None = None
    created_at: Moment
    created_by: str | None = None
    last_used_at: Moment | None = None
    expires_at: Moment | None = None


class KeyList(Result):
    items: tuple[KeyItem, ...]
    cursor: str | None = None


class KeyIssued(Result):
    """A new key. `key` is its text, which is shown this once and kept nowhere."""

    id: str
    team_id: str
    name: str
    role: Role
    scopes: tuple[str, ...] = ()
    expires_at: Moment | None = None
    replaces: str | None = None
    key: str | None = Field(default=None, json_schema_extra={"secret": True})


class KeyRevoked(Result):
    id: str
    name: str
    revoked_at: Moment


class Keys:
    """`prefix` begins the text of new keys; `quota` is the most keys of a team that are not revoked; `rate_limit` is
    that of a key without one of its own."""

    def __init__(self, calls: Calls, *, prefix: str = "qm", quota: int = 200, rate_limit: int = 600) -> None:
        self._calls = calls
        self._prefix = prefix
        self._quota = quota
        self._rate_limit = rate_limit

    async def create(
        self,
        call: Call,
        *,
        name: str,
        role: Role = "member",
        scopes: Sequence[str] = (),
        expires_days: int | None = None,
        rate_limit: int | None = None,
    ) -> KeyIssued:
        """Make a key of the caller's team. Its text is in the result, once.

        Raises Forbidden for a role or scopes beyond the caller's own, Invalid, and QuotaExceeded.
        """
        if expires_days is not None and not 1 <= expires_days <= MAX_DAYS:
            raise Invalid.field("expires_days", f"1-{MAX_DAYS}")
        narrowed = known_scopes(scopes)
        require_within(call.caller, role, narrowed)
        self._require_rate_within(call.caller, rate_limit)
        text = draw_key(self._prefix, call.caller.team_id, role)
        key_id = call.new_id("k")
        call.about("keys", key_id)

        async def transaction(tx: Transaction) -> KeyIssued:
            await team_of(tx, call.caller, hold=True)
            await self._require_room(tx, call.caller.team_id)
            now = await tx.now()
            key = checked(
                ApiKey,
                {
                    "id": key_id,
                    **stored_form(text),
                    "name": name.strip(),
                    "team_id": call.caller.team_id,
                    "role": role,
                    "scopes": narrowed,
                    "rate_limit": rate_limit,
                    "created_at": now,
                    "created_by": call.caller.user[:255],
                    "expires_at": None if expires_days is None else now + timedelta(days=expires_days),
                },
            )
            return _issued(await tx.keys.add(key), text)

        return await self._calls.write(call, transaction, KeyIssued)

    async def list(self, call: Call, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> KeyList:
        """The keys of the caller's team by id, revoked and expired ones too."""
        size = page_size(limit)

        async def reading(tx: Reading) -> KeyList:
            now = await tx.now()
            page = await tx.keys.of_team(call.caller.team_id, limit=size, after=cursor)
            return KeyList(items=tuple(_item(key, now) for key in page.items), cursor=page.cursor)

        return await self._calls.read(reading)

    async def revoke(self, call: Call, *, key_id: str) -> KeyRevoked:
        """End a key now and for ever. One that is revoked already stays as it is.

        Raises Forbidden for a key above the caller's role, and Conflict for the last owner key of a team,
        which only the local operator may take away.
        """
        call.about("keys", key_id)

        async def transaction(tx: Transaction) -> KeyRevoked:
            await team_of(tx, call.caller, hold=True)
            key = await _key_of(tx, call.caller, key_id)
            _require_not_above(call.caller, key)
            now = await tx.now()
            if key.revoked_at is None:
                await self._require_other_owner(tx, call.caller, key, now)
                key = await tx.keys.save(key.change(revoked_at=now))
            return KeyRevoked(id=key.id, name=key.name, revoked_at=key.revoked_at or now)

        return await self._calls.write(call, transaction, KeyRevoked)

    async def rotate(self, call: Call, *, key_id: str, grace_seconds: int = 0) -> KeyIssued:
        """Replace a key by one with the same name, role, scopes and end; the old one ends after the grace.

        Raises Forbidden for a key that may do what the caller may not, and Conflict for one that is no longer
        good.
        """
        if not 0 <= grace_seconds <= MAX_GRACE_SECONDS:
            raise Invalid.field("grace_seconds", f"0-{MAX_GRACE_SECONDS}")
        call.about("keys", key_id)
        random = _draw_random()
        new_id = call.new_id("k")

        async def transaction(tx: Transaction) -> KeyIssued:
            await team_of(tx, call.caller, hold=True)
            old = await _key_of(tx, call.caller, key_id)
            require_within(call.caller, old.role, old.scopes)
            self._require_rate_within(call.caller, old.rate_limit)
            now = await tx.now()
            if not old.good_at(now):
                raise Conflict("this key is revoked or expired", next="create_key makes a new one.")
            text = key_text(self._prefix, old.team_id, old.role, random)
            new = old.change(
                rev=0,
                id=new_id,
                **stored_form(text),
                created_at=now,
                created_by=call.caller.user[:255],
                last_used_at=None,
            )
            await tx.keys.save(_ended(old, now, grace_seconds))
            return _issued(await tx.keys.add(new), text, replaces=old.id)

        return await self._calls.write(call, transaction, KeyIssued)

    async def act_for(self, call: Call, *, team: str | None = None, key_id: str | None = None) -> None:
        """Let the local operator's call act in a team (by id or slug), or in the team of a key.

        Raises Forbidden for every caller but the command line's, and NotFound.
        """
        if call.caller.transport != "cli" or call.caller.key_id is not None:
            raise Forbidden("only the local operator may act in another team", next="Use a key of that team.")

        async def reading(tx: Reading) -> Team:
            if key_id is not None:
                key = await tx.keys.get(key_id)
                found = None if key is None else await tx.teams.get(key.team_id)
            else:
                found = await tx.teams.get(team or call.caller.team_id) or await tx.teams.by_slug(team or "")
            if found is None:
                raise _not_found(team or call.caller.team_id, key_id)
            return found

        found = await self._calls.read(reading)
        call.caller = call.caller.change(team_id=found.id)

    async def create_for(
        self,
        call: Call,
        *,
        team: str,
        name: str,
        role: Role = "member",
        scopes: Sequence[str] = (),
        expires_days: int | None = None,
        rate_limit: int | None = None,
    ) -> KeyIssued:
        """`create` by the local operator in any team."""
        await self.act_for(call, team=team)
        return await self.create(
            call, name=name, role=role, scopes=scopes, expires_days=expires_days, rate_limit=rate_limit
        )

    async def list_for(
        self, call: Call, *, team: str, limit: int = DEFAULT_LIMIT, cursor: str | None = None
    ) -> KeyList:
        """`list` by the local operator of any team."""
        await self.act_for(call, team=team)
        return await self.list(call, limit=limit, cursor=cursor)

    async def revoke_for(self, call: Call, *, key_id: str) -> KeyRevoked:
        """`revoke` by the local operator, whatever team the key is of."""
        await self.act_for(call, key_id=key_id)
        return await self.revoke(call, key_id=key_id)

    async def rotate_for(self, call: Call, *, key_id: str, grace_seconds: int = 0) -> KeyIssued:
        """`rotate` by the local operator, whatever team the key is of."""
        await self.act_for(call, key_id=key_id)
        return await self.rotate(call, key_id=key_id, grace_seconds=grace_seconds)

    def _require_rate_within(self, caller: Caller, rate_limit: int | None) -> None:
        """More than the server's own limit is the operator's to give: on the command line, or as the local owner."""
        most = caller.rate_limit or self._rate_limit
        if caller.key_id is not None and (rate_limit or self._rate_limit) > most:
            raise Forbidden(
                f"a key made with this key has a rate_limit of at most {most}",
                next="The operator can make one with more: 'quaymaster keys create --rate-limit'.",
            )

    async def _require_room(self, tx: Reading, team_id: str) -> None:
        keys = await every(partial(tx.keys.of_team, team_id))
        if sum(key.revoked_at is None for key in keys) >= self._quota:
            raise QuotaExceeded(
                f"the team has {self._quota} keys, the most it may have", next="Revoke one first."
            )

    async def _require_other_owner(self, tx: Reading, caller: Caller, key: ApiKey, now: datetime) -> None:
        if key.role != "owner" or not key.good_at(now) or caller.transport == "cli":
            return
        keys = await every(partial(tx.keys.of_team, key.team_id))
        if not any(other.role == "owner" and other.id != key.id and other.good_at(now) for other in keys):
            raise Conflict(
                "this is the last owner key of the team",
                next="rotate_key replaces it at once; or create another owner key first.",
            )


def _not_found(team: str, key_id: str | None) -> NotFound:
    if key_id is not None:
        return NotFound(
            "no key with that id", next="'quaymaster keys list --team T' shows the keys of a team."
        )
    return NotFound(
        f"no team '{team[:100]}'",
        next="A team is named by its id or its slug. The first start makes the team 'local'; so does "
        "'quaymaster keys create --team local --role owner'.",
    )


def draw_key(prefix: str, team_id: str, role: Role) -> str:
    """The text of a new key; drawn before a transaction, which may run twice."""
    return key_text(prefix, team_id, role, _draw_random())


def _draw_random() -> str:
    return secrets.token_urlsafe(18)  # 24 characters


async def _key_of(tx: Transaction, caller: Caller, key_id: str) -> ApiKey:
    key = await tx.keys.hold(key_id)
    if key is None or key.team_id != caller.team_id:
        raise NotFound("no such key in this team", next="list_keys shows the keys of the team.")
    return key


def _require_not_above(caller: Caller, key: ApiKey) -> None:
    """Scopes do not matter here: whoever may revoke keys may take away any power up to the own role."""
    require_within(caller.change(scopes=()), key.role)


def _ended(key: ApiKey, now: datetime, grace_seconds: int) -> ApiKey:
    if grace_seconds == 0:
        return key.change(revoked_at=now)
    end = now + timedelta(seconds=grace_seconds)
    return key.change(expires_at=end if key.expires_at is None else min(end, key.expires_at))


def _issued(key: ApiKey, text: str, *, replaces: str | None = None) -> KeyIssued:
    return KeyIssued(
        id=key.id,
        team_id=key.team_id,
        name=key.name,
        role=key.role,
        scopes=key.scopes,
        expires_at=key.expires_at,
        replaces=replaces,
        key=text,
    )


def _item(key: ApiKey, now: datetime) -> KeyItem:
    return KeyItem(
        id=key.id,
        name=key.name,
        role=key.role,
        prefix=key.key_prefix,
        state="revoked" if key.revoked_at else "good" if key.good_at(now) else "expired",
        scopes=key.scopes,
        rate_limit=key.rate_limit,
        created_at=key.created_at,
        created_by=key.created_by,
        last_used_at=key.last_used_at,
        expires_at=key.expires_at,
    )
