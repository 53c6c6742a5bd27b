"""People of a team and their roles."""

from __future__ import annotations

from functools import partial

from mcp_server.domain.callers import Caller
from mcp_server.domain.errors import Conflict, NotFound, QuotaExceeded
from mcp_server.domain.grants import require_within
from mcp_server.domain.members import Member
from mcp_server.domain.pages import DEFAULT_LIMIT
from mcp_server.domain.records import Moment, Value
from mcp_server.domain.results import Result
from mcp_server.domain.roles import Role
from mcp_server.domain.validation import checked
from mcp_server.ports.store import Reading, Transaction
from mcp_server.services.access import team_of
from mcp_server.services.calls import Call, Calls
from mcp_server.services.pages import every, page_size


class MemberView(Result):
    id: str
    email: str
    name: str | None = None
    role: Role
    joined_at: Moment


class MemberItem(Value):
    id: str
    email: str
    name: str | None = None
    role: Role
    joined_at: Moment
    last_active_at: Moment | None = None


class MemberList(Result):
    items: tuple[MemberItem, ...]
    cursor: str | None = None


class MemberRemoved(Result):
    id: str
    email: str


class Members:
    """`quota` is the most members of a team. Nobody gives or takes away a role above the own one."""

    def __init__(self, calls: Calls, *, quota: int = 200) -> None:
        self._calls = calls
        self._quota = quota

    async def add(
        self, call: Call, *, email: str, name: str | None = None, role: Role = "member"
    ) -> MemberView:
        """Make somebody a member.

        Raises Forbidden, Conflict when the address is one already, and QuotaExceeded.
        """
        _require_role(call.caller, role)
        member_id = call.new_id("m")
        call.about("members", member_id)
        address = email.strip().lower()

        async def transaction(tx: Transaction) -> MemberView:
            await team_of(tx, call.caller, hold=True)
            present = await every(partial(tx.members.of_team, call.caller.team_id))
            if any(member.email == address for member in present):
                raise Conflict("this address is already a member", next="update_member changes the role.")
            if len(present) >= self._quota:
                raise QuotaExceeded(f"the team has {self._quota} members, the most it may have")
            member = checked(
                Member,
                {
                    "id": member_id,
                    "team_id": call.caller.team_id,
                    "email": address,
                    "name": name,
                    "role": role,
                    "invited_by": call.caller.user[:255],
                    "joined_at": await tx.now(),
                },
            )
            return _view(await tx.members.add(member))

        return await self._calls.write(call, transaction, MemberView)

    async def list(self, call: Call, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> MemberList:
        """The members of the caller's team by id."""
        size = page_size(limit)

        async def reading(tx: Reading) -> MemberList:
            page = await tx.members.of_team(call.caller.team_id, limit=size, after=cursor)
            return MemberList(items=tuple(_item(member) for member in page.items), cursor=page.cursor)

        return await self._calls.read(reading)

    async def update(self, call: Call, *, member_id: str, role: Role) -> MemberView:
        """Give a member another role.

        Raises Forbidden above the own role, and Conflict for the last owner.
        """
        call.about("members", member_id)
        _require_role(call.caller, role)

        async def transaction(tx: Transaction) -> MemberView:
            await team_of(tx, call.caller, hold=True)
            member = await _member_of(tx, call.caller, member_id)
            _require_role(call.caller, member.role)
            if member.role == role:
                return _view(member)
            await _require_other_owner(tx, member)
            return _view(await tx.members.save(member.change(role=role)))

        return await self._calls.write(call, transaction, MemberView)

    async def remove(self, call: Call, *, member_id: str) -> MemberRemoved:
        """Take somebody out of the team. Keys stay: revoke_key ends them.

        Raises Forbidden for a member above the own role, and Conflict for the last owner.
        """
        call.about("members", member_id)

        async def transaction(tx: Transaction) -> MemberRemoved:
            await team_of(tx, call.caller, hold=True)
            member = await _member_of(tx, call.caller, member_id)
            _require_role(call.caller, member.role)
            await _require_other_owner(tx, member)
            await tx.members.remove(member)
            return MemberRemoved(id=member.id, email=member.email)

        return await self._calls.write(call, transaction, MemberRemoved)


def _require_role(caller: Caller, role: Role) -> None:
    """Scopes narrow which tools a key reaches, not which people it may name."""
    require_within(caller.change(scopes=()), role)


async def _member_of(tx: Transaction, caller: Caller, member_id: str) -> Member:
    member = await tx.members.hold(member_id)
    if member is None or member.team_id != caller.team_id:
        raise NotFound("no such member in this team", next="list_members shows the members of the team.")
    return member


async def _require_other_owner(tx: Reading, member: Member) -> None:
    """Read under the held team, so that two owners cannot leave at the same time."""
    if member.role != "owner":
        return
    members = await every(partial(tx.members.of_team, member.team_id))
    if not any(other.role == "owner" and other.id != member.id for other in members):
        raise Conflict("this is the last owner of the team", next="Make somebody else an owner first.")


def _view(member: Member) -> MemberView:
    return MemberView(
        id=member.id, email=member.email, name=member.name, role=member.role, joined_at=member.joined_at
    )


def _item(member: Member) -> MemberItem:
    return MemberItem(
        id=member.id,
        email=member.email,
        name=member.name,
        role=member.role,
        joined_at=member.joined_at,
        last_active_at=member.last_active_at,
    )
