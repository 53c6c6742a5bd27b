"""Who calls: the identity behind a call, and who holds a lock that it takes."""

from __future__ import annotations

from typing import Literal

from mcp_server.domain.records import Value
from mcp_server.domain.roles import Role

Transport = Literal["http", "stdio", "cli"]


class Caller(Value):
    """The caller of one call, taken from the key record or the local owner, never from an argument.

    `key_id` is None for the local operating-system user on the embedded store. `process` names the server process on
    stdio. `scopes` empty means all that the role may do.
    """

    team_id: str
    role: Role
    user: str
    key_id: str | None = None
    scopes: tuple[str, ...] = ()
    rate_limit: int | None = None
    transport: Transport = "cli"
    process: str | None = None
    address: str | None = None
    user_agent: str | None = None

    @property
    def id(self) -> str:
        """The caller's stable name: the key, or the local user."""
        return self.key_id or f"local-{self.user}"


def holder_of(caller: Caller, task_id: str | None = None, agent: str | None = None) -> str:
    """Who holds the locks of this call: the key with its task or agent, on stdio without either its process.

    >>> holder_of(Caller(team_id="t", role="member", user="u", key_id="k1"), agent="ann")
    'k1/agent:ann'
    """
    if task_id is not None:
        return f"{caller.id}/task:{task_id}"
    if agent is not None:
        return f"{caller.id}/agent:{agent}"
    if caller.transport == "stdio" and caller.process is not None:
        return f"{caller.id}/process:{caller.process}"
    return caller.id
