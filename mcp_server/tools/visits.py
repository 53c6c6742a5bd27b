"""Who is at the door in this request, and which toolsets they asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from mcp_server.domain.callers import Caller
from mcp_server.domain.errors import Unauthenticated
from mcp_server.domain.grants import may
from mcp_server.tools.catalogue import Tool
from mcp_server.tools.toolsets import shows


@dataclass(frozen=True, slots=True)
class Visit:
    """`identify` asks again who the caller is, where one visit outlasts many calls: keys are revoked."""

    caller: Caller
    toolsets: frozenset[str]
    identify: Callable[[], Awaitable[Caller]] | None = None

    async def present(self) -> Visit:
        """The visit with its caller as of now. Raises Unauthenticated when the key is no longer good."""
        return self if self.identify is None else replace(self, caller=await self.identify())

    def sees(self, tool: Tool) -> bool:
        """Whether the toolsets show the tool and the caller may call it."""
        return shows(self.toolsets, tool.toolset, default=tool.default) and may(self.caller, tool.name)


class Door:
    """The visit of the running request: set once for a process on stdio, for each request over HTTP."""

    def __init__(self) -> None:
        self._visit: ContextVar[Visit | None] = ContextVar("visit", default=None)

    @contextmanager
    def open_for(self, visit: Visit) -> Iterator[None]:
        """Everything that is started inside belongs to this visit."""
        token = self._visit.set(visit)
        try:
            yield
        finally:
            self._visit.reset(token)

    def visit(self) -> Visit:
        """Raises Unauthenticated when nobody was let in."""
        visit = self._visit.get()
        if visit is None:
            raise Unauthenticated("this request came without an identity")
        return visit
