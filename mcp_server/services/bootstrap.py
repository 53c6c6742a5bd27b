"""The first start on an empty store."""

from __future__ import annotations

from mcp_server.domain.errors import Conflict
from mcp_server.domain.keys import ApiKey, stored_form
from mcp_server.domain.results import Result
from mcp_server.domain.teams import Team
from mcp_server.ports.store import Reading, Transaction
from mcp_server.services.calls import Call, Calls
from mcp_server.services.keys import draw_key
from mcp_server.services.signin import local_owner
from mcp_server.services.teams import LOCAL


class _Made(Result):
    made: bool


class Bootstrap:
    """`prefix` begins the text of the key."""

    def __init__(self, calls: Calls, *, prefix: str = "qm") -> None:
        self._calls = calls
        self._prefix = prefix

    async def run(self, user: str, *, with_key: bool) -> str | None:
        """Make the team `local` where the store has no team at all; otherwise do nothing.

        With `with_key` it gets an owner key, whose text is returned this once: ask for one only where it can
        be shown. Of many processes that start at the same time one makes the team, and only that one returns
        a key.
        """
        if not await self._calls.read(_empty):
            return None
        call = Call(caller=local_owner(user, transport="cli"), action="create_team")
        call.about("teams", LOCAL)
        text = draw_key(self._prefix, LOCAL, "owner") if with_key else None
        key_id = call.new_id("k")

        async def transaction(tx: Transaction) -> _Made:
            if not await _empty(tx):
                return _Made(made=False)
            now = await tx.now()
            await tx.teams.add(
                Team(id=LOCAL, name="Local", slug=LOCAL, owner=user[:255], created_at=now, updated_at=now)
            )
            if text is not None:
                await tx.keys.add(
                    ApiKey(
                        id=key_id,
                        **stored_form(text),
                        name="first owner key",
                        team_id=LOCAL,
                        role="owner",
                        created_at=now,
                        created_by=user[:255],
                    )
                )
            return _Made(made=True)

        try:
            result = await self._calls.perform(call, lambda: self._calls.write(call, transaction, _Made))
        except Conflict:
            if await self._calls.read(_empty):
                raise
            return None  # another process was first
        return text if result.made else None


async def _empty(tx: Reading) -> bool:
    return not (await tx.teams.list(limit=1)).items
