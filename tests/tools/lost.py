"""Callers that go away at the worst moment."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest

from mcp_server.adapters.postgres import primary
from tests.tools.desk import Desk


async def lost_in_the_commit(desk: Desk, tool: str, **arguments: object) -> None:
    """The call is made, and its caller goes away when PostgreSQL has committed it, before that is known here."""
    transact = primary._transact
    with anyio.CancelScope() as caller, pytest.MonkeyPatch.context() as meanwhile:

        async def cut(*given: Any) -> Any:
            meanwhile.undo()
            logged = await transact(*given)
            caller.cancel()
            await anyio.lowlevel.checkpoint()
            return logged

        meanwhile.setattr(primary, "_transact", cut)
        await desk.call(tool, arguments)
    assert caller.cancelled_caught
