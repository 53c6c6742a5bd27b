"""What must hold between any two calls: records, containers, ports and the proxy say the same."""

from __future__ import annotations

from typing import Any

import anyio

from mcp_server.ports.store import Reading
from tests.deployments.conftest import Harbour
from tests.tools.desk import Desk


async def at_rest(desk: Desk, harbour: Harbour, environment: str = "staging") -> dict[str, Any]:
    """The status once nobody is at work; settled by the server itself, within seconds."""
    with anyio.fail_after(40):
        while True:
            status = await desk.done("slot_status", {"project": harbour.project, "environment": environment})
            if status["at_work"] is None:
                return dict(status)
            await anyio.sleep(0.1)


async def told_truly(desk: Desk, harbour: Harbour, environment: str = "staging") -> dict[str, Any]:
    """The status, after everything was compared with what is."""
    status = await at_rest(desk, harbour, environment)
    await desk.house.hosting.recover()
    status = await at_rest(desk, harbour, environment)
    states = [status[slot]["state"] for slot in ("blue", "green")]
    assert states.count("active") <= 1
    filled = {slot for slot in ("blue", "green") if status[slot]["state"] != "empty"}
    expected = {
        f"quaymaster-{harbour.project}-{environment}-{slot}": status[slot]["deployment"] for slot in filled
    }
    found = {
        name: one["Labels"]["quaymaster.deployment"]
        for name, one in harbour.containers().items()
        if f"-{environment}-" in name
    }
    assert found == expected, "a container is missing, or an orphan is left"
    assert await ports(desk) == {status[slot]["port"] for slot in filled}
    if status["active"]:
        active = status[status["active"]]
        assert active["health"] == "healthy", active
        answered = harbour.ask(environment=environment)
        assert answered.status == 200, answered
        assert answered.body.split()[0] == active["version"]
    else:
        assert harbour.ask(environment=environment).status == 404
    assert not [one for one in status["warnings"] if "proxy sends" in one or "not" in one.split()], status
    return status


async def ports(desk: Desk) -> set[int]:
    async def look(tx: Reading) -> set[int]:
        given = await tx.ports.of_host(desk.house.hosting.site.host)
        return {one.port for one in given if one.purpose == "slot"}

    return await desk.house.store.read(look)
