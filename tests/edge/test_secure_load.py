"""The load over TLS sees what it is there to see: what a proxy that ends in the middle of it loses."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Callable

from tests.edge.conftest import Stage
from tests.services.edge_load import Load

ROUTE, HOST = "app.production", "app.quay.test"


async def test_a_proxy_that_ends_loses_requests_of_every_kind_of_connection_and_one_that_stays_none(
    make_stage: Callable[..., Stage],
) -> None:
    stage = make_stage(tls="internal")
    await stage.edge.ensure()
    await stage.edge.attach(HOST, ROUTE)
    await stage.edge.point(ROUTE, "blue", stage.target("blue"))
    await stage.edge.allow_tls(HOST)
    assert (await stage.edge.probe(HOST))[0].status == 200
    root = stage.root.parent / "storage" / "pki" / "authorities" / "local" / "root.crt"
    load = Load(stage.door.https_port, ssl.create_default_context(cafile=str(root)))
    clients = [
        asyncio.create_task(one)
        for one in (load.multiplexed(HOST, streams=3), load.keep_alive(HOST), load.websocket(HOST))
    ]
    await load.more_answers(50)
    assert (load.lost, load.streamed > 0, load.echoes > 0) == ([], True, True)
    stage.caddy.stop(signal.SIGKILL)
    async with asyncio.timeout(30):
        await asyncio.gather(*clients)
    kinds = sorted(one.split()[1].rstrip(":") for one in load.lost)
    assert kinds == ["HTTP/2", "HTTP/2", "HTTP/2", "keep-alive", "websocket"]
