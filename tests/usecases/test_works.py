"""Work outlives the call that began it; whoever follows it hears what it says and how it ended."""

from __future__ import annotations

import anyio
import pytest

from mcp_server.domain.errors import Conflict, Unavailable
from mcp_server.services.works import KEPT, Work, Works


@pytest.fixture
def works() -> Works:
    return Works()


class Ear:
    def __init__(self) -> None:
        self.heard: list[str] = []

    async def tell(self, line: str) -> None:
        self.heard.append(line)


async def test_no_word_is_missed_however_quickly_they_come(works: Works) -> None:
    async def body(work: Work) -> None:
        for word in ("pulling", "starting", "starting", "ready"):
            await work.tell(word)

    ear = Ear()
    async with works.open():
        assert await works.begin("a", body).follow(5, ear.tell)
    assert ear.heard == ["pulling", "starting", "ready"]


async def test_who_comes_late_hears_the_newest_word_and_what_comes_after(works: Works) -> None:
    go_on = anyio.Event()

    async def body(work: Work) -> None:
        for word in ("one", "two"):
            await work.tell(word)
        await go_on.wait()
        await work.tell("three")

    ear = Ear()
    async with works.open():
        work = works.begin("a", body)
        assert not await work.follow(0.05)
        assert works.begin("a", body) is work
        go_on.set()
        assert await work.follow(5, ear.tell)
    assert ear.heard == ["two", "three"]


async def test_a_slow_listener_holds_nothing_up_and_hears_the_newest_words(works: Works) -> None:
    heard: list[str] = []

    async def body(work: Work) -> None:
        for number in range(10 * KEPT):
            await work.tell(str(number))

    async def slowly(line: str) -> None:
        heard.append(line)

    async with works.open():
        assert await works.begin("a", body).follow(5, slowly)
    assert heard == [str(number) for number in range(9 * KEPT, 10 * KEPT)]


async def test_each_caller_gets_the_failure_as_an_error_of_its_own(works: Works) -> None:
    async def body(work: Work) -> None:
        raise Conflict("taken", next="Choose another.", owner="foreign")

    async with works.open():
        work = works.begin("a", body)
        assert await work.follow(5)
    first, second = work.failed(), work.failed()
    assert isinstance(first, Conflict)
    assert isinstance(second, Conflict)
    assert first is not second
    assert (first.message, first.next, first.details) == ("taken", "Choose another.", {"owner": "foreign"})


async def test_what_nobody_foresaw_ends_its_own_work_only(works: Works) -> None:
    async def wrong(work: Work) -> None:
        raise ZeroDivisionError

    async def right(work: Work) -> None:
        await work.tell("done")

    async with works.open():
        broken, whole = works.begin("a", wrong), works.begin("b", right)
        assert await broken.follow(5)
        assert await whole.follow(5)
    assert isinstance(broken.failed(), Unavailable)
    assert whole.failed() is None


async def test_when_the_server_stops_work_tidies_up_and_says_so(works: Works) -> None:
    tidied = False

    async def body(work: Work) -> None:
        nonlocal tidied
        try:
            await anyio.sleep_forever()
        finally:
            tidied = True

    async with works.open():
        work = works.begin("a", body)
        assert not await work.follow(0.01)
    assert tidied
    assert isinstance(work.failed(), Unavailable)
    with pytest.raises(Unavailable):
        works.begin("b", body)
