"""`serve` and `stdio`."""

from __future__ import annotations

from argparse import Namespace

from mcp_server.cli.context import OK, Context
from mcp_server.cli.parsing import Commands, port_number, words


def add(commands: Commands) -> None:
    serve = commands.add_parser("serve", help="serve MCP over HTTP at /mcp, with /health and /metrics")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=port_number, default=8787, help="0 chooses one (default: %(default)s)")
    serve.add_argument("--allow-remote", action="store_true", help="listen on another address than loopback")
    serve.set_defaults(run=run_serve)
    stdio = commands.add_parser("stdio", help="serve one MCP client over stdin and stdout")
    stdio.set_defaults(run=run_stdio)
    for each in (serve, stdio):
        each.add_argument("--toolsets", type=words, default=(), help="such as work,projects or all")


async def run_serve(chosen: Namespace, context: Context) -> int:
    await context.root.serve_http(
        context.settings,
        host=chosen.host,
        port=chosen.port,
        toolsets=chosen.toolsets,
        allow_remote=chosen.allow_remote,
    )
    return OK


async def run_stdio(chosen: Namespace, context: Context) -> int:
    await context.root.serve_stdio(context.settings, chosen.toolsets)
    return OK
