"""An application with two databases. Any ASGI server runs it; no framework is needed.

psql postgresql://... -c "CREATE TABLE orders (id serial PRIMARY KEY, item text)"
sqlite3 /data/log.db "CREATE TABLE events (what text)"
export RDS_SHOP_URL=postgresql://... RDS_LOG_URL=file:/data/log.db
uvicorn examples.asgi_app:app

curl localhost:8000/                 how many orders there are
curl -X POST localhost:8000/book     one more
curl -i localhost:8000/health/db     stop PostgreSQL and see 503 with Retry-After, here and above
"""

from __future__ import annotations

import json
import logging
from typing import Any

from mcp_server.databases import Databases, DatabasesError, DatabasesMiddleware

Header = tuple[bytes, bytes]
RETRY: tuple[Header, ...] = ((b"retry-after", b"30"),)
log = logging.getLogger("shop")
databases = Databases(["shop", "log"])  # opens nothing yet; the URLs come from RDS_SHOP_URL and RDS_LOG_URL


async def shop(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    try:
        if scope["method"] == "POST":
            await buy(scope["path"].strip("/"))
            await answer(send, 201, {"bought": scope["path"].strip("/")})
        else:
            await answer(
                send, 200, {"orders": await orders(), "databases": scope["state"]["databases_health"]}
            )
    except DatabasesError as error:  # it went away after the check
        await answer(send, 503, {"error": str(error)}, RETRY)
    except TimeoutError:  # it fell silent after the check; what was sent may have happened
        await answer(send, 503, {"error": "no answer in time"}, RETRY)


async def orders() -> int:
    client = await databases.client("shop")
    rows = await client.read("SELECT count(*) AS n FROM orders")  # sent again when the connection is lost
    return int(rows[0]["n"])


async def buy(item: str) -> None:
    client = await databases.client("shop")
    async with client.transaction() as transaction:  # never repeated
        await transaction.execute("INSERT INTO orders (item) VALUES ($1)", item)
    await databases.client_sync("log").execute("INSERT INTO events (what) VALUES (?)", f"bought {item}")


async def answer(send: Any, status: int, body: dict[str, Any], more: tuple[Header, ...] = ()) -> None:
    headers = [(b"content-type", b"application/json"), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def tell_the_operator(name: str, error: BaseException) -> None:
    log.warning("database %s is away (%s)", name, type(error).__name__)


app = DatabasesMiddleware(
    shop,
    databases,
    ["shop"],  # the log may be away: an order is more important
    continue_on_failure=False,
    check_interval=15,
    on_error=tell_the_operator,
    on_reconnect=lambda name: log.warning("database %s is back", name),
)
