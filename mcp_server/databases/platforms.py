"""Whether this process runs on a serverless platform: only the platform's own variables say so.

A variable that says `production` says nothing about the platform: a long-running server in production must
not be taken for a function, or one dead database would make all of its routes fail.
"""

from __future__ import annotations

from collections.abc import Mapping

SERVERLESS_VARIABLES = (
    "AWS_LAMBDA_FUNCTION_NAME",
    "VERCEL",
    "FUNCTIONS_WORKER_RUNTIME",
    "FUNCTIONS_WORKER",
    "FUNCTION_TARGET",
)
SERVERLESS_INTERVAL = 15.0
SERVER_INTERVAL = 60.0


def is_serverless(environ: Mapping[str, str]) -> bool:
    return any(environ.get(name) for name in SERVERLESS_VARIABLES)


def check_interval(environ: Mapping[str, str]) -> float:
    """Seconds for which a good check holds."""
    return SERVERLESS_INTERVAL if is_serverless(environ) else SERVER_INTERVAL
