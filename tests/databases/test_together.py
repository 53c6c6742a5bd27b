"""Steps side by side end together, with the error that one of them would have had alone."""

from __future__ import annotations

import anyio
import pytest

from mcp_server.domain.errors import Conflict, QuaymasterError, Unavailable
from mcp_server.services.databases.together import Together


async def refuse() -> None:
    raise Conflict("no")


async def test_a_refusal_lets_the_others_end_and_is_raised_as_it_is() -> None:
    ended: list[str] = []

    async def slow() -> None:
        await anyio.sleep(0.05)
        ended.append("slow")

    async def all_of_them() -> None:
        async with Together() as beside:
            beside.begin(slow)
            beside.begin(refuse)
            ended.append("block")

    with pytest.raises(Conflict, match="no"):
        await all_of_them()
    assert ended == ["block", "slow"]


async def test_the_blocks_own_refusal_comes_after_the_others_ended() -> None:
    ended: list[str] = []

    async def slow() -> None:
        await anyio.sleep(0.05)
        ended.append("slow")

    async def both() -> None:
        async with Together() as beside:
            beside.begin(slow)
            raise Unavailable("gone")

    with pytest.raises(Unavailable):
        await both()
    assert ended == ["slow"]


async def test_within_another_a_refusal_is_one_error_and_no_group() -> None:
    async def both() -> None:
        async with Together() as inner:
            inner.begin(refuse)

    async def outer() -> None:
        async with Together() as around:
            around.begin(both)

    with pytest.raises(QuaymasterError, match="no"):
        await outer()


async def test_a_caller_that_goes_away_ends_all_of_them() -> None:
    with anyio.move_on_after(0.05) as scope:
        async with Together() as beside:
            beside.begin(anyio.sleep_forever)
            await anyio.sleep_forever()
    assert scope.cancelled_caught
