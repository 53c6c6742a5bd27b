"""How the server says that it is: parts, one word for all, and nothing private without a key."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import anyio
import pytest

from mcp_server.domain.errors import Unavailable
from mcp_server.ports.health import PartState
from mcp_server.ports.store import Store, StoreStatus
from mcp_server.services.calls import Call
from mcp_server.services.status import Status
from tests.usecases.world import START, World


@dataclass
class Part:
    name: str
    state: PartState | Exception | None = None
    vital: bool = False

    async def check(self) -> PartState:
        if self.state is None:
            await anyio.sleep_forever()
        if isinstance(self.state, Exception):
            raise self.state
        assert self.state is not None
        return self.state


@dataclass
class Said:
    """A store that only says how it is."""

    state: StoreStatus

    async def status(self) -> StoreStatus:
        return self.state


def _status(world: World, parts: Sequence[Part] = (), store: StoreStatus | None = None) -> Status:
    said = cast("Store", Said(store)) if store is not None else world.store
    return Status(
        said,
        world.cache,
        world.trail,
        version="1.2.3",
        toolsets=("work",),
        hidden_toolsets=("audit",),
        parts=parts,
    )


async def test_an_embedded_server_is_healthy_without_postgresql(world: World):
    health = await world.status.health()
    assert (health.status, health.mode, health.version) == ("healthy", "embedded", "1.2.3")
    assert {part.name: part.condition for part in health.parts} == {
        "registry": "healthy",
        "postgresql": "off",
        "cache": "healthy",
        "trail": "healthy",
    }


@pytest.mark.parametrize(
    ("store", "overall", "registry", "postgresql"),
    [
        (StoreStatus("primary", True, START), "healthy", "healthy", "healthy"),
        (StoreStatus("primary", False, START), "degraded", "degraded", "healthy"),
        (StoreStatus("degraded", False, START, pending=3), "degraded", "healthy", "unhealthy"),
        (StoreStatus("replaying", False, START, pending=3), "degraded", "healthy", "degraded"),
        (StoreStatus("degraded", False, None), "unhealthy", "unhealthy", "degraded"),
        (StoreStatus("embedded", False, START), "unhealthy", "unhealthy", "off"),
    ],
)
async def test_the_state_of_the_store_is_that_of_its_two_parts(
    world: World, store: StoreStatus, overall: str, registry: str, postgresql: str
):
    health = await _status(world, store=store).health()
    conditions = {part.name: part.condition for part in health.parts}
    assert (health.status, conditions["registry"], conditions["postgresql"]) == (
        overall,
        registry,
        postgresql,
    )
    assert (health.pending, health.since) == (store.pending, store.since)


@pytest.mark.parametrize(
    ("part", "condition", "overall"),
    [
        (Part("docker", PartState("healthy")), "healthy", "healthy"),
        (Part("docker", PartState("off")), "off", "healthy"),
        (Part("docker", PartState("degraded")), "degraded", "degraded"),
        (Part("docker", PartState("unhealthy")), "unhealthy", "degraded"),
        (Part("docker", PartState("unhealthy"), vital=True), "unhealthy", "unhealthy"),
        (Part("docker", ZeroDivisionError("private text")), "unhealthy", "degraded"),
        (Part("docker", None), "unhealthy", "degraded"),
    ],
)
async def test_a_part_may_be_away_raise_or_hang_and_the_answer_comes(
    world: World, part: Part, condition: str, overall: str
):
    with anyio.fail_after(5):
        health = await _status(world, [part]).health()
    assert next(view.condition for view in health.parts if view.name == "docker") == condition
    assert health.status == overall
    assert "private text" not in health.model_dump_json()


async def test_hanging_parts_are_waited_for_at_the_same_time(world: World):
    with anyio.fail_after(2.5):
        health = await _status(world, [Part(f"p{at}") for at in range(5)]).health()
    assert health.status == "degraded"


async def test_reasons_and_gauges_are_for_callers_with_a_key_and_the_owner_of_the_home(world: World):
    store = StoreStatus("degraded", False, START, reason="no route to 10.0.0.9", gauges={"pool_idle": 2})
    status = _status(world, store=store)
    assert "10.0.0.9" not in (await status.health()).model_dump_json()
    assert "10.0.0.9" in (await status.health(reasons=True)).model_dump_json()
    call = Call(caller=world.caller("viewer"), action="infrastructure_status")
    full = await world.calls.perform(call, lambda: status.infrastructure_status(call))
    assert (full.reason, full.gauges, full.alone) == ("no route to 10.0.0.9", {"pool_idle": 2}, True)
    assert (full.toolsets, full.hidden_toolsets) == (("work",), ("audit",))
    assert next(part.reason for part in full.parts if part.name == "postgresql") == "no route to 10.0.0.9"


async def test_a_trail_that_cannot_write_is_seen(world: World, monkeypatch: pytest.MonkeyPatch):
    async def refuse(*_: Any) -> None:
        raise Unavailable("the disk is full")

    await world.do(world.caller(), "get_team")
    monkeypatch.setattr(world.store, "record", refuse)
    await world.trail.flush()
    health = await world.status.health()
    assert health.status == "degraded"
    full = await world.do(world.caller(), "infrastructure_status")
    assert full.audit_waiting >= 1
    assert "disk is full" in next(part.reason for part in full.parts if part.name == "trail")


async def test_rows_that_wait_are_told_in_the_log_once(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async def refuse(*_: Any) -> None:
        raise Unavailable("the disk is full")

    with caplog.at_level("INFO", "mcp_server.services.trail"):
        await world.do(world.caller(), "get_team")
        with monkeypatch.context() as patch:
            patch.setattr(world.store, "record", refuse)
            for _ in range(3):
                await world.trail.flush()
        for _ in range(2):
            await world.trail.flush()
    assert [record.getMessage() for record in caplog.records] == [
        "audit rows wait: the disk is full",
        "audit rows are written again",
    ]
